"""Models of PyTorch and Keras, as they write them, with what they answer: the files in `jobs/training/data/exchange`.

`cargo test` imports each and compares answers. Each model is small, and its weights are drawn with a fixed seed.
"""

import argparse
import json
import os
import pathlib
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
warnings.filterwarnings("ignore")

import numpy

ROWS = 3


def write(path, inputs, answers):
    """The case beside a model."""
    told = {}
    for name, values in inputs.items():
        type_ = "int64" if values.dtype.kind == "i" else "float"
        told[name] = {"type": type_, "dims": list(values.shape[1:]), "values": shortened(values)}
    case = {"rows": ROWS, "inputs": told, "dims": list(answers.shape[1:]), "answers": shortened(answers)}
    path.write_text(json.dumps(case, separators=(",", ":")) + "\n")


def shortened(values):
    if values.dtype.kind == "i":
        return values.reshape(-1).tolist()
    return [float(f"{value:.9g}") for value in values.reshape(-1)]


def torch_models():
    import torch
    from torch import nn

    class Recurrent(nn.Module):
        def __init__(self, kind, last):
            super().__init__()
            self.rnn, self.fc, self.last = kind(3, 5, batch_first=True), nn.Linear(5, 1), last

        def forward(self, x):
            steps, state = self.rnn(x)
            if self.last:
                return torch.sigmoid(self.fc(steps[:, -1]))
            return self.fc(state[0] if isinstance(state, tuple) else state[0])

    class Stacked(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.fc = nn.LSTM(3, 4, batch_first=True), nn.GRU(4, 5, batch_first=True), nn.Linear(5, 2)

        def forward(self, x):
            return self.fc(self.two(self.one(x)[0])[0][:, -1, :])

    class Block(nn.Module):
        def __init__(self, width=8, heads=2):
            super().__init__()
            self.heads = heads
            self.norm_1, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.norm_2, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, 16), nn.Linear(16, width)

        def forward(self, x):
            rows, length, width = x.shape
            by_head = lambda t: t.view(rows, length, self.heads, width // self.heads).transpose(1, 2)
            q, k, v = (by_head(t) for t in self.qkv(self.norm_1(x)).chunk(3, -1))
            y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.out(y.transpose(1, 2).reshape(rows, length, width))
            return x + self.down(nn.functional.gelu(self.up(self.norm_2(x))))

    class Masked(nn.Module):
        """Attention as tutorials write it, with a mask and a softmax of its own."""

        def __init__(self, width=8, heads=4, length=5):
            super().__init__()
            self.heads = heads
            self.q, self.k, self.v = (nn.Linear(width, width, bias=False) for _ in range(3))
            self.out, self.fc = nn.Linear(width, width), nn.Linear(width, 1)
            self.register_buffer("mask", torch.tril(torch.ones(length, length)).view(1, 1, length, length))

        def forward(self, x):
            rows, length, width = x.shape
            by_head = lambda t: t.view(rows, length, self.heads, width // self.heads).transpose(1, 2)
            q, k, v = by_head(self.q(x)), by_head(self.k(x)), by_head(self.v(x))
            scores = (q @ k.transpose(-2, -1)) * (1.0 / (width // self.heads) ** 0.5)
            scores = scores.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
            y = (torch.softmax(scores, -1) @ v).transpose(1, 2).contiguous().view(rows, length, width)
            return self.fc(self.out(y).mean(1))

    class Gpt(nn.Module):
        def __init__(self, words=11, length=6, width=8):
            super().__init__()
            self.token, self.place = nn.Embedding(words, width), nn.Embedding(length, width)
            self.blocks, self.norm = nn.Sequential(Block(), Block()), nn.LayerNorm(width)
            self.head = nn.Linear(width, words, bias=False)

        def forward(self, ids):
            x = self.token(ids) + self.place(torch.arange(ids.shape[1]))
            return self.head(self.norm(self.blocks(x)))

    class Cnn(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.norm, self.two = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3)
            self.fc = nn.Linear(6 * 3 * 3, 3)

        def forward(self, x):
            x = nn.functional.max_pool2d(torch.relu(self.norm(self.one(x))), 2)
            return torch.softmax(self.fc(torch.relu(self.two(x)).flatten(1)), -1)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.one, self.two = nn.Conv1d(2, 4, 3, padding=1), nn.Conv1d(4, 4, 3, padding=1), nn.Conv1d(4, 4, 1)
            self.fc = nn.Linear(8, 2)

        def forward(self, x):
            x = nn.functional.silu(self.stem(x))
            x = torch.relu(self.two(nn.functional.elu(self.one(x))) + x)
            return self.fc(torch.cat([x.mean(-1), x.amax(-1)], 1))

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, activation="gelu")
            self.fc = nn.Linear(8, 1)

        def forward(self, x):
            return self.fc(self.layer(x).mean(1))

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.norm, self.fc = nn.MultiheadAttention(8, 2, batch_first=True), nn.RMSNorm(8), nn.Linear(8, 1)

        def forward(self, x):
            y = self.norm(x)
            return self.fc((x + self.attention(y, y, y, need_weights=False)[0]).amax(1))

    class Wide(nn.Module):
        """A table for each column of ids, beside numbers that are normalised."""

        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Embedding(5, 3), nn.Embedding(7, 2)
            self.register_buffer("mean", torch.tensor([0.5, -1.0]))
            self.register_buffer("deviation", torch.tensor([2.0, 0.25]))
            self.net = nn.Sequential(nn.Linear(7, 8), nn.Softplus(), nn.Linear(8, 1))

        def forward(self, ids, numbers):
            numbers = (numbers - self.mean) / self.deviation
            x = torch.cat([self.first(ids[:, 0]), self.second(ids[:, 1]), numbers], 1)
            return torch.sigmoid(self.net(x))

    mlp = nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.BatchNorm1d(8), nn.Linear(8, 8), nn.GELU(), nn.LeakyReLU(),
        nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3),
    )
    reals = lambda *dims: (torch.randn(ROWS, *dims),)
    return {
        "mlp": (mlp, reals(4)),
        "cnn": (Cnn(), reals(2, 10, 10)),
        "residual": (Residual(), reals(2, 9)),
        "lstm": (Recurrent(nn.LSTM, True), reals(4, 3)),
        "gru": (Recurrent(nn.GRU, False), reals(4, 3)),
        "stacked": (Stacked(), reals(4, 3)),
        "gpt": (Gpt(), (torch.randint(0, 11, (ROWS, 6)),)),
        "masked": (Masked(), reals(5, 8)),
        "encoder": (Encoder(), reals(5, 8)),
        "attention": (Attention(), reals(5, 8)),
        "wide": (Wide(), (torch.randint(0, 5, (ROWS, 2)), torch.randn(ROWS, 2))),
    }


def write_torch(folder):
    import torch

    torch.manual_seed(1)
    for name, (model, given) in torch_models().items():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, 0.1, 0.4)
        for norm in model.modules():
            if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
                norm.running_mean.normal_(0, 0.5)
                norm.running_var.uniform_(0.5, 2)
        model.eval()
        names = ["x", "y"][: len(given)]
        answers = model(*given).detach().numpy()
        case = {one: values.numpy() for one, values in zip(names, given)}
        batch = torch.export.Dim("batch", min=1, max=100_000)
        for dynamo in [True, False]:
            if name == "attention" and not dynamo:
                continue  # The older exporter has no RMS norm.
            path = folder / f"torch_{name}_{'dynamo' if dynamo else 'script'}.onnx"
            if dynamo:
                torch.onnx.export(
                    model, given, path, dynamo=True, dynamic_shapes=tuple({0: batch} for _ in given), input_names=names,
                    external_data=False, verbose=False,
                )
            else:
                axes = {one: {0: "batch"} for one in names}
                torch.onnx.export(
                    model, given, path, dynamo=False, input_names=names, dynamic_axes=axes, opset_version=17,
                )
            stripped(path)
            write(path.with_suffix(".json"), case, answers)


