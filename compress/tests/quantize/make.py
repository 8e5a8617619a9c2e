"""Runs the int8 files beside it in onnxruntime and writes the class scores; of `depthwise-like-int8` the boxes, too.

    BLESS=1 cargo test -p compress --lib onnxruntime    # writes the file, if its form has changed
    pip install onnx onnxruntime && python make.py
"""

import json
import pathlib

import numpy
import onnx
import onnxruntime

HERE = pathlib.Path(__file__).parent


def main():
    for name in ("every-form-int8", "distribution-int8", "v8-like-int8", "depthwise-like-int8"):
        path = HERE / f"{name}.onnx"
        onnx.checker.check_model(onnx.load(path), full_check=True)
        side = 32
        image = ((numpy.arange(3 * side * side) * 37) % 256 / 255).astype(numpy.float32).reshape(1, 3, side, side)
        found = []
        for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            found.append(session.run(None, {"images": image})[0][0, 0 if name == "depthwise-like-int8" else 4 :])
        apart = numpy.abs(found[0] - found[1]).max()
        print(f"{name}: optimised and not differ by {apart}, scores {found[0].min()} to {found[0].max()}")
        text = json.dumps([round(float(score), 6) for score in found[0].ravel()])
        (HERE / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
