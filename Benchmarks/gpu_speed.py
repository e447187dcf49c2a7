#!/usr/bin/env python3
"""Time Apus beside PyTorch on one NVIDIA GPU: the same weights, the same inputs, in turns, in one run.

Workloads: ResNet-50 (f16, channels last), the encoders of BERT-base and MiniLM (f16, 128 tokens), and a transformer of
gemma-3-1b's architecture (bf16, one token and prefill, logits of the last position). Each model is a torch module with random
weights; its ONNX form is written here from the module's weights, built by `apus build --backend cuda`, and its output compared
with the module's before anything is timed. Times are of the device with inputs and outputs in its memory, calls queued back to
back: of Apus by `apus bench`, of PyTorch by CUDA events around many calls, eager and by torch.compile (max-autotune).

OUT/speed.json has rows of {workload, apus_ms, peer, peer_ms, floor_ms, …}, OUT/speed.md a table, OUT/layers.txt the steps'
times. The floor is the larger of bytes by the copy rate and operations by the rate of an 8192³ bf16 product, both measured in
the run of the row. With --keep, rows of a report that is there already stay, so that one can be made in parts.
Needs torch, torchvision, onnx and numpy. `--tiny` runs small sizes on the CPU backend, to check this script.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tools"))
import gemma3

KINDS = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16, torch.bfloat16: TensorProto.BFLOAT16}


class Writer:
    """An ONNX graph of one element type, whose weights come from torch."""

    def __init__(self, dtype: torch.dtype):
        self.dtype, self.nodes, self.constants, self.count = dtype, [], {}, 0

    def op(self, kind: str, *inputs: str, **attributes) -> str:
        self.count += 1
        output = f"{kind}_{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def weight(self, value: torch.Tensor) -> str:
        name = f"w{len(self.constants)}"
        data = value.detach().to("cpu", self.dtype).contiguous()
        raw = data.view(torch.int16 if data.element_size() == 2 else torch.int32).numpy().tobytes()
        self.constants[name] = helper.make_tensor(name, KINDS[self.dtype], list(data.shape), raw, raw=True)
        return name

    def ints(self, *values: int) -> str:
        name = "i" + "_".join(map(str, values)).replace("-", "m")
        self.constants.setdefault(name, helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def write(self, path: Path, inputs: dict[str, list[int]], output: str, shape: list[int]) -> None:
        kind = KINDS[self.dtype]
        graph = helper.make_graph(
            self.nodes, "model", [helper.make_tensor_value_info(name, kind, sizes) for name, sizes in inputs.items()],
            [helper.make_tensor_value_info(output, kind, shape)], list(self.constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        path.write_bytes(model.SerializeToString())


# ---- models -------------------------------------------------------------------------------------------------------------


def resnet(path: Path, module: nn.Module, shape: list[int], dtype: torch.dtype) -> None:
    """A torchvision ResNet with bottlenecks, batch normalisation folded into the convolutions in f32."""
    w = Writer(dtype)

    def convolution(x: str, conv: nn.Conv2d, norm: nn.BatchNorm2d, activates: bool = True) -> str:
        scale = norm.weight.float() / torch.sqrt(norm.running_var.float() + norm.eps)
        weight = conv.weight.float() * scale[:, None, None, None]
        bias = norm.bias.float() - norm.running_mean.float() * scale
        y = w.op("Conv", x, w.weight(weight), w.weight(bias), kernel_shape=list(conv.kernel_size), strides=list(conv.stride),
                 pads=[*conv.padding, *conv.padding])
        return w.op("Relu", y) if activates else y

    x = convolution("x", module.conv1, module.bn1)
    x = w.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for stage in (module.layer1, module.layer2, module.layer3, module.layer4):
        for block in stage:
            y = convolution(x, block.conv1, block.bn1)
            y = convolution(y, block.conv2, block.bn2)
            y = convolution(y, block.conv3, block.bn3, activates=False)
            if block.downsample is not None:
                x = convolution(x, block.downsample[0], block.downsample[1], activates=False)
            x = w.op("Relu", w.op("Add", y, x))
    x = w.op("Flatten", w.op("GlobalAveragePool", x))
    y = w.op("Gemm", x, w.weight(module.fc.weight), w.weight(module.fc.bias), transB=1)
    w.write(path, {"x": shape}, y, [shape[0], module.fc.out_features])


def encoder(path: Path, module: nn.TransformerEncoder, shape: list[int], dtype: torch.dtype) -> None:
    """A stack of post-norm encoder layers."""
    w = Writer(dtype)
    batch, length, width = shape
    x = "x"
    for layer in module.layers:
        attention, heads = layer.self_attn, layer.self_attn.num_heads

        def linear(x: str, weight: torch.Tensor, bias: torch.Tensor) -> str:
            return w.op("Add", w.op("MatMul", x, w.weight(weight.T)), w.weight(bias))

        def part(index: int) -> str:
            rows = slice(index * width, (index + 1) * width)
            flat = linear(x, attention.in_proj_weight[rows], attention.in_proj_bias[rows])
            split = w.op("Reshape", flat, w.ints(batch, length, heads, width // heads))
            return w.op("Transpose", split, perm=[0, 2, 1, 3])

        q, k, v = part(0), part(1), part(2)
        scores = w.op("Mul", w.op("MatMul", q, w.op("Transpose", k, perm=[0, 1, 3, 2])),
                      w.weight(torch.tensor((width // heads) ** -0.5)))
        mixed = w.op("Transpose", w.op("MatMul", w.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
        joined = w.op("Reshape", mixed, w.ints(batch, length, width))
        y = linear(joined, attention.out_proj.weight, attention.out_proj.bias)
        x = w.op("LayerNormalization", w.op("Add", x, y), w.weight(layer.norm1.weight), w.weight(layer.norm1.bias),
                 axis=-1, epsilon=layer.norm1.eps)
        y = w.op("Gelu", linear(x, layer.linear1.weight, layer.linear1.bias))
        y = linear(y, layer.linear2.weight, layer.linear2.bias)
        x = w.op("LayerNormalization", w.op("Add", x, y), w.weight(layer.norm2.weight), w.weight(layer.norm2.bias),
                 axis=-1, epsilon=layer.norm2.eps)
    w.write(path, {"x": shape}, x, shape)


class Gemma(nn.Module):
    """What Tools/gemma3.py writes as a graph, in torch; computes logits of the last position."""

    def __init__(self, config: gemma3.Config, weights: gemma3.Weights, device: str):
        super().__init__()
        self.config = config
        for name, _ in gemma3.shapes(config):
            value = torch.from_numpy(np.array(weights[name])).to(device, torch.bfloat16)
            self.register_buffer("w_" + name.replace(".", "_"), value)

    def weight(self, name: str) -> torch.Tensor:
        return getattr(self, "w_" + name.replace(".", "_"))

    def norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + gemma3.EPSILON)
        return (y * (1 + self.weight(name).float())).to(x.dtype)

    def turns(self, positions: torch.Tensor, theta: float) -> tuple[torch.Tensor, torch.Tensor]:
        half = self.config.head_size // 2
        speeds = theta ** (-torch.arange(half, device=positions.device, dtype=torch.float32) / half)
        angles = torch.cat([positions[:, None, :, None].float() * speeds] * 2, -1)
        return angles.cos().bfloat16(), angles.sin().bfloat16()

    def rotated(self, x: torch.Tensor, turns: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        low, high = x.chunk(2, -1)
        return x * turns[0] + torch.cat([-high, low], -1) * turns[1]

    def forward(self, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        c, n = self.config, ids.shape[1]
        x = self.weight("embed_tokens")[ids] * torch.tensor(math.sqrt(c.hidden), dtype=torch.bfloat16, device=ids.device)
        behind = torch.arange(n, device=ids.device)[:, None] - torch.arange(n, device=ids.device)[None]
        masks = {True: behind >= 0, False: (behind >= 0) & (behind < c.window)}
        turns = {full: self.turns(positions, c.theta_full if full else c.theta_sliding) for full in (True, False)}
        for i in range(c.layers):
            full, layer = c.is_full(i), f"layers.{i}"
            y = self.norm(x, f"{layer}.input_norm")
            q, k, v = ((y @ self.weight(f"{layer}.{part}_proj")).view(1, n, -1, c.head_size).transpose(1, 2) for part in "qkv")
            q, k = self.norm(q, f"{layer}.q_norm"), self.norm(k, f"{layer}.k_norm")
            q, k = self.rotated(q, turns[full]), self.rotated(k, turns[full])
            y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=masks[full], scale=c.scale, enable_gqa=True)
            y = y.transpose(1, 2).reshape(1, n, -1) @ self.weight(f"{layer}.o_proj")
            x = x + self.norm(y, f"{layer}.post_attention_norm")
            y = self.norm(x, f"{layer}.pre_feedforward_norm")
            y = nn.functional.gelu(y @ self.weight(f"{layer}.gate_proj"), approximate="tanh") * (y @ self.weight(f"{layer}.up_proj"))
            x = x + self.norm(y @ self.weight(f"{layer}.down_proj"), f"{layer}.post_feedforward_norm")
        return self.norm(x[:, -1:], "norm") @ self.weight("embed_tokens").T


# ---- timing -------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Workload:
    name: str
    module: nn.Module
    inputs: dict[str, torch.Tensor]
    # Writes the ONNX file.
    export: Callable[[Path], None]
    operations: float
    bytes: float
    tolerance: float
    build: list[str] = dataclasses.field(default_factory=list)


class Bench:
    def __init__(self, options: argparse.Namespace, folder: Path):
        self.options, self.folder, self.rows = options, folder, []
        self.device = "cpu" if options.tiny else "cuda"
        self.backend = "cpu" if options.tiny else "cuda"
        self.ceilings = {} if options.tiny else self.measure_ceilings()

    def timed(self, call: Callable[[], object], count: int = 64, rounds: int = 5) -> float:
        """Milliseconds of a call among many queued back to back: median of rounds."""
        for _ in range(5):
            call()
        if self.device == "cpu":
            started = time.perf_counter()
            call()
            return (time.perf_counter() - started) * 1e3
        times = []
        for _ in range(rounds):
            torch.cuda.synchronize()
            start, end = torch.cuda.Event(True), torch.cuda.Event(True)
            start.record()
            for _ in range(count):
                call()
            end.record()
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / count)
        return statistics.median(times)

    def measure_ceilings(self) -> dict[str, float]:
        x = torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
        y = torch.empty_like(x)
        copy = 2 * x.numel() / self.timed(lambda: y.copy_(x), 10, 3) * 1e3
        a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        product = 2 * 8192 ** 3 / self.timed(lambda: a @ b, 10, 3) * 1e3
        query = ["nvidia-smi", "--query-gpu=name,driver_version,clocks.sm,clocks.mem", "--format=csv,noheader"]
        card = subprocess.run(query, capture_output=True, text=True).stdout.strip()
        return {"card": card, "copy_bytes_per_s": copy, "bf16_flop_per_s": product, "torch": torch.__version__}

    def apus(self, *words: object) -> str:
        result = subprocess.run([str(word) for word in (self.options.apus, *words)], capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError((result.stdout + result.stderr).strip()[-1500:])
        return result.stdout

    def bench(self, engine: Path, words: list[str]) -> float:
        found = json.loads(self.apus("bench", engine, *words, "--duration", "1", "--warmup", "100", "--quiet", "--json"))
        return found.get("device_ms", found["latency_ms"])["median"]

    def run(self, work: Workload) -> None:
        model, engine = self.folder / "model.onnx", self.folder / "model.apus"
        work.export(model)
        started = time.perf_counter()
        self.apus("build", model, "-o", engine, "--backend", self.backend, "--quiet", *work.build)
        if self.options.tune:
            told = self.apus("tune", engine, "--budget", f"{self.options.tune}s")
            if self.options.out:
                with open(self.options.out / "tuning.txt", "a") as log:
                    log.write(f"{work.name}\n{told}\n")
        built = time.perf_counter() - started
        words = []
        for name, value in work.inputs.items():
            file = self.folder / f"{name}.npy"
            array = value.cpu().float() if value.dtype == torch.bfloat16 else value.cpu()
            np.save(file, array.numpy())
            words += ["--input", f"{name}={file}"]
        with torch.no_grad():
            eager = lambda: work.module(*work.inputs.values())
            expected = eager().float().cpu().numpy()
            error = self.compare(engine, words, expected)
            if not error <= work.tolerance:
                raise RuntimeError(f"{work.name}: relative error {error:.3g} is over {work.tolerance:g}")
            peers = {"torch eager": [eager, []]}
            if not (self.options.tiny or self.options.eager_only):
                torch._dynamo.reset()
                compiled = torch.compile(work.module, mode="max-autotune", dynamic=False)
                peers["torch.compile max-autotune"] = [lambda: compiled(*work.inputs.values()), []]
            if self.options.out:
                with open(self.options.out / "layers.txt", "a") as layers:
                    layers.write(f"{work.name}\n{self.apus('bench', engine, *words, '--layers', '--duration', '0.3', '--quiet')}\n")
            own = []
            for _ in range(1 if self.options.tiny else 3):
                own.append(self.bench(engine, words))
                for call, times in peers.values():
                    times.append(self.timed(call, 16 if call is eager else 64))
        medians = {name: statistics.median(times) for name, (_, times) in peers.items()}
        peer = min(medians, key=medians.get)
        floor = None
        if self.ceilings:
            floor = 1e3 * max(work.bytes / self.ceilings["copy_bytes_per_s"], work.operations / self.ceilings["bf16_flop_per_s"])
        row = {"workload": work.name, "apus_ms": statistics.median(own), "peer": peer, "peer_ms": medians[peer], "floor_ms": floor,
               "apus_runs_ms": own, "peers_ms": {name: times for name, (_, times) in peers.items()}, "relative_error": error,
               "build_s": built, "ceilings": self.ceilings}
        self.rows.append(row)
        share = f"{100 * floor / row['apus_ms']:5.1f}% of the floor" if floor else ""
        print(f"{work.name:32} apus {row['apus_ms']:8.4f} ms  {peer} {medians[peer]:8.4f} ms  ratio {medians[peer] / row['apus_ms']:5.2f}  "
              f"error {error:.1e}  {share}", flush=True)

    def compare(self, engine: Path, words: list[str], expected: np.ndarray) -> float:
        self.apus("run", engine, *words, "--output-dir", self.folder, "--quiet")
        name = json.loads(self.apus("inspect", engine, "--json"))["outputs"][0]["name"]
        found = np.load(self.folder / f"{name}.npy")
        if found.dtype.kind in "uV" and found.dtype.itemsize == 2:
            found = (found.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        found = found.astype(np.float64)
        if not np.isfinite(found).all():
            return math.inf
        return float(np.abs(found - expected).max() / np.abs(expected).max())

    def report(self, out: Path) -> None:
        file, measured = out / "speed.json", {row["workload"] for row in self.rows}
        earlier = json.loads(file.read_text())["rows"] if self.options.keep and file.exists() else []
        rows = [row for row in earlier if row["workload"] not in measured] + self.rows
        file.write_text(json.dumps({"rows": rows}, indent=1) + "\n")
        runs = {json.dumps(row["ceilings"]): None for row in rows}
        lines = ["# Speed beside PyTorch", "", *runs, "",
                 "| workload | Apus ms | fastest peer | peer ms | peer / Apus | floor ms | share of floor |", "|---|---|---|---|---|---|---|"]
        for row in rows:
            floor = row["floor_ms"] or math.nan
            lines.append(f"| {row['workload']} | {row['apus_ms']:.4f} | {row['peer']} | {row['peer_ms']:.4f} | {row['peer_ms'] / row['apus_ms']:.2f} | "
                         f"{floor:.4f} | {100 * floor / row['apus_ms']:.0f}% |")
        (out / "speed.md").write_text("\n".join(lines) + "\n")


def own_weights(module: nn.Module) -> None:
    """Gives each layer weights of its own: layers of an encoder begin as copies of one, which an engine would keep once."""
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            else:
                parameter.add_(0.05 * torch.randn_like(parameter))


def workloads(options: argparse.Namespace, bench: Bench, folder: Path):
    """Each workload, made when it is asked for."""
    device, dtype = bench.device, torch.float32 if options.tiny else torch.float16
    wanted = lambda name: not options.only or any(re.search(re.escape(part) + r"(?!\d)", name) for part in options.only.split(","))
    torch.manual_seed(0)
    for batch in (1,) if options.tiny else (1, 32, 128):
        if wanted(name := f"resnet50 fp16 b{batch}"):
            import torchvision
            module = torchvision.models.resnet50(weights=None).eval()
            for layer in module.modules():
                if isinstance(layer, nn.BatchNorm2d):
                    layer.running_mean.normal_(0, 0.1)
                    layer.running_var.uniform_(0.8, 1.2)
            module = module.to(device, dtype).to(memory_format=torch.channels_last)
            shape = [batch, 3, 64, 64] if options.tiny else [batch, 3, 224, 224]
            x = torch.randn(shape, device=device, dtype=dtype).to(memory_format=torch.channels_last)
            yield Workload(name, module, {"x": x}, lambda path: resnet(path, module, shape, dtype), batch * 8.2e9,
                           51.2e6 + batch * 2 * 11.1e6 * 2, 2e-2)
    sizes = {"bert-base": (768, 12, 3072, 12, (1, 32)), "minilm": (384, 12, 1536, 6, (1, 128))}
    for kind, (width, heads, inner, layers, batches) in sizes.items():
        for batch in (1,) if options.tiny else batches:
            if wanted(name := f"{kind} encoder fp16 s128 b{batch}"):
                layer = nn.TransformerEncoderLayer(width, heads, inner, batch_first=True, activation="gelu")
                module = nn.TransformerEncoder(layer, 1 if options.tiny else layers, enable_nested_tensor=False).eval()
                own_weights(module)
                module = module.to(device, dtype)
                torch.backends.mha.set_fastpath_enabled(False)
                shape = [batch, 16 if options.tiny else 128, width]
                x = torch.randn(shape, device=device, dtype=dtype)
                count = sum(p.numel() for p in module.parameters())
                yield Workload(name, module, {"x": x}, lambda path: encoder(path, module, shape, dtype),
                               2.0 * count * batch * shape[1], 2 * count, 2e-2)
    if any(wanted(f"gemma3-1b {phase}") for phase in ("decode", "prefill 128", "prefill 512")) and not options.tiny:
        config = gemma3.FULL
        weights = gemma3.Weights.write(config, folder / "gemma3.data", "bf16")
        module = Gemma(config, weights, device).eval()
        count = sum(math.prod(shape) for _, shape in gemma3.shapes(config))
        body = count - config.vocabulary * config.hidden
        for phase, length in (("decode", 1), ("prefill 128", 128), ("prefill 512", 512)):
            if wanted(name := f"gemma3-1b {phase}"):
                inputs = {key: torch.from_numpy(value).to(device) for key, value in gemma3.tokens(config, length).items()}
                yield Workload(f"{name} bf16", module, inputs, lambda path: gemma3.write_model(config, weights, path, last=True),
                               2.0 * (body * length + config.vocabulary * config.hidden), 2 * count, 6e-2, ["--shape", f"input_ids=1x{length}", "--shape", f"position_ids=1x{length}"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("apus", type=Path, metavar="APUS", help="the apus binary")
    parser.add_argument("--only", help="workloads whose name holds one of these, separated by commas; b1 is not b128")
    parser.add_argument("--out", type=Path, help="the folder of the report")
    parser.add_argument("--eager-only", action="store_true", help="leave torch.compile out, which takes minutes")
    parser.add_argument("--keep", action="store_true", help="add to the report in OUT instead of beginning a new one")
    parser.add_argument("--tune", type=int, metavar="SECONDS", help="tune each engine for so long; OUT/tuning.txt says what came of it")
    parser.add_argument("--tiny", action="store_true", help="small sizes on the CPU, to check this script")
    options = parser.parse_args()
    options.apus = options.apus.resolve()
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
    failed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bench = Bench(options, folder)
        if bench.ceilings:
            print(bench.ceilings, flush=True)
        for work in workloads(options, bench, folder):
            try:
                bench.run(work)
                if options.out:
                    bench.report(options.out)
            except Exception as error:
                failed += 1
                print(f"{work.name} FAILED: {error}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
