"""NanoDet-Plus-m as chains of MBConv and DSConv: the same function without split, shuffle or residual (README.md)."""

import argparse
import json

import torch

import network as nets

LEAKY = "leaky_relu"
STRIDES = (8, 16, 32, 64)
# What the module's file calls the convolutions of a stage: left branch, right branch, then the units.
STAGES = (
    (("convdw_162", "convrelu_3"), ("convrelu_1", "convdw_163", "convrelu_2"), (4, 164, 3)),
    (("convdw_167", "convrelu_12"), ("convrelu_10", "convdw_168", "convrelu_11"), (13, 169, 7)),
    (("convdw_176", "convrelu_29"), ("convrelu_27", "convdw_177", "convrelu_28"), (30, 178, 3)),
)
GHOSTS = {
    "top16": ("convrelu_38", "convdwrelu_0", "conv_56", "convdw_182", "convdw_183", "conv_57"),
    "top8": ("convrelu_40", "convdwrelu_1", "conv_59", "convdw_185", "convdw_186", "conv_60"),
    "bottom16": ("convrelu_42", "convdwrelu_3", "conv_63", "convdw_189", "convdw_190", "conv_64"),
    "bottom32": ("convrelu_44", "convdwrelu_5", "conv_67", "convdw_193", "convdw_194", "conv_68"),
}
HEADS = (
    ("convdwrelu_8", "convrelu_47", "convdwrelu_9", "convrelu_54", "conv_73"),
    ("convdwrelu_10", "convrelu_48", "convdwrelu_11", "convrelu_53", "conv_76"),
    ("convdwrelu_12", "convrelu_49", "convdwrelu_13", "convrelu_52", "conv_79"),
    ("convdwrelu_14", "convrelu_50", "convdwrelu_15", "convrelu_51", "conv_82"),
)
# The least value of a copied channel that was seen lies this much above the one that is allowed for.
MARGIN = 1.15


class Builder:
    """Collects layers and tensors."""

    def __init__(self, module):
        self.parameters = {name: p.detach() for name, p in module.named_parameters()}
        self.mean, self.std = (getattr(module.core.n, name).flatten() for name in ("mean", "std"))
        self.layers, self.tensors = [], {}

    def teacher(self, name):
        return tuple(self.parameters[f"core.n.m.{name}.{part}"] for part in ("weight", "bias"))

    def put(self, name, pair):
        self.tensors[name + ".conv.weight"], self.tensors[name + ".conv.bias"] = pair

    def layer(self, name, kind, sources, **fields):
        self.layers.append({"name": name, "from": sources, "kind": kind, **fields})
        return name

    def conv(self, name, source, pair, stride=1, activation=LEAKY):
        self.put(name, pair)
        fields = {"out": len(pair[1]), "kernel": pair[0].shape[2], "stride": stride, "activation": activation}
        return self.layer(name, "conv", [source], **fields, norm=False)

    def ds_conv(self, name, source, depthwise, pointwise, stride=1, activation=LEAKY, between=None):
        self.put(name + ".depthwise", depthwise)
        self.put(name + ".pointwise", pointwise)
        fields = {"out": len(pointwise[1]), "kernel": depthwise[0].shape[2], "stride": stride, "activation": activation}
        if between is not None:
            fields["depthwise_activation"] = between
        return self.layer(name, "ds_conv", [source], **fields, norm=False)

    def mb_conv(self, name, source, expand, depthwise, project, stride=1):
        for part, pair in (("expand", expand), ("depthwise", depthwise), ("project", project)):
            self.put(f"{name}.{part}", pair)
        fields = {"expansion": len(expand[1]), "out": len(project[1]), "kernel": depthwise[0].shape[2], "stride": stride}
        fields |= {"squeeze": 0, "activation": LEAKY, "depthwise_activation": "none", "out_activation": LEAKY}
        return self.layer(name, "mb_conv", [source], **fields, norm=False)

    def ghost_block(self, name, source):
        """Two Ghost modules, and a DSConv beside them whose output is added."""
        primary1, cheap1, primary2, cheap2, depthwise, pointwise = map(self.teacher, GHOSTS[name])
        for part, primary, cheap in (("a", primary1, cheap1), ("b", primary2, cheap2)):
            self.put(f"{name}{part}.primary", primary)
            self.put(f"{name}{part}.cheap", cheap)
        fields = {"out": 2 * len(primary1[1]), "kernel": 1, "stride": 1}
        self.layer(name + "a", "ghost", [source], **fields, activation=LEAKY, norm=False)
        self.layer(name + "b", "ghost", [name + "a"], **fields, activation="none", norm=False)
        self.ds_conv(name + "s", source, depthwise, pointwise, activation="none")
        return self.layer(name, "add", [name + "b", name + "s"])


