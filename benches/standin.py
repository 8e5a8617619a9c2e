"""Writes stand-in detectors of micro-yolo's shape with random weights: float and QDQ int8.

    python standin.py OUT_DIR [--size 416]

Beside them, as released-SIZE.onnx and released-SIZE-int8.onnx, it puts the models of models/ with another input size
declared, which other runtimes insist on.

They time and check the engine before a trained model exists; nothing they detect means anything.
The float file follows the project's export (Conv with folded batch norm, Clip, squeeze-and-excitation,
nearest Resize, Concat, decoded heads); the int8 file is the same graph in QDQ form with unsigned
7-bit activations (0..127), signed 8-bit weights per output channel and int32 biases.
"""
import argparse, json, pathlib
import numpy as np, onnx, onnxruntime as ort
from onnx import helper as oh, numpy_helper as nh, TensorProto as TP

ACTIVATION_MAX = 127
MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"


class Graph:
    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.inits, self.n = [], [], 0

    def const(self, array, name=None):
        name = name or f"c{len(self.inits)}"
        self.inits.append(nh.from_array(np.asarray(array), name))
        return name

    def op(self, kind, inputs, **attrs):
        self.n += 1
        out = f"{kind.lower()}_{self.n}"
        self.nodes.append(oh.make_node(kind, inputs, [out], name=out, **attrs))
        return out

    def conv(self, x, cin, cout, k=1, s=1, group=1, act="relu6", gain=None):
        fan = k * k * cin // group
        gain = gain if gain is not None else (2.0 if act else 1.0)
        w = self.rng.normal(0, np.sqrt(gain / fan), (cout, cin // group, k, k)).astype(np.float32)
        b = self.rng.normal(0.1, 0.1, cout).astype(np.float32)
        p = k // 2
        y = self.op("Conv", [x, self.const(w), self.const(b)], kernel_shape=[k, k], strides=[s, s],
                    pads=[p, p, p, p], group=group, dilations=[1, 1])
        return self.act(y, act)

    def act(self, y, act):
        if act == "relu6":
            return self.op("Clip", [y, self.const(np.float32(0)), self.const(np.float32(6))])
        if act == "relu":
            return self.op("Relu", [y])
        if act == "hardswish":
            return self.op("HardSwish", [y])
        if act == "silu":
            return self.op("Mul", [y, self.op("Sigmoid", [y])])
        if act == "leaky":
            return self.op("LeakyRelu", [y], alpha=0.1)
        return y

    def ds(self, x, cin, cout, k=3, s=1, act="relu6"):
        return self.conv(self.conv(x, cin, cin, k, s, group=cin, act=act), cin, cout, act=act)

    def se(self, x, c, reduction):
        m = self.op("GlobalAveragePool", [x])
        m = self.conv(m, c, c // reduction, act="relu")
        m = self.conv(m, c // reduction, c, act=None)
        m = self.op("HardSigmoid", [m], alpha=1 / 6, beta=0.5)
        return self.op("Mul", [x, m])

    def mbconv(self, x, cin, cout, expand, k, se=4):
        y = self.conv(x, cin, expand)
        y = self.conv(y, expand, expand, k, group=expand)
        y = self.se(y, expand, se)
        return self.conv(y, expand, cout, act=None)

    def up(self, x):
        return self.op("Resize", [x, "", self.const(np.array([1, 1, 2, 2], np.float32))], mode="nearest",
                       coordinate_transformation_mode="asymmetric", nearest_mode="floor")


def head(g, x, c, h, w, stride, classes):
    """Anchor-free head: class logits and box distances at one stride, decoded to cx,cy,w,h."""
    def branch(cout):
        y = g.ds(x, c, c, 5)
        y = g.ds(y, c, c, 5)
        return g.conv(y, c, cout, act=None)
    cls = g.op("Sigmoid", [branch(classes)])
    box = branch(4)
    n = h * w
    shape = g.const(np.array([1, -1, n], np.int64))
    cls, box = g.op("Reshape", [cls, shape]), g.op("Reshape", [box, g.const(np.array([1, 4, n], np.int64))])
    ys, xs = np.mgrid[0:h, 0:w].astype(np.float32)
    grid = np.stack([xs.ravel(), ys.ravel()])[None]
    xy = g.op("Slice", [box, g.const(np.array([0])), g.const(np.array([2])), g.const(np.array([1]))])
    wh = g.op("Slice", [box, g.const(np.array([2])), g.const(np.array([4])), g.const(np.array([1]))])
    xy = g.op("Add", [g.op("Sigmoid", [xy]), g.const(grid)])
    wh = g.op("Exp", [g.op("Clip", [wh, "", g.const(np.float32(4))])])
    s = g.const(np.float32(stride))
    return g.op("Concat", [g.op("Mul", [xy, s]), g.op("Mul", [wh, s]), cls], axis=1)


def micro_yolo(size, classes=80, act="relu6"):
    g = Graph(7)
    x = g.conv("images", 3, 16, 3, 2, act=act)
    for cin, cout, s in [(16, 32, 1), (32, 64, 2), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2)] + [(256, 256, 1)] * 5:
        x = g.ds(x, cin, cout, 3, s, act)
    p4 = x
    x = g.ds(x, 256, 512, 3, 2, act)
    x = g.ds(x, 512, 512, 3, 1, act)
    x = g.mbconv(x, 512, 160, 640, 5)
    p5 = g.conv(x, 160, 160, act=act)
    y = g.op("Concat", [g.up(p5), p4], axis=1)
    y = g.ds(y, 416, 192, 5, 1, act)
    h = size // 16
    out = g.op("Concat", [head(g, y, 192, h, h, 16, classes), head(g, p5, 160, h // 2, h // 2, 32, classes)], axis=2)
    g.nodes[-1].output[0] = "output0"
    return model(g, size, [1, 4 + classes, h * h + h * h // 4])


def yolov3_tiny(size, classes=80):
    g = Graph(8)
    x, c = "images", 3
    route = None
    for i, cout in enumerate([16, 32, 64, 128, 256, 512]):
        x = g.conv(x, c, cout, 3, act="leaky")
        c = cout
        if cout == 256:
            route = x
        s = 2 if i < 5 else 1
        x = g.op("MaxPool", [x], kernel_shape=[2, 2], strides=[s, s], pads=[0, 0, 0, 0] if s == 2 else [0, 0, 1, 1])
    x = g.conv(x, 512, 1024, 3, act="leaky")
    t = g.conv(x, 1024, 256, 1, act="leaky")
    a = g.conv(g.conv(t, 256, 512, 3, act="leaky"), 512, 255, 1, act=None)
    u = g.up(g.conv(t, 256, 128, 1, act="leaky"))
    b = g.op("Concat", [u, route], axis=1)
    b = g.conv(g.conv(b, 384, 256, 3, act="leaky"), 256, 255, 1, act=None)
    outs, h = [], size // 32
    for y, n in ((a, h), (b, 2 * h)):
        y = g.op("Reshape", [y, g.const(np.array([1, 3, 85, n * n], np.int64))])
        y = g.op("Transpose", [g.op("Sigmoid", [y])], perm=[0, 1, 3, 2])
        outs.append(g.op("Reshape", [y, g.const(np.array([1, 3 * n * n, 85], np.int64))]))
    g.op("Concat", outs, axis=1)
    g.nodes[-1].output[0] = "output0"
    return model(g, size, [1, 15 * h * h, 85])


def model(g, size, out_shape):
    graph = oh.make_graph(g.nodes, "standin",
                          [oh.make_tensor_value_info("images", TP.FLOAT, [1, 3, size, size])],
                          [oh.make_tensor_value_info("output0", TP.FLOAT, out_shape)], g.inits)
    m = oh.make_model(graph, opset_imports=[oh.make_opsetid("", 17)], ir_version=8)
    names = {i: f"class{i}" for i in range(80)}
    oh.set_model_props(m, {"names": json.dumps({str(k): v for k, v in names.items()}), "stride": "32",
                           "imgsz": f"[{size}, {size}]", "task": "detect"})
    onnx.checker.check_model(m)
    return m


def pictures(size, count=4):
    """Smooth random pictures: enough structure that activations are spread as with photographs."""
    rng = np.random.default_rng(3)
    for _ in range(count):
        coarse = rng.random((3, size // 16, size // 16), dtype=np.float32)
        fine = rng.random((3, size // 4, size // 4), dtype=np.float32)
        yield (0.6 * coarse.repeat(16, 1).repeat(16, 2) + 0.4 * fine.repeat(4, 1).repeat(4, 2))[None]


def quantize(m, size):
    """QDQ int8 twin of a float model: every convolution input 7-bit unsigned, heads left in float."""
    inits = {i.name: nh.to_array(i) for i in m.graph.initializer}
    probe = onnx.ModelProto(); probe.CopyFrom(m)
    values = [o for n in m.graph.node for o in n.output]
    del probe.graph.output[:]
    probe.graph.output.extend(oh.make_tensor_value_info(v, TP.FLOAT, None) for v in values)
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    low, high = {"images": 0.0}, {"images": 1.0}
    for picture in pictures(size):
        for name, array in zip(values, session.run(values, {"images": picture})):
            if array.dtype == np.float32 and array.size:
                low[name] = min(low.get(name, 0.0), float(array.min()))
                high[name] = max(high.get(name, 0.0), float(array.max()))
    consumers = {}
    for n in m.graph.node:
        for i in n.input:
            consumers.setdefault(i, []).append(n)
    keep = ("Conv", "Clip", "Relu", "LeakyRelu", "GlobalAveragePool", "Mul", "HardSigmoid", "Concat", "Resize", "MaxPool", "HardSwish")
    # Where a value is quantised: inputs of convolutions and of what joins them, never inside the heads' decode
    quantised, nodes, new = set(), [], dict(inits)
    conv_in = {n.input[0] for n in m.graph.node if n.op_type == "Conv"}
    def wanted(v, seen=()):
        return v in conv_in or any(n.op_type in ("Concat", "Resize", "MaxPool") and n.output[0] != "output0" and wanted(n.output[0]) for n in consumers.get(v, []))
    producers = {o: n for n in m.graph.node for o in n.output}
    want = {v for v in ["images"] + values if wanted(v)}
    scales = {}
    def params(v):
        lo, hi = min(low[v], 0.0), max(high[v], 1e-3)
        p = producers.get(v)
        if p is not None and p.op_type == "Clip" and v in want:
            lo, hi = 0.0, min(hi, 6.0)
        s = np.float32((hi - lo) / ACTIVATION_MAX)
        return s, np.uint8(np.clip(np.rint(-lo / s), 0, ACTIVATION_MAX))
    # Values joined without arithmetic share one scale
    def root(v):
        n = producers.get(v)
        return n
    group = {}
    def find(v):
        while group.get(v, v) != v:
            v = group[v]
        return v
    for n in m.graph.node:
        if n.op_type in ("Concat", "Resize", "MaxPool") and n.output[0] in want:
            ins = n.input if n.op_type == "Concat" else n.input[:1]
            for i in ins:
                group[find(i)] = find(n.output[0])
    members = {}
    for v in want:
        members.setdefault(find(v), []).append(v)
    for vs in members.values():
        ps = [params(v) for v in vs]
        lo = min(-float(s) * int(z) for s, z in ps); hi = max(float(s) * (ACTIVATION_MAX - int(z)) for s, z in ps)
        s = np.float32((hi - lo) / ACTIVATION_MAX)
        for v in vs:
            scales[v] = (s, np.uint8(np.clip(np.rint(-lo / s), 0, ACTIVATION_MAX)))
    deq = {}
    def qdq(v):
        s, z = scales[v]
        new[v + "_s"], new[v + "_z"] = s, z
        src = v
        lo, hi = np.float32(-float(s) * int(z)), np.float32(float(s) * (ACTIVATION_MAX - int(z)))
        p = producers.get(v)
        bounded = p is not None and p.op_type in ("Concat", "Resize", "MaxPool")
        if not bounded:
            new[v + "_lo"], new[v + "_hi"] = lo, hi
            nodes.append(oh.make_node("Clip", [v, v + "_lo", v + "_hi"], [v + "_c"], name=v + "_clip7"))
            src = v + "_c"
        nodes.append(oh.make_node("QuantizeLinear", [src, v + "_s", v + "_z"], [v + "_q"], name=v + "_quantize"))
        nodes.append(oh.make_node("DequantizeLinear", [v + "_q", v + "_s", v + "_z"], [v + "_d"], name=v + "_dequantize"))
        deq[v] = v + "_d"
    if "images" in want:
        qdq("images")
    for n in m.graph.node:
        n2 = onnx.NodeProto(); n2.CopyFrom(n)
        for k, i in enumerate(n.input):
            if i in deq:
                n2.input[k] = deq[i]
        if n.op_type == "Conv":
            x = n.input[0]
            w, b = inits[n.input[1]], inits[n.input[2]]
            ws = np.maximum(np.abs(w).reshape(w.shape[0], -1).max(1), 1e-8) / 127
            ws = ws.astype(np.float32)
            wq = np.clip(np.rint(w / ws[:, None, None, None]), -127, 127).astype(np.int8)
            bs = (ws * scales[x][0]).astype(np.float32)
            bq = np.rint(b / bs).astype(np.int32)
            t = n.name
            new[t + "_wq"], new[t + "_ws"], new[t + "_wz"] = wq, ws, np.zeros(len(ws), np.int8)
            new[t + "_bq"], new[t + "_bs"], new[t + "_bz"] = bq, bs, np.zeros(len(ws), np.int32)
            nodes.append(oh.make_node("DequantizeLinear", [t + "_wq", t + "_ws", t + "_wz"], [t + "_w"], name=t + "_wd", axis=0))
            nodes.append(oh.make_node("DequantizeLinear", [t + "_bq", t + "_bs", t + "_bz"], [t + "_b"], name=t + "_bd", axis=0))
            n2.input[1], n2.input[2] = t + "_w", t + "_b"
        nodes.append(n2)
        for o in n.output:
            if o in want:
                qdq(o)
    used = {i for n in nodes for i in n.input}
    g = oh.make_graph(nodes, "standin-int8", m.graph.input, m.graph.output,
                      [nh.from_array(np.asarray(v), k) for k, v in new.items() if k in used])
    q = oh.make_model(g, opset_imports=[oh.make_opsetid("", 17)], ir_version=8)
    oh.set_model_props(q, {p.key: p.value for p in m.metadata_props})
    onnx.checker.check_model(q)
    return q


def released(out, size):
    """The trained models for another size: they work out their shapes from the input's."""
    for kind in ("", "-int8"):
        m = onnx.load(MODELS / f"micro-yolo{kind}.onnx")
        shape = m.graph.input[0].type.tensor_type.shape.dim
        places = m.graph.output[0].type.tensor_type.shape.dim[2]
        places.dim_value = places.dim_value * size**2 // (shape[2].dim_value * shape[3].dim_value)
        shape[2].dim_value = shape[3].dim_value = size
        onnx.checker.check_model(m)
        onnx.save(m, out / f"released-{size}{kind}.onnx")


def main():
    args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    args.add_argument("out", type=pathlib.Path)
    args.add_argument("--size", type=int, nargs="+", default=[416])
    args = args.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for size in args.size:
        released(args.out, size)
        for name, make in (("micro-yolo", micro_yolo), ("yolov3-tiny", yolov3_tiny)):
            m = make(size)
            onnx.save(m, args.out / f"{name}-{size}.onnx")
            q = quantize(m, size)
            onnx.save(q, args.out / f"{name}-{size}-int8.onnx")
            a, b = (ort.InferenceSession(x.SerializeToString(), providers=["CPUExecutionProvider"]) for x in (m, q))
            x = next(pictures(size))
            ya, yb = a.run(None, {"images": x})[0], b.run(None, {"images": x})[0]
            print(name, size, ya.shape, "params", sum(nh.to_array(i).size for i in m.graph.initializer), "int8 mean abs diff", float(np.abs(ya - yb)[:, 4:].mean()), float(ya[:, 4:].std()))


main()
