"""Trains a thin network to answer as its teacher does, in floats or through the rounding of int8 (README.md)."""

import argparse
import math

import torch
from torch.nn import functional as F

import network as nets

STRIDES = (8, 16, 32, 64)
ACTIVATION_MAX = 127  # Activations have 7 bits, weights 8.
CUT = 1e-4  # Share of the activations beyond the range of their bytes.
LARGEST_FACTOR = 256.0
MOVES = ("max_pool", "upsample", "concat")


class Sets:
    """Elements that belong together, joined pair by pair."""

    def __init__(self):
        self.parent = {}

    def root(self, element):
        self.parent.setdefault(element, element)
        while self.parent[element] != element:
            self.parent[element] = element = self.parent[self.parent[element]]
        return element

    def join(self, a, b):
        self.parent[self.root(a)] = self.root(b)


def scales(net):
    """By map, the name of the scale it has in int8: what is only moved shares one."""
    sets = Sets()
    for name, step, sources in net.steps:
        if step in MOVES or isinstance(step, nets.Slice):
            for source in sources:
                sets.join(source, name)
    return {name: sets.root(name) for name, _, _ in net.steps} | {"image": sets.root("image")}


def equalize(net, images):
    """Makes channels that share a scale alike in size, without changing the function: `compress quantize` does the same.
    Returns what the channels of each map were multiplied by."""
    sets, largest, channels = Sets(), {}, {"image": [("image", i) for i in range(3)]}
    heads = {name for pair in net.head() for name in pair}
    for name, step, sources in net.steps:
        if isinstance(step, nets.Conv):
            channels[name] = [(name, i) for i in range(net.channels(name))]
        elif step == "concat":
            channels[name] = [channel for source in sources for channel in channels[source]]
        elif isinstance(step, nets.Slice):
            channels[name] = step.of(channels[sources[0]])
        else:
            channels[name] = channels[sources[0]]
            if step == "add":
                for a, b in zip(*(channels[source] for source in sources)):
                    sets.join(a, b)
    for image in images:
        for name, map_ in net.run(image).items():
            if name != "image":
                for channel, most in zip(channels[name], map_.abs().amax((0, 2, 3)).tolist()):
                    channel = sets.root(channel)
                    largest[channel] = max(largest.get(channel, 0.0), most)
    fixed = {sets.root(channel) for name in heads | {"image"} for channel in channels[name]}
    dense = set()
    for name, conv in net.convs().items():
        if not conv.depthwise:
            dense |= {sets.root(channel) for channel in channels[conv.source]}
    factor = {}
    for name, place in scales(net).items():
        if name == "image":
            continue
        members = [n for n, p in scales(net).items() if p == place and n != "image"]
        most = max(largest[sets.root(channel)] for member in members for channel in channels[member])
        for channel in map(sets.root, channels[name]):
            if channel not in fixed and most > 0:
                possible = most / max(largest[channel], most / LARGEST_FACTOR)
                possible **= 0.5 if channel in dense else 1.0
                factor[channel] = min(factor.get(channel, possible), possible)
    of = {name: torch.tensor([factor.get(sets.root(channel), 1.0) for channel in channels[name]]) for name in channels}
    for name, conv in net.convs().items():
        read = of[conv.source].view((-1, 1, 1, 1) if conv.depthwise else (1, -1, 1, 1))
        net.tensors[name + ".conv.weight"] = net.weight(name) * of[name].view(-1, 1, 1, 1) / read
        net.tensors[name + ".conv.bias"] = net.bias(name) * of[name]
    return of


def ranges(net, images):
    """By scale: the step between two bytes, and the byte of zero."""
    values = {}
    place = scales(net)
    for image in images:
        for name, map_ in net.run(image).items():
            flat = map_.flatten()
            values.setdefault(place[name], []).append(flat[torch.randint(len(flat), (20000,))])
    found = {}
    for name, parts in values.items():
        flat = torch.cat(parts).sort()[0]
        cut = int(CUT / 2 * len(flat))
        low, high = min(flat[cut].item(), 0.0), max(flat[len(flat) - 1 - cut].item(), 0.0)
        step = max(high - low, 1e-9) / ACTIVATION_MAX
        found[name] = (step, round(-low / step))
    found[place["image"]] = (1 / ACTIVATION_MAX, 0)
    return found


class Rounding(nets.Network):
    """The network as int8 computes it, with gradients that pass through the rounding."""

    def __init__(self, net, bytes_of):
        super().__init__(net.description, net.tensors)
        self.bytes_of, self.place = bytes_of, scales(net)
        self.floats = {name for pair in net.head() for name in pair}

    def weight(self, name):
        weight = super().weight(name)
        step = (weight.detach().flatten(1).abs().amax(1) / 127).clamp(min=1e-9)
        return torch.fake_quantize_per_channel_affine(weight, step, torch.zeros_like(step), 0, -127, 127)

    def rounded(self, name, map_):
        if name in self.floats:
            return map_
        return torch.fake_quantize_per_tensor_affine(map_, *self.bytes_of[self.place[name]], 0, ACTIVATION_MAX)

    def on_grid(self):
        """Weights that are multiples of their scale, so that rounding them again changes nothing."""
        return {name: self.weight(name[:-12]) if name.endswith(".conv.weight") else tensor
                for name, tensor in self.tensors.items()}