def stem(build):
    """The first convolution, for RGB in 0-1 instead of normalised BGR in 0-255."""
    weight, bias = build.teacher("convrelu_0")
    shift = (weight * (build.mean / build.std).view(1, 3, 1, 1)).sum((1, 2, 3))
    return weight.flip(1) * 255 / build.std.flip(0).view(1, 3, 1, 1), bias - shift


def behind(pair, offset):
    """A 1x1 convolution that reads channels with a constant added."""
    return pair[0], pair[1] - pair[0][:, :, 0, 0] @ offset


def unit(build, name, source, offset, order, branch, least):
    """A unit as an MBConv. `order` says which of the teacher's channels each channel of the source is, `offset` what is
    added to the teacher's. Returns the output's name and offset."""
    expand, depthwise, project = map(build.teacher, branch)
    half = len(project[1])
    copied = (-MARGIN * least[:half]).clamp(min=0)
    weight, bias = torch.zeros(2 * half, 2 * half, 1, 1), torch.zeros(2 * half)
    weight[:half, :half, 0, 0] = torch.eye(half)
    bias[:half] = copied - offset[:half]
    weight[half:, half:], bias[half:] = expand[0], behind(expand, offset[half:])[1]
    kernel, kernel_bias = torch.zeros(2 * half, 1, 3, 3), torch.zeros(2 * half)
    kernel[:half, 0, 1, 1] = 1
    kernel[half:], kernel_bias[half:] = depthwise
    # The shuffle: copied channels become the even ones.
    out, out_bias = torch.zeros(2 * half, 2 * half, 1, 1), torch.zeros(2 * half)
    out[0::2, :half, 0, 0] = torch.eye(half)
    out[1::2, half:], out_bias[1::2] = project
    build.mb_conv(name, source, (weight[:, order], bias), (kernel, kernel_bias), (out, out_bias))
    added = torch.zeros(2 * half)
    added[0::2] = copied
    return name, added


