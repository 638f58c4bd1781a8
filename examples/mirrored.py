"""A small regression with TensorFlow's MultiWorkerMirroredStrategy, as `examples/mirrored.toml` runs it.

Every task runs this file; TF_CONFIG says what it is. Chief and workers train together; the evaluator reads the chief's
checkpoints, says how good each is, and ends with the last one. Each step's batch is a function of the step alone, so a gang
that was started again goes on with the same numbers.
"""

import json
import os
import pathlib
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf

STEPS = int(os.environ.get("STEPS", "300"))
PAUSE_S = float(os.environ.get("PAUSE_MS", "0")) / 1000
BATCH = 64
CHECKPOINT_STEPS = 20
TASK = json.loads(os.environ["TF_CONFIG"])["task"]
FOLDER = pathlib.Path(os.environ["CHECKPOINTS"])


def rows(seed, count):
    x = np.random.default_rng(seed).random((count, 8), dtype=np.float32)
    return x, (x[:, :4].sum(1) - x[:, 4:].prod(1)).reshape(-1, 1)


class Network(tf.Module):
    def __init__(self):
        super().__init__()
        initial = np.random.default_rng(1).normal(size=(8, 32)).astype(np.float32)
        self.hidden = tf.Variable(initial / 3)
        self.bias = tf.Variable(tf.zeros(32))
        self.out = tf.Variable(np.full((32, 1), 0.02, np.float32))

    def __call__(self, x):
        return tf.nn.relu(x @ self.hidden + self.bias) @ self.out


def checkpoints(network, step, folder):
    checkpoint = tf.train.Checkpoint(network=network, step=step)
    return checkpoint, tf.train.CheckpointManager(checkpoint, str(folder), max_to_keep=3)


def train():
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    world = strategy.num_replicas_in_sync
    # The chief is first, if there is one; else the first worker is.
    behind_chief = TASK["type"] == "worker" and "chief" in strategy.cluster_resolver.cluster_spec().jobs
    place = TASK["index"] + int(behind_chief)
    with strategy.scope():
        network, step = Network(), tf.Variable(0, dtype=tf.int64)
    # Every task takes part in writing a checkpoint; only the chief's is kept.
    is_chief = place == 0
    checkpoint, manager = checkpoints(network, step, FOLDER if is_chief else tempfile.mkdtemp())
    newest = tf.train.latest_checkpoint(str(FOLDER))
    if newest:
        checkpoint.restore(newest)
    print(f"{TASK['type']} {TASK['index']} of {world} from step {step.numpy()} of {STEPS}", flush=True)

    @tf.function
    def one_step(x, y):
        def replica(x, y):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(network(x) - y))
            variables = network.trainable_variables
            gradients = tape.gradient(loss, variables)
            gradients = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
            for variable, gradient in zip(variables, gradients):
                variable.assign_sub(0.1 * gradient)
            return loss

        return strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(replica, (x, y)), axis=None)

    loss = None
    for number in range(int(step.numpy()), STEPS):
        x, y = rows(number, BATCH)
        loss = one_step(tf.constant(x[place::world]), tf.constant(y[place::world]))
        if (number + 1) % CHECKPOINT_STEPS == 0:
            step.assign(number + 1)
            manager.save(checkpoint_number=number + 1)
            if is_chief:
                print(f"step {number + 1}: loss {float(loss):.5f}", flush=True)
            time.sleep(PAUSE_S)
    total = sum(float(tf.reduce_sum(tf.cast(variable, tf.float64))) for variable in network.trainable_variables)
    print(f"{TASK['type']} {TASK['index']} ends: weights {total:.6f}", flush=True)


def evaluate():
    network, step = Network(), tf.Variable(0, dtype=tf.int64)
    checkpoint = tf.train.Checkpoint(network=network, step=step)
    x, y = rows(10**6, 512)
    seen = None
    while step.numpy() < STEPS:
        newest = tf.train.latest_checkpoint(str(FOLDER))
        if newest == seen:
            time.sleep(0.2)
            continue
        seen = newest
        try:
            checkpoint.restore(newest).expect_partial()
        except (tf.errors.NotFoundError, tf.errors.DataLossError):
            continue  # it was removed meanwhile, as older ones are
        loss = float(tf.reduce_mean(tf.square(network(x) - y)))
        print(f"evaluated step {step.numpy()}: loss {loss:.5f}", flush=True)


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    evaluate() if TASK["type"] == "evaluator" else train()
