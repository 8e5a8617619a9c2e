"""Writes the models of models/ with other input sizes declared, which other runtimes insist on.

    python models.py OUT_DIR [--size 416 320 256]

Files NAME-SIZE.onnx and NAME-SIZE-int8.onnx. The networks work out all shapes but those of input and output.
"""

import argparse
import pathlib

import onnx

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
INT8 = "-int8"


def resized(model, size):
    """`model` for inputs of `size` times `size` pixels."""
    image = model.graph.input[0].type.tensor_type.shape.dim
    image[2].dim_value = image[3].dim_value = size
    # The number of places follows from it.
    model.graph.output[0].type.tensor_type.shape.dim[2].Clear()
    onnx.checker.check_model(model)
    return model


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--size", type=int, nargs="+", default=[416])
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for path in sorted(MODELS.glob("*.onnx")):
        name = path.stem.removesuffix(INT8)
        kind = INT8 if path.stem.endswith(INT8) else ""
        for size in args.size:
            onnx.save(resized(onnx.load(path), size), args.out / f"{name}-{size}{kind}.onnx")


main()
