"""Runs the exported form of `distribution.json` in onnxruntime and writes what it answers.

    BLESS=1 cargo test -p compress --lib export::    # writes distribution.onnx, if its form has changed
    pip install onnx onnxruntime && python make.py
"""

import json
import pathlib

import numpy
import onnx
import onnxruntime

HERE = pathlib.Path(__file__).parent


def main():
    path = HERE / "distribution.onnx"
    onnx.checker.check_model(onnx.load(path), full_check=True)
    height, width = 64, 96
    image = (numpy.arange(3 * height * width) * 37) % 256 / 255
    image = image.astype(numpy.float32).reshape(1, 3, height, width)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"images": image})
    print(answer.shape, answer[0, 4:].min(), answer[0, 4:].max())
    rows = [[round(float(number), 4) for number in row] for row in answer[0]]
    (HERE / "distribution-answer.json").write_text(json.dumps(rows) + "\n")


if __name__ == "__main__":
    main()
