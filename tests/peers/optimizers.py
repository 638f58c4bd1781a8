"""Two steps of each optimizer, for the numbers pinned in jobs/training/src/optimizer/tests.rs.

python optimizers.py, with PyTorch and, for FTRL, Keras on any backend.
"""

import math

import torch

GRADIENTS = [[0.1, -0.3, 2.0], [-0.2, 0.05, 1.0]]


def steps(name, make, clip=None):
    weights = torch.nn.Parameter(torch.tensor([0.5, -1.25, 2.0]))
    optimizer = make([weights])
    rows = []
    for gradient in GRADIENTS:
        weights.grad = torch.tensor(gradient)
        if clip is not None:
            clip([weights])
        optimizer.step()
        rows.append([float(f"{value:.9g}") for value in weights.tolist()])
    print(name, rows)


steps("sgd", lambda p: torch.optim.SGD(p, lr=0.1))
steps("momentum", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9))
steps("nesterov", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True))
steps("adagrad", lambda p: torch.optim.Adagrad(p, lr=0.1, eps=1e-10))
steps("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-8))
steps("rmsprop momentum", lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, eps=1e-8, momentum=0.9))
steps("adam", lambda p: torch.optim.Adam(p, lr=0.01))
steps("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1))
norm = lambda p: torch.nn.utils.clip_grad_norm_(p, 1.5)
value = lambda p: torch.nn.utils.clip_grad_value_(p, 0.25)
steps("sgd, norm 1.5", lambda p: torch.optim.SGD(p, lr=0.1), norm)
steps("sgd, value 0.25", lambda p: torch.optim.SGD(p, lr=0.1), value)


def ftrl(rate, power, l1, l2, initial):
    """The formula of keras.optimizers.Ftrl, in double precision."""
    weights, sums, linear = [0.5, -1.25, 2.0], [initial] * 3, [0.0] * 3
    rows = []
    for gradient in GRADIENTS:
        for i, g in enumerate(gradient):
            after = sums[i] + g * g
            linear[i] += g - (after**-power - sums[i] ** -power) / rate * weights[i]
            quadratic = after**-power / rate + 2 * l2
            short = math.copysign(l1, linear[i]) - linear[i]
            weights[i] = short / quadratic if abs(linear[i]) > l1 else 0.0
            sums[i] = after
        rows.append([float(f"{value:.9g}") for value in weights])
    print("ftrl", (power, l1, l2), rows)


ftrl(0.1, -0.5, 0.01, 0.02, 0.1)
ftrl(0.1, -0.3, 0.5, 0.0, 0.1)

try:
    import keras

    weights = keras.Variable([0.5, -1.25, 2.0])
    optimizer = keras.optimizers.Ftrl(
        0.1, l1_regularization_strength=0.01, l2_regularization_strength=0.02
    )
    for gradient in GRADIENTS:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weights])
        print("keras ftrl", weights.numpy().tolist())
except ImportError:
    print("keras is not there; the formula above is its own")