def decode(net, maps):
    """Class logits `[batch, classes, N]` and boxes `[batch, 4, N]`, corners in pixels."""
    logits, boxes = [], []
    for (sides, scores), stride in zip(net.head(), STRIDES):
        batch, _, height, width = maps[scores].shape
        logits.append(maps[scores].flatten(2))
        bins = maps[sides].view(batch, 4, -1, height * width).softmax(2)
        left, top, right, bottom = ((bins * torch.arange(float(bins.shape[2])).view(1, 1, -1, 1)).sum(2) * stride).unbind(1)
        y, x = torch.meshgrid(torch.arange(height) * stride, torch.arange(width) * stride, indexing="ij")
        x, y = x.flatten(), y.flatten()
        boxes.append(torch.stack([x - left, y - top, x + right, y + bottom], 1))
    return torch.cat(logits, 2), torch.cat(boxes, 2)


def unexplained(ours, theirs):
    """Share of the teacher's map that ours does not explain, over all channels."""
    variance = theirs.var((0, 2, 3), keepdim=True)
    return ((ours - theirs) ** 2 / (variance + 0.05 * variance.mean())).mean()


def score_loss(logits, teacher):
    """Cross-entropy above the teacher's own entropy, weighted by the error (quality focal loss, Li et al. 2020)."""
    target = teacher.sigmoid()
    above = F.softplus(logits) - logits * target - F.softplus(teacher) + teacher * target
    return above * (target + (target - logits.detach().sigmoid()).abs())


def giou_loss(ours, theirs):
    def area(box):
        return (box[:, 2:] - box[:, :2]).clamp(min=0).prod(1)

    inside = (torch.min(ours[:, 2:], theirs[:, 2:]) - torch.max(ours[:, :2], theirs[:, :2])).clamp(min=0).prod(1)
    around = (torch.max(ours[:, 2:], theirs[:, 2:]) - torch.min(ours[:, :2], theirs[:, :2])).prod(1) + 1e-6
    union = area(ours) + area(theirs) - inside + 1e-6
    return 1 - inside / union + (around - union) / around


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teacher", required=True, help="TorchScript module")
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--photos", required=True, help="folder of training photographs; labels are not used")
    parser.add_argument("--images", type=int, required=True, help="how many images to train on")
    parser.add_argument("--rate", type=float, default=7e-4, help="size of a step, as a share of a tensor's own size")
    parser.add_argument("--int8", action="store_true", help="train through the rounding of int8")
    parser.add_argument("--pixels", type=int, default=320)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    teacher = torch.jit.load(args.teacher, map_location="cpu").eval()
    for parameter in teacher.parameters():
        parameter.requires_grad_(False)
    net = nets.read(args.checkpoint)
    hints = {layer["name"]: int(layer["teacher"].split(".")[1]) for layer in net.description["layers"] if "teacher" in layer}
    factors = {}
    if args.int8:
        with torch.no_grad():
            images = list(nets.batches(args.photos, 24, 1, 416, seed=args.seed + 1))
            factors = equalize(net, images)
            net = Rounding(net, ranges(net, images))
    net.tensors = {name: tensor.clone().requires_grad_() for name, tensor in net.tensors.items()}
    average = {name: tensor.detach().clone() for name, tensor in net.tensors.items()}
    # Adam's step has the size of the rate whatever the gradient, so each tensor's rate is a share of its own size.
    sizes = {name: max(tensor.detach().square().mean().sqrt().item(), 0.01 if tensor.dim() > 1 else 0.02)
             for name, tensor in net.tensors.items()}
    optimizer = torch.optim.Adam([{"params": [tensor], "size": sizes[name]} for name, tensor in net.tensors.items()])
    batch, steps = 16, max(args.images // 16, 1)
    for step, images in enumerate(nets.batches(args.photos, steps, batch, args.pixels, seed=args.seed)):
        warm = min(1.0, (step + 1) / 100)
        rate = args.rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["size"]
        with torch.no_grad():
            teacher_logits, teacher_boxes, *inner = teacher.features(images)
        maps = net.run(images)
        logits, boxes = decode(net, maps)
        scale = lambda name: factors[name].view(1, -1, 1, 1) if name in factors else 1.0
        of_maps = sum(unexplained(maps[name] / scale(name), inner[place]) for name, place in hints.items())
        seen = teacher_logits.sigmoid().amax(1)
        seen = seen * (seen > 0.05)
        count = seen.sum() + 1
        of_scores = score_loss(logits, teacher_logits).sum() / count
        of_boxes = (giou_loss(boxes, teacher_boxes) * seen).sum() / count
        loss = 2 * of_maps / max(len(hints), 1) + 1.5 * of_scores + 2 * of_boxes
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(net.tensors.values()), 10.0)
        optimizer.step()
        with torch.no_grad():
            keep = min(0.998, (step + 1) / (step + 10))
            for name, tensor in net.tensors.items():
                average[name].lerp_(tensor, 1 - keep)
        if step % 50 == 0:
            print(f"{step * batch} images: maps {of_maps:.3f}, scores {of_scores:.3f}, boxes {of_boxes:.3f}", flush=True)
    net.tensors = average
    if args.int8:
        net.tensors = net.on_grid()
        # The maps are no longer in the teacher's units.
        for layer in net.description["layers"]:
            layer.pop("teacher", None)
    net.write(args.out)


if __name__ == "__main__":
    main()
