"""Our ONNX exports in other hands: the checker of ONNX, and onnxruntime, whose answers must be ours.

The cases are those of `jobs/training/src/exchange/onnx/tests.rs`, which writes each as NAME.onnx and NAME.json.
"""

import argparse
import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime

TYPES = {"float": numpy.float32, "int64": numpy.int64, "string": object}


def difference(path):
    """The largest, relative to values above 1."""
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    case = json.loads(path.with_suffix(".json").read_text())
    rows = case["rows"]
    feed = {}
    for name, given in case["inputs"].items():
        values = [numpy.nan if value is None else value for value in given["values"]]
        feed[name] = numpy.array(values, dtype=TYPES[given["type"]]).reshape([rows] + given["dims"])
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    output = session.get_outputs()[0].name
    got = session.run([output], feed)[0]
    expected = numpy.array(case["answers"], dtype=numpy.float32).reshape([rows] + case["dims"])
    assert got.shape == expected.shape, f"{got.shape} against {expected.shape}"
    largest = numpy.max(numpy.abs(got - expected) / numpy.maximum(1, numpy.abs(expected)))
    assert numpy.isfinite(largest), "an answer is no number"
    # One row by itself: nothing depends on how many there are.
    alone = session.run([output], {name: values[:1] for name, values in feed.items()})[0]
    assert numpy.allclose(alone, got[:1], atol=1e-5), "a row alone is answered in another way"
    return float(largest)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--tolerance", type=float, default=1e-5)
    arguments = parser.parse_args()
    paths = sorted(arguments.folder.glob("*.onnx"))
    wrong = 0
    for path in paths:
        try:
            largest = difference(path)
            fits = largest <= arguments.tolerance
        except Exception as error:
            fits, largest = False, f"{type(error).__name__}: {error}"
        wrong += not fits
        print(f"{'ok   ' if fits else 'WRONG'} {path.stem:24} {largest}")
    print(f"{len(paths) - wrong} of {len(paths)} exports are answered alike by onnxruntime {onnxruntime.__version__}")
    return 1 if wrong or not paths else 0


if __name__ == "__main__":
    sys.exit(main())