def stripped(path):
    """Without where in the program each node comes from, which is most of a small file."""
    import onnx

    model = onnx.load(path)
    for node in model.graph.node:
        node.ClearField("doc_string")
        node.ClearField("metadata_props")
    for value in list(model.graph.initializer) + list(model.graph.input) + list(model.graph.output):
        value.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    model.graph.ClearField("metadata_props")
    model.ClearField("metadata_props")
    model.ClearField("functions")
    onnx.save(model, path)


def keras_models():
    import keras
    from keras import layers as L

    def functional(inputs, body):
        return keras.Model(inputs, body)

    def mlp():
        norm = L.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 0.25, 4.0, 2.0])
        return keras.Sequential([
            keras.Input((4,)), norm, L.Dense(8, activation="relu"), L.BatchNormalization(), L.Dropout(0.2),
            L.Dense(4, activation="gelu"), L.Dense(4, activation="elu"), L.Dense(1, activation="sigmoid"),
        ])

    def cnn():
        x = i = keras.Input((8, 8, 2))
        x = L.Conv2D(4, 3, padding="same", activation="relu")(x)
        x = L.BatchNormalization()(x)
        x = L.MaxPooling2D()(x)
        x = L.Conv2D(5, 3, strides=2, padding="same", use_bias=False)(x)
        x = L.Activation("silu")(x)
        x = L.AveragePooling2D(2, padding="same")(x)
        return functional(i, L.Dense(3, activation="softmax")(L.Flatten()(x)))

    def recurrent():
        return keras.Sequential([
            keras.Input((6, 3)), L.LSTM(5, return_sequences=True), L.GRU(4), L.LayerNormalization(), L.Dense(2),
        ])

    def words():
        i = keras.Input((5,), dtype="int32", name="words")
        x = L.Embedding(9, 4)(i)
        x = L.Conv1D(6, 3, activation="tanh")(x)
        return functional(i, L.Dense(1)(L.GlobalMaxPooling1D()(x)))

    def transformer():
        i = keras.Input((5, 8))
        x = L.LayerNormalization()(i)
        x = L.Add()([i, L.MultiHeadAttention(2, 4)(x, x)])
        y = L.Dense(8)(L.Dense(16, activation="gelu")(L.LayerNormalization()(x)))
        return functional(i, L.Dense(1)(L.GlobalAveragePooling1D()(L.Add()([x, y]))))

    def branches():
        a, b = keras.Input((4,), name="a"), keras.Input((6,), name="b")
        x = L.Concatenate()([L.Dense(3, activation="softplus")(a), L.Dense(3)(b)])
        y = L.Flatten()(L.Permute((2, 1))(L.Reshape((2, 3))(x)))
        return functional([a, b], L.Dense(2)(L.Dense(4, activation="tanh")(y)))

    return {one.__name__: one for one in [mlp, cnn, recurrent, words, transformer, branches]}


