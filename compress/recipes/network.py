"""A network of `compress` in PyTorch: its JSON form and its tensors, for convolutions without batch normalisation."""

import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional as F

GREY = 114


class Conv:
    """One convolution: where its tensors are, what it reads, how it moves."""

    def __init__(self, name, source, kernel, stride, depthwise, activation):
        self.name, self.source = name, source
        self.kernel, self.stride, self.depthwise, self.activation = kernel, stride, depthwise, activation


class Slice:
    """The channels from one on, so many."""

    def __init__(self, start, channels):
        self.start, self.channels = start, channels

    def of(self, channels):
        return channels[self.start : self.start + self.channels]


class Network:
    """Layers as in the JSON form, and tensors by name (`stem.conv.weight`, OIHW)."""

    def __init__(self, description, tensors):
        self.description, self.tensors = description, tensors
        self.steps = list(steps(description["layers"]))

    def convs(self):
        """All convolutions by name."""
        return {step.name: step for _, step, _ in self.steps if isinstance(step, Conv)}

    def weight(self, name):
        return self.tensors[name + ".conv.weight"]

    def bias(self, name):
        return self.tensors[name + ".conv.bias"]

    def channels(self, name):
        return len(self.bias(name))

    def run(self, image, watch=None):
        """All maps by name, of images `[batch, 3, H, W]`, RGB in 0-1. `watch(name, input, output)` is called for each
        convolution before its activation, and may return another output."""
        maps = {"image": self.rounded("image", image)}
        for name, step, sources in self.steps:
            inputs = [maps[source] for source in sources]
            if isinstance(step, Conv):
                groups = inputs[0].shape[1] if step.depthwise else 1
                padding = step.kernel // 2
                out = F.conv2d(inputs[0], self.weight(name), self.bias(name), step.stride, padding, groups=groups)
                if watch is not None:
                    out = watch(name, inputs[0], out)
                out = F.leaky_relu(out, 0.1) if step.activation == "leaky_relu" else out
                maps[name] = self.rounded(name, out)
            elif step == "max_pool":
                maps[name] = F.max_pool2d(inputs[0], 3, 2, 1)
            elif step == "upsample":
                out = F.interpolate(inputs[0], scale_factor=2.0, mode="bilinear", align_corners=False)
                maps[name] = self.rounded(name, out)
            elif step == "concat":
                maps[name] = torch.cat(inputs, 1)
            elif isinstance(step, Slice):
                maps[name] = inputs[0][:, step.start : step.start + step.channels]
            elif step == "add":
                maps[name] = self.rounded(name, sum(inputs[1:], inputs[0]))
        return maps

    def rounded(self, name, map_):
        """What the map `name` is to those who read it."""
        return map_

    def head(self):
        """Pairs of the names of the maps of distances and of class logits, stride by stride."""
        names = self.description["layers"][-1]["from"]
        return list(zip(names[0::2], names[1::2]))

    def sides(self, pixels):
        """Side in cells of every map, for an image of that side."""
        sides = {"image": pixels}
        for name, step, sources in self.steps:
            side = sides[sources[0]]
            if isinstance(step, Conv):
                side = -(-side // step.stride)
            elif step == "max_pool":
                side = -(-side // 2)
            elif step == "upsample":
                side *= 2
            sides[name] = side
        return sides

    def cost(self, pixels=416):
        """Parameters and multiply-accumulates."""
        sides = self.sides(pixels)
        convs = self.convs()
        parameters = sum(self.weight(name).numel() + self.channels(name) for name in convs)
        return parameters, sum(self.weight(name).numel() * sides[name] ** 2 for name in convs)

    def widths(self):
        """Writes the widths of the tensors into the description."""
        for layer in self.description["layers"]:
            name, kind = layer["name"], layer["kind"]
            if kind == "conv":
                layer["out"] = self.channels(name)
            elif kind == "ds_conv":
                layer["out"] = self.channels(name + ".pointwise")
            elif kind == "mb_conv":
                layer["expansion"], layer["out"] = self.channels(name + ".expand"), self.channels(name + ".project")
            elif kind == "ghost":
                layer["out"] = 2 * self.channels(name + ".primary")

    def write(self, path):
        """As a checkpoint, and the JSON form beside it."""
        self.widths()
        tensors = {name: tensor.detach().float().contiguous() for name, tensor in self.tensors.items()}
        save_file(tensors, str(path), metadata={"network": json.dumps(self.description)})
        Path(path).with_suffix(".json").write_text(json.dumps(self.description, indent=2) + "\n")


def read(path):
    """A checkpoint of `compress`."""
    with safe_open(str(path), "pt") as file:
        tensors = {name: file.get_tensor(name).float() for name in file.keys()}
        return Network(json.loads(file.metadata()["network"]), tensors)


def steps(layers):
    """(name of the output, what is computed, names of the inputs) for every operation."""
    outputs = {"image": "image"}
    before = "image"
    for layer in layers:
        name, kind = layer["name"], layer["kind"]
        sources = [outputs[source] for source in layer.get("from") or [before]]
        activation = layer.get("activation", "none")
        between = layer.get("depthwise_activation", activation)
        if layer.get("norm", True) and kind in ("conv", "ds_conv", "mb_conv", "ghost"):
            raise SystemExit(f"layer `{name}`: only convolutions without batch normalisation are known here")
        conv = lambda part, source, kernel, stride, depthwise, act: (
            part,
            Conv(part, source, kernel, stride, depthwise, act),
            [source],
        )
        if kind == "conv":
            yield conv(name, sources[0], layer["kernel"], layer["stride"], False, activation)
            out = name
        elif kind == "ds_conv":
            yield conv(name + ".depthwise", sources[0], layer["kernel"], layer["stride"], True, between)
            out = name + ".pointwise"
            yield conv(out, name + ".depthwise", 1, 1, False, activation)
        elif kind == "mb_conv":
            yield conv(name + ".expand", sources[0], 1, 1, False, activation)
            yield conv(name + ".depthwise", name + ".expand", layer["kernel"], layer["stride"], True, between)
            out = name + ".project"
            yield conv(out, name + ".depthwise", 1, 1, False, layer.get("out_activation", "none"))
        elif kind == "ghost":
            yield conv(name + ".primary", sources[0], layer["kernel"], layer["stride"], False, activation)
            yield conv(name + ".cheap", name + ".primary", 3, 1, True, activation)
            yield name, "concat", [name + ".primary", name + ".cheap"]
            out = name
        elif kind == "slice":
            yield name, Slice(layer["start"], layer["channels"]), sources
            out = name
        elif kind == "detect":
            return
        else:
            yield name, kind, sources
            out = name
        outputs[name], before = out, name


def batches(folder, count, size, pixels, seed=0):
    """`count` batches of `size` random crops of the photographs in `folder`, `[size, 3, pixels, pixels]` in 0-1."""
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    if not paths:
        raise SystemExit(f"{folder} has no photographs")
    rng = random.Random(seed)
    for _ in range(count):
        images = np.full((size, pixels, pixels, 3), GREY, np.uint8)
        for image in images:
            photo = Image.open(rng.choice(paths)).convert("RGB")
            scale = pixels * rng.uniform(0.6, 1.6) / max(photo.size)
            photo = photo.resize([max(1, round(side * scale)) for side in photo.size])
            photo = np.asarray(photo)[:, :: rng.choice((1, -1))]
            height, width = photo.shape[:2]
            top, left = rng.randint(0, max(0, height - pixels)), rng.randint(0, max(0, width - pixels))
            photo = photo[top : top + pixels, left : left + pixels]
            y, x = rng.randint(0, pixels - photo.shape[0]), rng.randint(0, pixels - photo.shape[1])
            image[y : y + photo.shape[0], x : x + photo.shape[1]] = photo
        yield torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
