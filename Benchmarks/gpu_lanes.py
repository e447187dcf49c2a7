#!/usr/bin/env python3
"""Measure on an NVIDIA GPU what branches on auxiliary streams gain: engines of one model for 0, 1, 2, … streams, in turns.

Models: blocks of four branches as GoogLeNet has them (batches of 1 and 8), ResNet-50, two encoders side by side, chains of small
products, and any ONNX file given. Outputs of every engine, run at once, recorded, and with a wait after each step, must equal those of the
engine with one stream bit for bit. From the chains comes what a fork and a join take. OUT/lanes.json and OUT/lanes.md are written
after each model. Needs torch, torchvision, onnx and numpy.
"""
from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper, save

sys.path.insert(0, str(Path(__file__).resolve().parent))
import gpu_speed

ROUNDS = 5


# ---- models -------------------------------------------------------------------------------------------------------------


class Net:
    """An ONNX graph in f16 with random weights."""

    def __init__(self, seed: int):
        self.nodes, self.constants, self.random = [], [], np.random.default_rng(seed)

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: np.ndarray) -> str:
        name = f"w{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def weight(self, *shape: int, fan: int | None = None) -> str:
        fan = fan or int(np.prod(shape[1:]))
        return self.constant((self.random.standard_normal(shape) * (2.0 / fan) ** 0.5).astype(np.float16))

    def convolution(self, x: str, inputs: int, outputs: int, kernel: int, stride: int = 1) -> str:
        y = self.op("Conv", x, self.weight(outputs, inputs, kernel, kernel), self.constant(np.zeros(outputs, np.float16)),
                    kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)
        return self.op("Relu", y)

    def linear(self, x: str, inputs: int, outputs: int) -> str:
        product = self.op("MatMul", x, self.weight(inputs, outputs, fan=inputs))
        return self.op("Add", product, self.constant(np.zeros(outputs, np.float16)))

    def norm(self, x: str, width: int) -> str:
        ones, zeros = self.constant(np.ones(width, np.float16)), self.constant(np.zeros(width, np.float16))
        return self.op("LayerNormalization", x, ones, zeros, axis=-1)

    def save(self, path: Path, inputs: dict[str, list[int]], output: str) -> Path:
        graph = helper.make_graph(
            self.nodes, path.stem, [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT16, None)], self.constants)
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
        return path


def inception(path: Path, batch: int) -> Path:
    """Blocks of four branches: 1x1, 1x1-3x3, 1x1-3x3-3x3, pool-1x1."""
    net = Net(1)
    x, channels = net.convolution(net.convolution("x", 3, 64, 7, 2), 64, 192, 3, 2), 192
    for block in range(6):
        a = net.convolution(x, channels, 128, 1)
        b = net.convolution(net.convolution(x, channels, 96, 1), 96, 128, 3)
        c = net.convolution(net.convolution(net.convolution(x, channels, 64, 1), 64, 96, 3), 96, 96, 3)
        d = net.convolution(net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1]), channels, 64, 1)
        x, channels = net.op("Concat", a, b, c, d, axis=1), 416
        if block in (1, 3):
            x = net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[2, 2])
    y = net.op("Flatten", net.op("GlobalAveragePool", x))
    return net.save(path, {"x": [batch, 3, 224, 224]}, net.op("MatMul", y, net.weight(channels, 1000, fan=channels)))