def write_keras(folder):
    import keras

    for name, make in keras_models().items():
        keras.utils.set_random_seed(3)
        keras.backend.clear_session()
        model = make()
        generator = numpy.random.default_rng(5)
        for weight in model.weights:
            if "seed" in weight.path or "normalization/" in weight.path and weight.path.rsplit("/", 1)[1] in ("mean", "variance", "count"):
                continue
            values = generator.normal(0.05, 0.4, weight.shape)
            weight.assign(numpy.abs(values) + 0.5 if "variance" in weight.path else values)
        given = {}
        called = [one["config"]["name"] for one in model.get_config()["layers"] if one["class_name"] == "InputLayer"]
        for one, tensor in zip(called, model.inputs):
            shape = (ROWS,) + tuple(tensor.shape[1:])
            if "int" in tensor.dtype:
                given[one] = generator.integers(0, 9, shape).astype("int64")
            else:
                given[one] = generator.normal(0, 1, shape).astype("float32")
        arrays = list(given.values())
        answers = numpy.asarray(model(arrays if len(arrays) > 1 else arrays[0]))
        model.save(folder / f"keras_{name}.keras")
        if name == "words":
            from safetensors.numpy import save_file
            arrays_of = {f"{one.name}/{i}": w for one in model.layers for i, w in enumerate(one.get_weights())}
            save_file(arrays_of, folder / f"keras_{name}.safetensors")
        write(folder / f"keras_{name}.json", given, answers)
        try:
            path = folder / f"tf2onnx_{name}.onnx"
            model.export(path, format="onnx", verbose=False)
            import onnx
            names = [one.name for one in onnx.load(path).graph.input]
            write(path.with_suffix(".json"), dict(zip(names, arrays)), answers)
            stripped(path)
        except Exception as error:
            print(f"{name}: tf2onnx fails: {error}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--only", choices=["torch", "keras"])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.only != "keras":
        write_torch(arguments.folder)
    if arguments.only != "torch":
        write_keras(arguments.folder)


if __name__ == "__main__":
    main()