def chain(module, least):
    """The network; `least` has the least values of each unit's input by the unit's name, in the teacher's terms."""
    build = Builder(module)
    source = build.conv("stem", "image", stem(build), 2)
    source = build.layer("pool", "max_pool", [source], kernel=3, stride=2, padding="both")
    stages = []
    for number, (left, right, (first, first_depthwise, units)) in enumerate(STAGES, 2):
        name = f"down{number}"
        depthwise, pointwise = map(build.teacher, left)
        build.ds_conv(name + "l", source, depthwise, pointwise, 2, between="none")
        build.mb_conv(name + "r", source, *map(build.teacher, right), stride=2)
        source = build.layer(name, "concat", [name + "l", name + "r"])
        channels = 2 * len(pointwise[1])
        offset = torch.zeros(channels)
        order = torch.cat([torch.arange(0, channels, 2), torch.arange(1, channels, 2)])
        for index in range(units):
            name = f"block{number}_{index + 1}"
            branch = (f"convrelu_{first + 2 * index}", f"convdw_{first_depthwise + index}", f"convrelu_{first + 2 * index + 1}")
            # A depthwise layer pads its input with zeros, so what one reads must have nothing added.
            read_by_depthwise = index + 1 == units and number < 4
            known = torch.zeros(channels) if read_by_depthwise else least.get(name, torch.zeros(channels))
            source, offset = unit(build, name, source, offset, order, branch, known)
            order = torch.arange(channels)
        stages.append((source, offset))
    laterals = {}
    for stride, name, (source, offset) in zip((8, 16, 32), ("convrelu_39", "convrelu_37", "convrelu_36"), stages):
        laterals[stride] = build.conv(f"lateral{stride}", source, behind(build.teacher(name), offset))
    up = lambda name, source: build.layer(name, "upsample", [source], factor=2, mode="bilinear")
    join = lambda name, *sources: build.layer(name, "concat", list(sources))
    shrink = lambda name, source, d, p: build.ds_conv(name, source, build.teacher(d), build.teacher(p), 2)
    top16 = build.ghost_block("top16", join("join16", up("up32", laterals[32]), laterals[16]))
    top8 = build.ghost_block("top8", join("join8", up("up16", top16), laterals[8]))
    down = shrink("shrink8", top8, "convdwrelu_2", "convrelu_41")
    bottom16 = build.ghost_block("bottom16", join("joinb16", down, top16))
    down = shrink("shrink16", bottom16, "convdwrelu_4", "convrelu_43")
    bottom32 = build.ghost_block("bottom32", join("joinb32", down, laterals[32]))
    extra = shrink("extra64", laterals[32], "convdwrelu_6", "convrelu_46")
    down = shrink("shrink32", bottom32, "convdwrelu_7", "convrelu_45")
    bottom64 = build.layer("bottom64", "add", [extra, down])
    maps = []
    for index, (stride, source, names) in enumerate(zip(STRIDES, (top8, bottom16, bottom32, bottom64), HEADS)):
        # `features` of the module gives three maps of its backbone, then these.
        next(layer for layer in build.layers if layer["name"] == source)["teacher"] = f"features.{3 + index}"
        d1, p1, d2, p2, (weight, bias) = map(build.teacher, names)
        source = build.ds_conv(f"head{stride}b", build.ds_conv(f"head{stride}a", source, d1, p1), d2, p2)
        classes = len(bias) - 32
        maps.append(build.conv(f"sides{stride}", source, (weight[classes:], bias[classes:]), activation="none"))
        maps.append(build.conv(f"scores{stride}", source, (weight[:classes], bias[:classes]), activation="none"))
    build.layer("detect", "detect", maps, head="distribution", bins=8, offset=0.0)
    description = {"name": "micro_yolo_chain", "classes": classes, "layers": build.layers}
    return nets.Network(description, build.tensors)


def least_values(module, images):
    """The least value of each channel of each unit's input, by the unit's name, in the teacher's terms."""
    net = chain(module, {})
    units = [layer for layer in net.description["layers"] if layer["name"].startswith("block")]
    least = {}
    for image in images:
        maps = net.run(image)
        for layer in units:
            source = layer["from"][0]
            seen = maps[source if source in maps else source + ".project"].amin((0, 2, 3))
            if source.startswith("down"):
                seen = torch.stack(seen.chunk(2), 1).flatten()  # A concatenation of what the teacher shuffles.
            name = layer["name"]
            least[name] = torch.minimum(least[name], seen) if name in least else seen
    return least


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True, help="nanodet-plus-m.pt")
    parser.add_argument("--photos", required=True, help="folder of training photographs")
    parser.add_argument("--names", help="JSON list of the class names")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    module = torch.jit.load(args.teacher, map_location="cpu").eval()
    with torch.no_grad():
        least = least_values(module, nets.batches(args.photos, 4, 16, 320))
        net = chain(module, least)
        if args.names:
            net.description["names"] = json.load(open(args.names))
        image = next(iter(nets.batches(args.photos, 1, 8, 320, seed=1)))
        maps, answer = net.run(image), module(image)
        logits = torch.cat([maps[scores].flatten(2) for _, scores in net.head()], 2)
        error = (logits - answer[0]).square().mean() / answer[0].var()
    parameters, macs = net.cost()
    print(f"{parameters / 1e6:.2f} M parameters, {macs / 1e9:.2f} GMAC at 416; {error:.1%} of the logits' variance differs")
    net.write(args.out)


if __name__ == "__main__":
    main()
