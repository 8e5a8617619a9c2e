"""Writes the fixtures beside it: networks as Darknet stores them, and what they compute by Darknet's definition.

    pip install numpy torch && python make.py

The same forward pass for any cfg and weights of these sections, against the ONNX file that `compress export` wrote:

    pip install onnxruntime && python make.py compare CFG WEIGHTS ONNX [MASKS]

where MASKS (3,4,5;1,2,3) replaces the masks of the cfg.
"""

import json
import pathlib
import re
import struct
import sys

import numpy as np
import torch
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent


def read_cfg(text):
    sections = []
    for line in text.splitlines():
        line = re.sub(r"[#;].*", "", line).strip()
        if line.startswith("["):
            sections.append((line.strip("[]"), {}))
        elif line:
            key, value = line.split("=")
            sections[-1][1][key.strip()] = value.strip()
    return sections


def numbers(text, kind=int):
    return [kind(part) for part in text.split(",")]


def convolution_shapes(sections):
    """[(index, batch_normalize, OIHW)] of all convolutions, from channels followed through the routes."""
    channels, shapes = [], []
    for index, (kind, options) in enumerate(sections[1:]):
        before = channels[-1] if channels else 3
        if kind == "convolutional":
            size, groups = int(options["size"]), int(options.get("groups", 1))
            filters = int(options["filters"])
            shapes.append((index, int(options.get("batch_normalize", 0)), (filters, before // groups, size, size)))
            before = filters
        elif kind == "route":
            before = sum(channels[n if n >= 0 else index + n] for n in numbers(options["layers"]))
            before //= int(options.get("groups", 1))
        channels.append(before)
    return shapes


def read_weights(data, sections):
    major, minor, revision = struct.unpack("<3i", data[:12])
    at = 20 if major * 10 + minor >= 2 else 16
    values = np.frombuffer(data, "<f4", offset=at)
    place, tensors = 0, {}

    def take(shape):
        nonlocal place
        count = int(np.prod(shape))
        part = values[place:place + count].reshape(shape)
        place += count
        return torch.from_numpy(part.astype(np.float64))

    for index, norm, shape in convolution_shapes(sections):
        tensors[index] = {"bias": take(shape[:1])}
        if norm:
            tensors[index] |= {"scale": take(shape[:1]), "mean": take(shape[:1]), "variance": take(shape[:1])}
        tensors[index]["weights"] = take(shape)
    assert place == len(values), (place, len(values))
    return revision, tensors


def forward(sections, tensors, revision, image, masks=None):
    """Boxes and scores of every [yolo], finest map first: [4 + classes, anchors, cells] joined, in pixels."""
    outputs, heads = [], []
    layer = image
    for index, (kind, options) in enumerate(sections[1:]):
        if kind == "convolutional":
            part = tensors[index]
            size = int(options["size"])
            border = size // 2 if int(options.get("pad", 0)) else int(options.get("padding", 0))
            layer = F.conv2d(layer, part["weights"], stride=int(options["stride"]), padding=border,
                           groups=int(options.get("groups", 1)))
            column = lambda name: part[name].reshape(1, -1, 1, 1)
            if "scale" in part:
                # blas.c, normalize_cpu: the original adds 1e-6 to the root, version 0.2.5 adds 1e-5 below it.
                root = (column("variance") + 1e-5).sqrt() if revision else column("variance").sqrt() + 1e-6
                layer = (layer - column("mean")) / root * column("scale")
            layer = layer + column("bias")
            act = options["activation"]
            layer = {"leaky": lambda x: torch.where(x > 0, x, 0.1 * x), "relu": torch.relu,
                   "relu6": lambda x: x.clamp(0, 6), "linear": lambda x: x}[act](layer)
        elif kind == "maxpool":
            # maxpool_layer.c: a border of size - 1 in all, half of it (rounded down) before.
            size, stride = int(options["size"]), int(options["stride"])
            before = (size - 1) // 2
            layer = F.pad(layer, (before, size - 1 - before) * 2, value=-torch.inf)
            layer = F.max_pool2d(layer, size, stride)
        elif kind == "upsample":
            layer = F.interpolate(layer, scale_factor=int(options["stride"]), mode="nearest")
        elif kind == "route":
            # route_layer.c: of each map one of so many equal parts.
            parts, part = int(options.get("groups", 1)), int(options.get("group_id", 0))
            maps = [outputs[n if n >= 0 else index + n] for n in numbers(options["layers"])]
            layer = torch.cat([map_.chunk(parts, 1)[part] for map_ in maps], 1)
        elif kind == "shortcut":
            layer = layer + outputs[index + int(options["from"])]
        elif kind == "yolo":
            heads.append((layer, options))
        else:
            raise ValueError(kind)
        outputs.append(layer)
    height, width = image.shape[2:]
    found = []
    for number, (layer, options) in enumerate(heads):
        anchors = np.array(numbers(options["anchors"], float)).reshape(-1, 2)
        mask = masks[number] if masks else numbers(options["mask"])
        rows, columns = layer.shape[2:]
        parts = layer.reshape(len(mask), -1, rows, columns)
        for part, (anchor_width, anchor_height) in zip(parts, anchors[mask]):
            # yolo_layer.c, get_yolo_box: relative to the image there, in pixels here. Before it, forward_yolo_layer
            # multiplies the sigmoids of x and y by scale_x_y and adds -0.5 * (scale_x_y - 1).
            scale = float(options.get("scale_x_y", 1))
            x, y = (torch.sigmoid(part[axis]) * scale - 0.5 * (scale - 1) for axis in (0, 1))
            x = (x + torch.arange(columns)) / columns * width
            y = (y + torch.arange(rows)[:, None]) / rows * height
            boxes = torch.stack([x, y, part[2].exp() * anchor_width, part[3].exp() * anchor_height])
            scores = torch.sigmoid(part[4]) * torch.sigmoid(part[5:])
            found.append((width // columns, torch.cat([boxes, scores]).flatten(1)))
    found.sort(key=lambda pair: pair[0])
    return torch.cat([values for _, values in found], 1)


def pixels(height, width):
    """The test computes the same image."""
    values = (np.arange(3 * height * width) * 7919 % 256) / 255
    return torch.from_numpy(values.astype(np.float32).astype(np.float64)).reshape(1, 3, height, width)


def make(name, seed, revisions):
    sections = read_cfg((HERE / f"{name}.cfg").read_text())
    rng = np.random.default_rng(seed)
    data = [struct.pack("<3iq", 0, 2, revisions[0], 1234)]
    for _, norm, shape in convolution_shapes(sections):
        parts = [rng.normal(0, 0.3, shape[0])]
        if norm:
            # Some channels are nearly constant: there the number that is added matters.
            variance = np.where(rng.random(shape[0]) < 0.3, 10 ** rng.uniform(-6, -4, shape[0]), rng.uniform(0.3, 1, shape[0]))
            # Their scale is small so that the values stay small.
            scale = np.where(variance < 1e-3, 2e-3, 1) * rng.uniform(0.5, 1.5, shape[0])
            parts += [scale, rng.normal(0, 0.2, shape[0]), variance]
        parts.append(rng.normal(0, 1.2 / np.sqrt(np.prod(shape[1:])), shape).ravel())
        data += [part.astype("<f4").tobytes() for part in parts]
    (HERE / f"{name}.weights").write_bytes(b"".join(data))
    expected = {}
    net = sections[0][1]
    image = pixels(int(net["height"]), int(net["width"]))
    for revision in revisions:
        _, tensors = read_weights((HERE / f"{name}.weights").read_bytes(), sections)
        output = forward(sections, tensors, revision, image)
        expected[f"0.2.{revision}"] = [float(f"{value:.6g}") for value in output.flatten().tolist()]
    text = json.dumps({"torch": torch.__version__.split("+")[0], "cells": output.shape[1], "output0": expected})
    (HERE / f"{name}.json").write_text(text + "\n")
    answers = [np.array(values) for values in expected.values()]
    apart = np.abs(answers[0] - answers[-1]).max()
    print(name, output.shape, "versions differ by up to", apart, "range", answers[0].min(), answers[0].max())


def compare(cfg, weights, onnx, masks=None):
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx)
    height, width = session.get_inputs()[0].shape[2:]
    sections = read_cfg(pathlib.Path(cfg).read_text())
    revision, tensors = read_weights(pathlib.Path(weights).read_bytes(), sections)
    image = pixels(height, width)
    masks = masks and [numbers(mask) for mask in masks.split(";")]
    with torch.no_grad():
        ours = forward(sections, tensors, revision, image, masks).numpy()
    theirs = session.run(None, {"images": image.numpy().astype(np.float32)})[0][0]
    error = np.abs(ours - theirs)
    print(f"onnxruntime {onnxruntime.__version__}, {ours.shape}: boxes differ by up to {error[:4].max():.2g} px "
          f"(of {theirs[:4].max():.0f}), scores by {error[4:].max():.2g} (of {theirs[4:].max():.2g})")


if __name__ == "__main__":
    if sys.argv[1:2] == ["compare"]:
        compare(*sys.argv[2:])
    else:
        make("tiny", 8, [0, 5])
        # YOLOv4-tiny is trained with Darknet's successor.
        make("csp-with-scaled-centres", 9, [5])
