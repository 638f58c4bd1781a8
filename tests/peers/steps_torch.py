"""Milliseconds per training step in PyTorch, of the workloads in jobs/training/src/workloads.rs.

python steps_torch.py THREADS [NAME ...] prints a JSON object from name to milliseconds: the median of 7 blocks.
"""

import json
import math
import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

BATCHES, BLOCKS, BLOCK_SECONDS = 16, 7, 0.25


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


def training(model, batches, loss, optimizers):
    def run(index):
        *inputs, labels = batches[index]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss(model(*inputs), labels).backward()
        for optimizer in optimizers:
            optimizer.step()

    return run


def fields(buckets, batch=1024):
    return [
        (
            torch.randint(0, buckets, (batch, 26)),
            torch.rand(batch, 13) * 2 - 1,
            torch.randint(0, 2, (batch,)).float(),
        )
        for _ in range(BATCHES)
    ]


def binary(logits, labels):
    return F.binary_cross_entropy_with_logits(logits.squeeze(1), labels)


class Logistic(nn.Module):
    def __init__(self, buckets=1 << 20):
        super().__init__()
        self.hashed = nn.EmbeddingBag(buckets, 1, mode="sum", sparse=True)
        self.linear = nn.Linear(13, 1)

    def forward(self, ids, numbers):
        return self.hashed(ids) + self.linear(numbers)


def logistic(optimizer):
    model = Logistic()
    return training(model, fields(1 << 20), binary, [optimizer(model.parameters())])


class WideAndDeep(nn.Module):
    def __init__(self, sparse, buckets=1 << 18):
        super().__init__()
        self.deep = nn.Embedding(buckets, 16, sparse=sparse)
        self.wide = nn.EmbeddingBag(buckets, 1, mode="sum", sparse=sparse)
        self.layers = nn.Sequential(
            nn.Linear(429, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 1)
        )

    def forward(self, ids, numbers):
        deep = torch.cat([self.deep(ids).flatten(1), numbers], 1)
        return self.layers(deep) + self.wide(ids)


def wide_deep(sparse):
    model = WideAndDeep(sparse)
    if not sparse:
        return training(model, fields(1 << 18), binary, [torch.optim.Adam(model.parameters(), lr=1e-3)])
    tables = [model.deep.weight, model.wide.weight]
    optimizers = [
        torch.optim.SparseAdam(tables, lr=1e-3),
        torch.optim.Adam(model.layers.parameters(), lr=1e-3),
    ]
    return training(model, fields(1 << 18), binary, optimizers)


def mlp_layers():
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 10))


def classes(shape, batch):
    return [(torch.rand(batch, *shape) * 2 - 1, torch.randint(0, 10, (batch,))) for _ in range(BATCHES)]


def mlp():
    model = mlp_layers()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    return training(model, classes((784,), 128), F.cross_entropy, [optimizer])


def forward(batch):
    model = mlp_layers().eval()
    batches = classes((784,), batch)

    def run(index):
        with torch.inference_mode():
            model(batches[index][0])

    return run


def cnn():
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(3136, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    ).to(memory_format=torch.channels_last)
    return training(
        model, classes((1, 28, 28), 64), F.cross_entropy, [torch.optim.Adam(model.parameters(), lr=1e-3)]
    )


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm_1, self.norm_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm_1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        attention = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attention.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm_2(x))))


class Gpt(nn.Module):
    def __init__(self, words=512, width=128, length=128):
        super().__init__()
        self.table = nn.Embedding(words, width)
        self.position = nn.Parameter(torch.zeros(length, width))
        self.blocks = nn.Sequential(*[Block(width, 4) for _ in range(4)])
        self.norm, self.output = nn.LayerNorm(width), nn.Linear(width, words)

    def forward(self, words):
        return self.output(self.norm(self.blocks(self.table(words) + self.position)))


def gpt():
    model = Gpt()
    batches = [(torch.randint(0, 512, (8, 128)), torch.randint(0, 512, (8, 128))) for _ in range(BATCHES)]
    loss = lambda logits, labels: F.cross_entropy(logits.flatten(0, 1), labels.flatten())
    return training(model, batches, loss, [torch.optim.AdamW(model.parameters(), lr=1e-3)])


class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.output = nn.LSTM(16, 64, batch_first=True), nn.Linear(64, 1)

    def forward(self, steps):
        return self.output(self.lstm(steps)[0][:, -1])


def lstm():
    model = Lstm()
    batches = [(torch.rand(256, 32, 16) * 2 - 1, torch.randint(0, 2, (256,)).float()) for _ in range(BATCHES)]
    return training(model, batches, binary, [torch.optim.Adam(model.parameters(), lr=1e-3)])


WORKLOADS = {
    "logistic_sgd": lambda: logistic(lambda p: torch.optim.SGD(p, lr=0.1)),
    "logistic_adagrad": lambda: logistic(lambda p: torch.optim.Adagrad(p, lr=0.1)),
    "wide_deep_adam": lambda: wide_deep(False),
    "wide_deep_lazy_adam": lambda: wide_deep(True),
    "mlp_adamw": mlp,
    "cnn_adam": cnn,
    "gpt_adamw": gpt,
    "lstm_adam": lstm,
    "mlp_forward_1024": lambda: forward(1024),
    "mlp_forward_1": lambda: forward(1),
}

torch.manual_seed(1)
torch.set_num_threads(int(sys.argv[1]))
print(json.dumps({name: median(WORKLOADS[name]()) for name in sys.argv[2:] or WORKLOADS}))
