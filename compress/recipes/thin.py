"""Removes channels whose loss the layers that read them can best make up for (README.md)."""

import argparse

import torch

import network as nets

STEP = 8  # Widths stay multiples of this, which processors are fast with.
MOST = 0.45  # At most this share of a width goes in one round.
RIDGE = 1e-4  # Share of the mean square that is added to every channel's.
LEAST_SCORE = 0.05  # Places where the best score is below do not count for boxes.
POSITIONS = 9000  # Of a map that are looked at, a batch.


class Group:
    """Channels that go together: rows of `rows`, whole channels of `depthwise`, columns of `columns`.

    `columns` read the channels themselves, the `pointwise` ones what the depthwise layers make of them."""

    def __init__(self, name, rows, depthwise, columns, pointwise=()):
        self.name, self.rows, self.depthwise = name, rows, depthwise
        self.columns, self.pointwise = columns, list(pointwise)

    def width(self, net):
        return sum(net.channels(row) for row in self.rows)

    def cost(self, net, sides):
        """Multiply-accumulates and parameters of one channel."""
        macs = parameters = 0
        width = self.width(net)
        for row in self.rows:
            share = net.weight(row)[0].numel() * net.channels(row) / width
            macs, parameters = macs + share * sides[row] ** 2, parameters + share
        for name in self.depthwise:
            size = net.weight(name)[0].numel()
            macs, parameters = macs + size * sides[name] ** 2, parameters + size
        for name in self.columns + self.pointwise:
            size = net.channels(name)
            macs, parameters = macs + size * sides[name] ** 2, parameters + size
        return macs, parameters


def groups(net):
    """The widths that may shrink: of expansions, and of the outputs of blocks that only 1x1 convolutions read, or a
    depthwise layer and a 1x1 behind it. Maps that are added or made in halves keep theirs."""
    layers = {layer["name"]: layer for layer in net.description["layers"]}
    convs = net.convs()
    found = []
    for name, layer in layers.items():
        if layer["kind"] == "mb_conv":
            found.append(Group(name + " inside", [name + ".expand"], [name + ".depthwise"], [name + ".project"]))
    for name, step, sources in net.steps:
        if name.endswith(".project") or step == "concat" and name.startswith("down"):
            rows = [name] if name.endswith(".project") else sources
            if name.endswith("r.project"):
                continue  # Half of a concatenation, which is a group itself.
            readers = [(other, conv) for other, conv, inputs in net.steps if name in inputs]
            if any(not isinstance(conv, nets.Conv) or conv.kernel > 1 and not conv.depthwise for _, conv in readers):
                continue
            depthwise = [other for other, conv in readers if conv.depthwise]
            pointwise = [other for other, conv in convs.items() if conv.source in depthwise]
            columns = [other for other, conv in readers if not conv.depthwise]
            if columns:
                found.append(Group(name + " out", rows, depthwise, columns, pointwise))
    return found


