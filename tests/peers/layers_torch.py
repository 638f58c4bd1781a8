"""What PyTorch says about the layers: outputs and gradients of two steps of gradient descent, in double precision.

    python layers_torch.py > ../../jobs/training/src/graph/ops/layers_torch.txt

Inputs, parameters and the gradient of the output are made by `made` here and in the test that reads the file, so only what
comes out is in it: for each layer and step a line for the output, the gradient of the input, and that of each parameter, all
in the layout of this project (channels last, weights [inputs, outputs]).
"""

import torch
import torch.nn.functional as F
from torch.func import functional_call

torch.set_default_dtype(torch.float64)
RATE = 0.1


def made(which, count, middle=0.0, scale=1.0):
    i = torch.arange(count)
    return middle + scale * ((i * i * 7 + i * 37 + which * 11 + 5) % 101 - 50) / 50.0


def same(length, window, stride):
    """Zeros before and behind, as in Keras."""
    windows = -(-length // stride)
    total = max((windows - 1) * stride + window - length, 0)
    return total // 2, total - total // 2


def conv2d(kernel, stride, padded, activation):
    def run(x, weight, bias):
        x = x.permute(0, 3, 1, 2)
        if padded:
            x = F.pad(x, same(x.shape[3], kernel[1], stride[1]) + same(x.shape[2], kernel[0], stride[0]))
        return activation(F.conv2d(x, weight.permute(3, 2, 0, 1), bias, stride)).permute(0, 2, 3, 1)

    return run


def conv1d(kernel, stride, activation):
    def run(x, weight, bias):
        x = F.pad(x.permute(0, 2, 1), same(x.shape[1], kernel, stride))
        return activation(F.conv1d(x, weight.permute(2, 1, 0), bias, stride)).permute(0, 2, 1)

    return run


def channels_last(of):
    return lambda x: of(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def recurrent(kind, units, sequences):
    def run(x, fed, hidden, *biases):
        module = kind(x.shape[2], units, batch_first=True)
        zero = torch.zeros_like(biases[0])
        given = {
            "weight_ih_l0": fed.T,
            "weight_hh_l0": hidden.T,
            "bias_ih_l0": biases[0],
            "bias_hh_l0": biases[1] if len(biases) > 1 else zero,
        }
        output, _ = functional_call(module, given, (x,))
        return output if sequences else output[:, -1]

    return run


def attention(heads, causal):
    def run(x, fed, fed_bias, out, out_bias):
        module = torch.nn.MultiheadAttention(x.shape[2], heads, batch_first=True)
        given = {
            "in_proj_weight": fed.T,
            "in_proj_bias": fed_bias,
            "out_proj.weight": out.T,
            "out_proj.bias": out_bias,
        }
        hidden = torch.ones(x.shape[1], x.shape[1]).triu(1).bool() if causal else None
        return functional_call(module, given, (x, x, x), {"attn_mask": hidden, "need_weights": False})[0]

    return run


# Name, function, shape of the input with its rows, shapes of the parameters with the value they lie around.
LAYERS = [
    ("conv2d_valid", conv2d((3, 2), (2, 1), False, F.relu), (2, 5, 4, 2), [((3, 2, 2, 3), 0), ((3,), 0)]),
    ("conv2d_same", conv2d((3, 2), (1, 2), True, F.gelu), (2, 4, 5, 2), [((3, 2, 2, 2), 0), ((2,), 0)]),
    ("conv1d_same", conv1d(3, 2, torch.tanh), (3, 6, 2), [((3, 2, 3), 0), ((3,), 0)]),
    ("max_pool", channels_last(lambda x: F.max_pool2d(x, 2, 2)), (2, 5, 5, 2), []),
    ("max_pool_overlapping", channels_last(lambda x: F.max_pool2d(x, (3, 2), (1, 2))), (2, 5, 5, 2), []),
    ("average_pool", channels_last(lambda x: F.avg_pool2d(x, (2, 3), (2, 1))), (2, 5, 5, 2), []),
    ("global_max_pool", lambda x: x.amax((1, 2)), (2, 3, 3, 2), []),
    ("global_average_pool", lambda x: x.mean((1, 2)), (2, 3, 3, 2), []),
    ("layer_norm", lambda x, w, b: F.layer_norm(x, (5,), w, b, 1e-5), (2, 3, 5), [((5,), 1), ((5,), 0)]),
    ("rms_norm", lambda x, w: F.rms_norm(x, (5,), w, 1e-5), (2, 3, 5), [((5,), 1)]),
    ("lstm", recurrent(torch.nn.LSTM, 3, False), (2, 4, 2), [((2, 12), 0), ((3, 12), 0), ((12,), 0)]),
    ("lstm_sequences", recurrent(torch.nn.LSTM, 2, True), (2, 3, 2), [((2, 8), 0), ((2, 8), 0), ((8,), 0)]),
    ("gru", recurrent(torch.nn.GRU, 3, False), (2, 4, 2), [((2, 9), 0), ((3, 9), 0), ((9,), 0), ((9,), 0)]),
    ("gru_sequences", recurrent(torch.nn.GRU, 2, True), (2, 3, 2), [((2, 6), 0), ((2, 6), 0), ((6,), 0), ((6,), 0)]),
    ("attention", attention(2, False), (2, 3, 4), [((4, 12), 0), ((12,), 0), ((4, 4), 0), ((4,), 0)]),
    ("attention_causal", attention(1, True), (2, 4, 2), [((2, 6), 0), ((6,), 0), ((2, 2), 0), ((2,), 0)]),
]


def show(name, step, what, values):
    print(name, step, what, " ".join(f"{value:.10g}" for value in values.detach().reshape(-1).tolist()))


for name, run, shape, parameters in LAYERS:
    x = made(0, torch.Size(shape).numel()).reshape(shape).requires_grad_()
    weights = [
        made(1 + which, torch.Size(dims).numel(), middle, 0.5).reshape(dims).requires_grad_()
        for which, (dims, middle) in enumerate(parameters)
    ]
    for step in range(2):
        output = run(x, *weights)
        loss = (output.reshape(-1) * made(100, output.numel())).sum()
        gradients = torch.autograd.grad(loss, [x, *weights])
        show(name, step, "output", output)
        show(name, step, "input", gradients[0])
        for which, gradient in enumerate(gradients[1:]):
            show(name, step, f"parameter_{which}", gradient)
        weights = [(w - RATE * g).detach().requires_grad_() for w, g in zip(weights, gradients[1:])]

x = made(0, 24).reshape(4, 3, 2).requires_grad_()
weight, bias = (made(1 + which, 2, 1.0 - which, 0.5).requires_grad_() for which in range(2))
mean, variance = made(3, 2, 0.0, 0.5), made(4, 2, 1.0, 0.5)
for step in range(2):
    output = F.batch_norm(x.permute(0, 2, 1), mean, variance, weight, bias, True, 0.1, 1e-3).permute(0, 2, 1)
    loss = (output.reshape(-1) * made(100, output.numel())).sum()
    gradients = torch.autograd.grad(loss, [x, weight, bias])
    for what, values in zip(["output", "input", "parameter_0", "parameter_1"], [output, *gradients]):
        show("batch_norm", step, what, values)
    # Running means after this step.
    show("batch_norm", step, "parameter_2", mean)
    show("batch_norm", step, "parameter_3", variance)
    weight, bias = ((w - RATE * g).detach().requires_grad_() for w, g in zip([weight, bias], gradients[1:]))
