"""The digits in JAX: the same rows, network, optimizer, batches and seeds as examples/digits.toml, for comparison.

    python digits_jax.py DIGITS.CSV EPOCHS BATCH LEARNING_RATE HIDDEN

Prints one JSON object: median training seconds (compilation included, as a user waits for it too) and median held-out
accuracy over five seeds.
"""

import csv
import json
import statistics
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np


def rows(path):
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        pixels = [name for name in reader.fieldnames if name.startswith("p")]
        parts = {"train": ([], []), "test": ([], [])}
        for row in reader:
            features, labels = parts[row["split"]]
            features.append([float(row[name]) for name in pixels])
            labels.append(int(row["label"]))
    return {part: (np.array(x, np.float32), np.array(y)) for part, (x, y) in parts.items()}


def forward(weights, x):
    hidden, out = weights
    return jax.nn.relu(x @ hidden[0] + hidden[1]) @ out[0] + out[1]


def loss(weights, x, y):
    return -jnp.mean(jax.nn.log_softmax(forward(weights, x))[jnp.arange(len(y)), y])


@jax.jit
def step(weights, first, second, t, x, y, learning_rate):
    gradients = jax.grad(loss)(weights, x, y)
    first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, gradients)
    second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradients)

    def moved(w, m, v):
        scaled = (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8)
        return w - learning_rate * (scaled + 0.01 * w)

    return jax.tree.map(moved, weights, first, second), first, second


def train(data, seed, epochs, batch, learning_rate, hidden):
    (x, y), (x_test, y_test) = data["train"], data["test"]
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation == 0] = 1
    x, x_test = (x - mean) / deviation, (x_test - mean) / deviation
    random = np.random.default_rng(seed)

    def layer(n_in, n_out):
        bound = np.sqrt(6 / n_in)
        return jnp.array(random.uniform(-bound, bound, (n_in, n_out)), jnp.float32), jnp.zeros(n_out)

    weights = (layer(x.shape[1], hidden), layer(hidden, 10))
    first = second = jax.tree.map(jnp.zeros_like, weights)
    t = 0
    for _ in range(epochs):
        order = random.permutation(len(x))
        for at in range(0, len(x), batch):
            t += 1
            chosen = order[at : at + batch]
            weights, first, second = step(weights, first, second, t, x[chosen], y[chosen], learning_rate)
    return float((np.asarray(forward(weights, x_test)).argmax(1) == y_test).mean())


def main():
    path, epochs, batch, learning_rate, hidden = sys.argv[1:]
    data = rows(path)
    seconds, accuracies = [], []
    for seed in range(1, 6):
        began = time.perf_counter()
        accuracies.append(train(data, seed, int(epochs), int(batch), float(learning_rate), int(hidden)))
        seconds.append(time.perf_counter() - began)
    print(json.dumps({"seconds": statistics.median(seconds), "accuracy": statistics.median(accuracies)}))


if __name__ == "__main__":
    main()