def statistics(net, images):
    """Second moments of what every 1x1 convolution reads (with a constant one as the last channel), and the mean squared
    gradient of each of its outputs. The gradients are of random sums of the network's answers, each weighed by how much
    a change of it matters (Gauss-Newton)."""
    moments, gradients, count = {}, {}, 0
    parameters = [tensor.requires_grad_(True) for tensor in net.tensors.values()]
    for image in images:
        outputs = {}

        def watch(name, inputs, out):
            if net.weight(name).shape[2] == 1:
                with torch.no_grad():
                    rows = inputs.permute(0, 2, 3, 1).reshape(-1, inputs.shape[1])
                    rows = rows[torch.randperm(len(rows))[:POSITIONS]].double()
                    rows = torch.cat([rows, torch.ones(len(rows), 1, dtype=torch.float64)], 1)
                    moments[name] = moments.get(name, 0) + rows.T @ rows / len(rows)
                out.retain_grad()
                outputs[name] = out
            return out

        maps = net.run(image, watch)
        total = 0
        for sides, scores in net.head():
            logits = maps[scores]
            probability = logits.detach().sigmoid()
            matters = (probability * (1 - probability)).clamp(min=2e-4).sqrt()
            total = total + (logits * matters * torch.randn_like(logits)).sum()
            batch, bins, height, width = maps[sides].shape
            shares = maps[sides].view(batch, 4, bins // 4, height * width).softmax(2)
            distance = (shares * torch.arange(float(bins // 4)).view(1, 1, -1, 1)).sum(2)
            best = probability.flatten(2).amax(1, keepdim=True)
            seen = (best * (best > LEAST_SCORE)).sqrt()
            total = total + (distance * seen * torch.randn_like(distance)).sum()
        total.backward()
        for name, out in outputs.items():
            gradients[name] = gradients.get(name, 0) + out.grad.double().square().sum((0, 2, 3)) / len(image)
        for tensor in parameters:
            tensor.grad = None
        count += 1
    for tensor in parameters:
        tensor.requires_grad_(False)
    return {name: m / count for name, m in moments.items()}, {name: g / count for name, g in gradients.items()}


def ridged(moment):
    return moment + torch.eye(len(moment), dtype=torch.float64) * RIDGE * moment.diagonal()[:-1].mean()


class Reader:
    """1x1 convolutions that read the same channels, as these go one by one and the others make up for it."""

    def __init__(self, net, names, moments, gradients):
        weight = torch.cat([net.weight(name)[:, :, 0, 0].double() for name in names])
        self.weight = torch.cat([weight, torch.zeros(len(weight), 1, dtype=torch.float64)], 1)
        self.importance = torch.cat([gradients[name] for name in names]).unsqueeze(1)
        self.inverse = torch.linalg.inv(ridged(moments[names[0]]))

    def costs(self):
        """What losing each channel costs."""
        error = (self.weight.square() * self.importance).sum(0) / self.inverse.diagonal().clamp(min=1e-12)
        return error[:-1]

    def remove(self, channel):
        row = self.inverse[channel] / self.inverse[channel, channel]
        self.weight -= torch.outer(self.weight[:, channel], row)
        self.inverse -= torch.outer(self.inverse[:, channel], row)
        self.weight[:, channel] = 0
        self.inverse[channel], self.inverse[:, channel] = 0, 0
        self.inverse[channel, channel] = 1e-12


def removals(group, net, moments, gradients, most):
    """Channels in the order in which they go, and what all up to each cost together."""
    readers = [Reader(net, group.columns, moments, gradients)]
    readers += [Reader(net, [name], moments, gradients) for name in group.pointwise]
    order, costs, total = [], [0.0], 0.0
    for _ in range(most):
        cost = sum(reader.costs() for reader in readers)
        cost[order] = float("inf")
        channel = int(cost.argmin())
        total += float(cost[channel])
        order.append(channel)
        costs.append(total)
        for reader in readers:
            reader.remove(channel)
    return order, costs


def cut(group, gone, net, moments):
    """Removes the channels `gone` and fits the readers again."""
    for name in group.columns + group.pointwise:
        weight = net.weight(name)[:, :, 0, 0].double()
        width = weight.shape[1]
        kept = [channel for channel in range(width) if channel not in gone] + [width]
        moment = ridged(moments[name])
        fitted = torch.linalg.solve(moment[kept][:, kept], moment[kept][:, :width] @ weight.T).T
        net.tensors[name + ".conv.weight"] = fitted[:, :-1, None, None].float().contiguous()
        net.tensors[name + ".conv.bias"] = (net.bias(name).double() + fitted[:, -1]).float()
    at = 0
    for name in group.depthwise + group.rows:
        first = at if name in group.rows else 0
        kept = [channel for channel in range(net.channels(name)) if channel + first not in gone]
        at += net.channels(name) if name in group.rows else 0
        for part in ("weight", "bias"):
            net.tensors[f"{name}.conv.{part}"] = net.tensors[f"{name}.conv.{part}"][kept]


def thin(net, target, images, budget, size_share):
    """One round: the channels that cost least for what they save, until `target` multiply-accumulates are left."""
    moments, gradients = statistics(net, images)
    sides = net.sides(416)
    choices = []
    for group in groups(net):
        width = group.width(net)
        odd = width % STEP
        most = min(int(width * MOST) // STEP * STEP + odd, width - STEP)
        if most > 0:
            order, costs = removals(group, net, moments, gradients, most)
            choices.append({"group": group, "order": order, "costs": costs, "gone": 0, "odd": odd})
    saved, goal = 0.0, net.cost()[1] - target
    while saved < goal:
        best = None
        for choice in choices:
            step = STEP if choice["gone"] or not choice["odd"] else choice["odd"]
            gone = choice["gone"] + step
            if gone >= len(choice["costs"]):
                continue
            macs, parameters = choice["group"].cost(net, sides)
            saving = step * (macs / budget[1] + size_share * parameters / budget[0])
            price = (choice["costs"][gone] - choice["costs"][choice["gone"]]) / saving
            if best is None or price < best[0]:
                best = (price, choice, gone, step * macs)
        if best is None:
            break
        best[1]["gone"] = best[2]
        # Rows and columns of one convolution save their common part once.
        saved += 0.85 * best[3]
    for choice in choices:
        if choice["gone"]:
            cut(choice["group"], set(choice["order"][: choice["gone"]]), net, moments)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--photos", required=True, help="folder of training photographs")
    parser.add_argument("--gmac", type=float, required=True, help="multiply-accumulates at 416 px to end with, in 1e9")
    parser.add_argument("--rounds", type=int, default=4, help="statistics are taken again for each")
    parser.add_argument("--images", type=int, default=192, help="photographs a round")
    parser.add_argument("--size-share", type=float, default=0.12, help="what a parameter counts beside its MACs")
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    torch.manual_seed(0)
    net = nets.read(args.checkpoint)
    first, target = net.cost()[1], args.gmac * 1e9
    for index in range(1, args.rounds + 1):
        goal = first * (target / first) ** (index / args.rounds)
        images = nets.batches(args.photos, args.images // 16, 16, 320, seed=index)
        thin(net, goal, images, (2.56e6, 1.09e9), args.size_share)
        parameters, macs = net.cost()
        print(f"round {index}: {parameters / 1e6:.3f} M parameters, {macs / 1e9:.3f} GMAC at 416", flush=True)
    net.write(args.out)


if __name__ == "__main__":
    main()
