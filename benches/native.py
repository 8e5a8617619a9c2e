"""How long a frame takes natively, beside onnxruntime: `cargo xtask bench --native`.

    pip install onnx onnxruntime
    cargo xtask bench --native [--models DIR] [--sizes 416,320,256] [--networks micro-yolo,micro-yolo-s]
                               [--rounds 30] [--tract]

Both run on one thread and take turns frame by frame. A frame of ours is `detect`, with letterbox, decoding and
suppression; one of onnxruntime is `session.run` on a tensor that is ready. `--tract` measures tract-onnx, the crate, in
place of onnxruntime.
"""

import argparse
import os
import pathlib
import subprocess
import time

import numpy as np
import onnxruntime

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")


class Ours:
    def __init__(self, program, model, size, *runtime):
        command = [program, model, str(size), *runtime]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def frame(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Onnxruntime:
    def __init__(self, model, size):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.name = self.session.get_inputs()[0].name
        self.picture = np.random.default_rng(3).random((1, 3, size, size), dtype=np.float32)

    def frame(self):
        start = time.perf_counter()
        self.session.run(None, {self.name: self.picture})
        return (time.perf_counter() - start) * 1e3

    def close(self):
        pass


def measure(program, model, size, rounds, tract):
    """Milliseconds of a frame, one row for each round: the other runtime, ours."""
    other = Ours(program, model, size, "tract") if tract else Onnxruntime(model, size)
    runtimes = [other, Ours(program, model, size)]
    try:
        for _ in range(5):
            [runtime.frame() for runtime in runtimes]
        return np.array([[runtime.frame() for runtime in runtimes] for _ in range(rounds)])
    finally:
        [runtime.close() for runtime in runtimes]


def processor():
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--models", type=pathlib.Path, default=TARGET / "bench-models")
    arguments.add_argument("--sizes", default="416,320,256")
    arguments.add_argument("--networks", default="micro-yolo,micro-yolo-s")
    arguments.add_argument("--rounds", type=int, default=30)
    arguments.add_argument("--program", type=pathlib.Path, default=TARGET / "release/examples/native")
    arguments.add_argument("--tract", action="store_true")
    arguments = arguments.parse_args()

    print(f"{processor()}, onnxruntime {onnxruntime.__version__}, one thread, {arguments.rounds} rounds, milliseconds")
    columns = ["network", "size", "kind", "tract" if arguments.tract else "onnxruntime", "ours", "ratio", "best", "ours", "ratio"]
    print("{:<14}{:>5} {:<6}{:>12}{:>9}{:>7}{:>12}{:>9}{:>7}".format(*columns))
    for network in arguments.networks.split(","):
        for size in map(int, arguments.sizes.split(",")):
            for kind in ("float", "int8"):
                model = arguments.models / f"{network}-{size}{'' if kind == 'float' else '-int8'}.onnx"
                if not model.exists():
                    print(f"{model} is missing: left out")
                    continue
                times = measure(arguments.program, model, size, arguments.rounds, arguments.tract)
                row = f"{network:<14}{size:>5} {kind:<6}"
                for theirs, ours in (np.median(times, 0), times.min(0)):
                    row += f"{theirs:12.1f}{ours:9.1f}{theirs / ours:7.2f}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