def towers(path: Path, layers: int = 6, width: int = 384, heads: int = 12, tokens: int = 128) -> Path:
    """Two encoders of MiniLM's sizes at batch 1, as retrieval has them, and the similarity of their means."""
    net = Net(2)

    def split(value: str) -> str:
        shape = net.constant(np.array([1, tokens, heads, width // heads], np.int64))
        return net.op("Transpose", net.op("Reshape", value, shape), perm=[0, 2, 1, 3])

    def tower(x: str) -> str:
        for _ in range(layers):
            q, k, v = (split(net.linear(x, width, width)) for _ in range(3))
            scores = net.op("MatMul", q, net.op("Transpose", k, perm=[0, 1, 3, 2]))
            scores = net.op("Mul", scores, net.constant(np.array((width // heads) ** -0.5, np.float16)))
            mixed = net.op("Transpose", net.op("MatMul", net.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
            merged = net.op("Reshape", mixed, net.constant(np.array([1, tokens, width], np.int64)))
            x = net.norm(net.op("Add", x, net.linear(merged, width, width)), width)
            inner = net.op("Relu", net.linear(x, width, 4 * width))
            x = net.norm(net.op("Add", x, net.linear(inner, 4 * width, width)), width)
        return x

    means = [net.op("ReduceMean", tower(name), net.constant(np.array([1], np.int64))) for name in ("query", "document")]
    similarity = net.op("MatMul", means[0], net.op("Transpose", means[1], perm=[0, 2, 1]))
    return net.save(path, {name: [1, tokens, width] for name in ("query", "document")}, similarity)


def chains(path: Path, length: int) -> Path:
    """Two branches of small kernels that cannot be joined."""
    net = Net(3)
    start = net.op("Softmax", "x", axis=-1)
    ends = []
    for _ in range(2):
        y = start
        for _ in range(length):
            y = net.op("Relu", net.op("MatMul", y, net.weight(256, 256, fan=256)))
        ends.append(y)
    return net.save(path, {"x": [64, 256]}, net.op("Add", *ends))


def resnet50(path: Path) -> Path:
    """Convolutions beside the shortcuts that change sizes are its only branches."""
    import torchvision
    gpu_speed.resnet(path, torchvision.models.resnet50(weights=None).eval(), [1, 3, 224, 224], torch.float16)
    return path


# ---- measuring ----------------------------------------------------------------------------------------------------------


class Lanes(gpu_speed.Bench):
    def engine(self, model: Path, streams: int) -> Path:
        return self.folder / f"{model.stem}-{streams}.apus"

    def build(self, model: Path) -> None:
        """The engines of a model; kernels of the first serve the others."""
        shape = ["--shape", self.options.shapes[model.stem]] if model.stem in self.options.shapes else []
        for streams in self.options.streams:
            self.apus("build", model, "-o", self.engine(model, streams), "--backend", self.backend, "--aux-streams", streams, "--jobs", 4,
                      "--log-fusions", self.engine(model, streams).with_suffix(".log"), "--quiet", *shape)

    def results(self, model: Path, streams: int, name: str, words: tuple = ()) -> dict[str, np.ndarray]:
        target = self.folder / f"{model.stem}-{streams}-{name}"
        self.apus("run", self.engine(model, streams), "--seed", 3, "--output-dir", target, "--quiet", *words)
        return {file.name: np.load(file) for file in sorted(target.glob("*.npy"))}

    def unlike(self, model: Path, streams: int, base: dict[str, np.ndarray]) -> list[str]:
        """The ways to run whose outputs are not those of one stream."""
        def synchronised() -> dict[str, np.ndarray]:
            os.environ["APUS_SYNC"] = "1"
            try:
                return self.results(model, streams, "synchronised")
            finally:
                del os.environ["APUS_SYNC"]
        found = {"recorded": self.results(model, streams, "recorded", ("--runs", 4)),
                 "queued": self.results(model, streams, "queued", ("--no-capture",)), "synchronised": synchronised()}
        return [name for name, values in found.items() if values.keys() != base.keys()
                or not all(np.array_equal(values[key], base[key], equal_nan=True) for key in base)]

    def spread(self, model: Path, streams: int) -> list[int]:
        """How many steps each stream has."""
        counts: dict[int, int] = {}

        def walk(value: object) -> None:
            if isinstance(value, dict):
                if isinstance(lane := value.get("lane"), int):
                    counts[lane] = counts.get(lane, 0) + 1
                value = list(value.values())
            for inner in value if isinstance(value, list) else []:
                walk(inner)
        walk(json.loads(self.apus("inspect", self.engine(model, streams), "--json")))
        return [counts[lane] for lane in sorted(counts)]

    def predicted(self, model: Path, streams: int) -> list[float]:
        """What the branches that were spread were said to take on one stream and on several, microseconds."""
        lines = [line for line in self.engine(model, streams).with_suffix(".log").read_text().splitlines() if line.startswith("taken") and "-> lanes" in line]
        return [sum(float(line.split("instead of ")[1].split(" us")[0]) for line in lines), sum(float(line.rsplit("lanes: ", 1)[1].split(" us")[0]) for line in lines)]

    def measure(self, model: Path) -> None:
        times: dict[int, list[float]] = {streams: [] for streams in self.options.streams}
        for turn in range(1 if self.options.tiny else ROUNDS):
            for streams in self.options.streams[::1 if turn % 2 == 0 else -1]:
                found = json.loads(self.apus("bench", self.engine(model, streams), "--duration", "0.3", "--warmup", "50", "--quiet", "--json"))
                times[streams].append(found.get("device_ms", found["latency_ms"])["median"])
        base = self.results(model, 0, "base")
        for streams in self.options.streams:
            row = {"model": model.stem, "streams": streams, "ms": statistics.median(times[streams]), "runs_ms": times[streams],
                   "gain": statistics.median(times[0]) / statistics.median(times[streams]), "steps": self.spread(model, streams),
                   "predicted_us": self.predicted(model, streams), "unlike": self.unlike(model, streams, base), "ceilings": self.ceilings}
            self.rows.append(row)
            print(f"{model.stem:14} {streams} streams {row['ms']:9.4f} ms  gain {row['gain']:6.3f}  steps {row['steps']}  predicted "
                  f"{row['predicted_us']}  unlike one stream: {row['unlike'] or 'none'}", flush=True)

    def crossing(self) -> list[str]:
        """What a fork and a join take: chains of n kernels after one kernel for both take a + 2(n - 1)t on one stream, and
        a + (n - 1)t and that on two."""
        found = {(int(row["model"][5:]), row["streams"]): row["ms"] for row in self.rows if row["model"].startswith("chain")}
        lengths = sorted({length for length, streams in found if length >= 4 and (length, max(self.options.streams)) in found})
        if self.options.tiny or len(lengths) < 2:
            return []
        low, high, most = lengths[0], lengths[-1], max(self.options.streams)
        kernel = (found[high, 0] - found[low, 0]) / (2 * (high - low))
        return [f"Chains of {n}: a kernel takes {1e3 * kernel:.2f} us, a fork and a join "
                f"{1e3 * (found[n, most] - found[n, 0] + (n - 1) * kernel):.2f} us." for n in lengths]

    def report(self, out: Path) -> None:
        (out / "lanes.json").write_text(json.dumps({"rows": self.rows}, indent=1) + "\n")
        lines = ["# Branches on auxiliary streams", "", f"{self.ceilings}", "", "| model | streams | ms | gain | steps on each | predicted us, one stream and several | outputs unlike |",
                 "|---|---|---|---|---|---|---|"]
        for row in self.rows:
            lines.append(f"| {row['model']} | {row['streams']} | {row['ms']:.4f} | {row['gain']:.3f} | {row['steps']} | "
                         f"{row['predicted_us'][0]:.0f}, {row['predicted_us'][1]:.0f} | {', '.join(row['unlike']) or 'none'} |")
        (out / "lanes.md").write_text("\n".join(lines + [""] + self.crossing()) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("apus", type=Path, metavar="APUS", help="the apus binary")
    parser.add_argument("models", type=Path, nargs="*", metavar="MODEL", help="more ONNX files")
    parser.add_argument("--shape", action="append", default=[], metavar="MODEL:NAME=1x3x640x640", help="the shape of an input of a file, by the file's stem")
    parser.add_argument("--streams", default="0,1,2,4", help="numbers of auxiliary streams, 0 first (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="the folder of the report")
    parser.add_argument("--tiny", action="store_true", help="small models on the CPU, to check this script")
    options = parser.parse_args()
    options.apus = options.apus.resolve()
    options.shapes = dict(shape.split(":", 1) for shape in options.shape)
    options.streams = [int(count) for count in options.streams.split(",")]
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lanes = Lanes(options, folder)
        models = [towers(folder / "towers.onnx", layers=1 if options.tiny else 6)]
        if not options.tiny:
            models += [resnet50(folder / "resnet50.onnx"), *(inception(folder / f"inception{batch}.onnx", batch) for batch in (1, 8))]
        models += [chains(folder / f"chain{length}.onnx", length) for length in (1, 2, 4, 8, 16)]
        models += options.models
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lanes.build, models))
        for model in models:
            lanes.measure(model)
            if options.out:
                lanes.report(options.out)
        for line in lanes.crossing():
            print(line)
        return 1 if any(row["unlike"] for row in lanes.rows) else 0


if __name__ == "__main__":
    sys.exit(main())
