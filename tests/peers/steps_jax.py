"""Milliseconds per training step in JAX, of those workloads in jobs/training/src/workloads.rs that it is quickest at.

python steps_jax.py THREADS [NAME ...] prints a JSON object from name to milliseconds: the median of 7 blocks. XLA takes as
many threads as the process may use, so the process is held to THREADS processors.
"""

import json
import math
import os
import sys
import time

os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[1])])

import jax
import jax.numpy as jnp
import numpy as np

BATCHES, BLOCKS, BLOCK_SECONDS = 16, 7, 0.25
RNG = np.random.default_rng(1)


def median(run):
    def block(steps):
        started = time.perf_counter()
        for step in range(steps):
            run(step % BATCHES)
        return time.perf_counter() - started

    block(3)
    one = block(5) / 5
    steps = max(3, math.ceil(BLOCK_SECONDS / one))
    return sorted(block(steps) * 1e3 / steps for _ in range(BLOCKS))[BLOCKS // 2]


def training(loss, params, batches, update, state):
    @jax.jit
    def step(params, state, *batch):
        return update(params, jax.grad(loss)(params, *batch), state)

    step = jax.jit(step, donate_argnums=(0, 1))
    held = {"params": params, "state": state}

    def run(index):
        held["params"], held["state"] = step(held["params"], held["state"], *batches[index])
        jax.block_until_ready(held["params"])

    return run


def sgd(params, gradients, state):
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradients), state


def adagrad(params, gradients, state):
    state = jax.tree.map(lambda n, g: n + g * g, state, gradients)
    move = lambda p, g, n: p - 0.1 * g / (jnp.sqrt(n) + 1e-10)
    return jax.tree.map(move, params, gradients, state), state


def adam(decay):
    def update(params, gradients, state):
        count, first, second = state
        count = count + 1
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)
        rate, root = 1e-3 / (1 - 0.9**count), 1 / jnp.sqrt(1 - 0.999**count)
        keep = 1 - 1e-3 * decay
        move = lambda p, m, v: keep * p - rate * m / (jnp.sqrt(v) * root + 1e-8)
        return jax.tree.map(move, params, first, second), (count, first, second)

    return update


def zeros(params):
    return jax.tree.map(jnp.zeros_like, params)


def normal(*dims):
    return jnp.asarray(RNG.normal(0, 0.05, dims).astype(np.float32))


def fields(buckets, batch=1024):
    return [
        (
            jnp.asarray(RNG.integers(0, buckets, (batch, 26)).astype(np.int32)),
            jnp.asarray(RNG.uniform(-1, 1, (batch, 13)).astype(np.float32)),
            jnp.asarray(RNG.integers(0, 2, batch).astype(np.float32)),
        )
        for _ in range(BATCHES)
    ]


def binary(logits, labels):
    return jnp.mean(jnp.maximum(logits, 0) - logits * labels + jnp.log1p(jnp.exp(-jnp.abs(logits))))


def logistic(update, state):
    params = {"hashed": normal(1 << 20), "linear": normal(13), "bias": jnp.zeros(())}

    def loss(params, ids, numbers, labels):
        logits = params["hashed"][ids].sum(1) + numbers @ params["linear"] + params["bias"]
        return binary(logits, labels)

    return training(loss, params, fields(1 << 20), update, state(params))


def dense(sizes):
    return [(normal(*pair), jnp.zeros(pair[1])) for pair in zip(sizes, sizes[1:])]


def layers(params, x):
    for weight, bias in params[:-1]:
        x = jax.nn.relu(x @ weight + bias)
    return x @ params[-1][0] + params[-1][1]


def wide_deep():
    params = {"deep": normal(1 << 18, 16), "wide": normal(1 << 18), "layers": dense([429, 256, 128, 1])}

    def loss(params, ids, numbers, labels):
        deep = params["deep"][ids].reshape(ids.shape[0], -1)
        logits = layers(params["layers"], jnp.concatenate([deep, numbers], 1))[:, 0]
        return binary(logits + params["wide"][ids].sum(1), labels)

    state = (jnp.zeros(()), zeros(params), zeros(params))
    return training(loss, params, fields(1 << 18), adam(0.0), state)


def images(batch):
    return [
        (
            jnp.asarray(RNG.uniform(-1, 1, (batch, 784)).astype(np.float32)),
            jnp.asarray(RNG.integers(0, 10, batch).astype(np.int32)),
        )
        for _ in range(BATCHES)
    ]


def mlp():
    params = dense([784, 512, 256, 10])

    def loss(params, x, labels):
        shares = jax.nn.log_softmax(layers(params, x))
        return -jnp.mean(jnp.take_along_axis(shares, labels[:, None], 1))

    state = (jnp.zeros(()), zeros(params), zeros(params))
    return training(loss, params, images(128), adam(0.01), state)


def forward(batch):
    params, batches, run = dense([784, 512, 256, 10]), images(batch), jax.jit(layers)
    return lambda index: run(params, batches[index][0]).block_until_ready()


WORKLOADS = {
    "logistic_sgd": lambda: logistic(sgd, lambda _: ()),
    "logistic_adagrad": lambda: logistic(adagrad, zeros),
    "wide_deep_adam": wide_deep,
    "mlp_adamw": mlp,
    "mlp_forward_1024": lambda: forward(1024),
    "mlp_forward_1": lambda: forward(1),
}

print(json.dumps({name: median(WORKLOADS[name]()) for name in sys.argv[2:] or WORKLOADS}))
