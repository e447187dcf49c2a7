#!/usr/bin/env python3
"""Time Apus, onnxruntime and openvino on the same models, shapes and threads, interleaved in one run.

Every measurement is a process of its own: it loads the model, warms up, and times calls one by one. A round measures
every runner once, and each round starts with another runner, so that whatever else the machine does meets all alike.
A cell is the median over rounds of the processes' medians, with their range in brackets. The ratio is the fastest
peer's time over Apus's: above 1 Apus is faster. The end gives the geometric mean over all rows.

Runners: apus; ort and openvino with the model as it is (dynamic), ort-static and openvino-static with all dimensions
fixed before the graph is optimised. onnxruntime has all its graph optimisations on, openvino its latency hint and f32.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tools"))
from support import DATA, ROOT, ToolError, call, ensure_venv, run_main, say

PEERS = ("ort", "ort-static", "openvino", "openvino-static")
PROCESS_LIMIT = 300  # seconds a single measurement may take
LEAST_CALLS = 30
DISTURBED = 0.1      # share of the machine that others may use during a measurement before it is repeated
ATTEMPTS = 3


@dataclasses.dataclass(frozen=True)
class Input:
    """What a model is fed: a shape, and values drawn from `range(high)` (integers) or around zero (floats), or all `value`."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    high: int = 0
    value: int | None = None

    def label(self) -> str:
        return "x".join(map(str, self.shape))


@dataclasses.dataclass(frozen=True)
class Row:
    model: str
    inputs: dict[str, Input]

    @property
    def shape(self) -> str:
        return next(iter(self.inputs.values())).label()


def image(model: str, name: str, *shape: int) -> Row:
    return Row(model, {name: Input(shape)})


def sentence(batch: int, length: int) -> Row:
    return Row("minilm", {"input_ids": Input((batch, length), "int64", 30522), "attention_mask": Input((batch, length), "int64", value=1)})


ROWS = [
    image("ppocr4_det", "x", 1, 3, 640, 640),
    image("ppocr4_rec", "x", 1, 3, 48, 320), image("ppocr4_rec", "x", 6, 3, 48, 320),
    Row("magika", {"bytes": Input((1, 2048), "int32", 257)}), Row("magika", {"bytes": Input((8, 2048), "int32", 257)}),
    image("nudenet", "images", 1, 3, 320, 320),
    Row("silero_vad_openvino_16k", {"input": Input((1, 576)), "state": Input((2, 1, 128))}),
    Row("silero_vad", {"input": Input((1, 576)), "state": Input((2, 1, 128)), "sr": Input((), "int64", value=16000)}),
    sentence(1, 16), sentence(1, 128), sentence(8, 128),
    image("efficientnet_lite0", "image", 1, 3, 224, 224), image("efficientnet_lite0", "image", 8, 3, 224, 224),
    image("mobilenetv2", "image", 1, 3, 224, 224),
    image("resnet50", "image", 1, 3, 224, 224),
    image("light_resnet50", "gpu_0/data_0", 1, 3, 224, 224),
    image("basic_pitch", "serving_default_input_2:0", 1, 43844, 1),
]


# ---- a measurement: this part runs in the environment that has the peers ------------------------------------------------

def arrays(inputs: dict[str, Input]) -> dict:
    """The same values in every process."""
    import numpy as np
    random, made = np.random.default_rng(1234), {}
    for name, spec in inputs.items():
        if spec.value is not None:
            made[name] = np.full(spec.shape, spec.value, spec.dtype)
        elif spec.high:
            made[name] = random.integers(0, spec.high, spec.shape).astype(spec.dtype)
        else:
            made[name] = (0.5 * random.standard_normal(spec.shape)).astype(spec.dtype)
    return made


def open_ort(model: Path, feeds: dict, threads: int, static: bool) -> Callable[[], object]:
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    if static:
        for name, size in named_dimensions(model, feeds).items():
            options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    binding = session.io_binding()  # spares a copy of every input per call
    for name, value in feeds.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
    for output in session.get_outputs():
        binding.bind_output(output.name)
    return lambda: session.run_with_iobinding(binding)


def named_dimensions(model: Path, feeds: dict) -> dict[str, int]:
    """The sizes that the feeds give to the model's named dimensions."""
    import onnx_scan
    sizes = {}
    for value in onnx_scan.inputs(model.read_bytes()):
        for name, size in zip(value.dimension_names, feeds[value.name].shape):
            if name:
                sizes[name] = size
    return sizes


def open_openvino(model: Path, feeds: dict, threads: int, static: bool) -> Callable[[], object]:
    import openvino
    core = openvino.Core()
    network = core.read_model(model)
    if static:
        network.reshape({port.any_name: list(feeds[port.any_name].shape) for port in network.inputs})
    compiled = core.compile_model(network, "CPU", {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    for port in compiled.inputs:
        request.set_tensor(port, openvino.Tensor(feeds[port.any_name], shared_memory=True))
    return request.infer


def measure(runner: str, row: Row, model: Path, threads: int, warmup: float, duration: float) -> dict:
    feeds = arrays(row.inputs)
    started = time.perf_counter()
    run = (open_ort if runner.startswith("ort") else open_openvino)(model, feeds, threads, runner.endswith("-static"))
    load = time.perf_counter() - started
    until, calls = time.perf_counter() + warmup, 0
    while calls < 5 or time.perf_counter() < until:
        run()
        calls += 1
    times: list[float] = []
    until = time.perf_counter() + duration
    while len(times) < LEAST_CALLS or time.perf_counter() < until:
        before = time.perf_counter()
        run()
        times.append(1e3 * (time.perf_counter() - before))
    return {"median_ms": statistics.median(times), "min_ms": min(times), "calls": len(times), "load_ms": 1e3 * load}


def child(request: str) -> None:
    r = json.loads(request)
    row = Row(r["model"], {name: Input(tuple(v["shape"]), v["dtype"], v["high"], v["value"]) for name, v in r["inputs"].items()})
    print(json.dumps(measure(r["runner"], row, Path(r["file"]), r["threads"], r["warmup"], r["duration"])))


# ---- starting measurements ----------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Bench:
    python: Path
    apus: Path | None
    models: Path
    work: Path
    threads: int
    warmup: float
    duration: float
    takes_inputs: bool = False
    disturbance: float = 0.0

    def measure(self, runner: str, row: Row) -> dict:
        """One process, or the least disturbed of up to three when other work ran beside it."""
        attempts: list[tuple[float, dict]] = []
        while len(attempts) < ATTEMPTS and (not attempts or attempts[-1][0] > DISTURBED):
            attempts.append(self.attempt(runner, row))
        others, measured = min(attempts, key=lambda attempt: attempt[0])
        self.disturbance = max(self.disturbance, others)
        return measured

    def attempt(self, runner: str, row: Row) -> tuple[float, dict]:
        """The share of the machine that others used, and what was measured; raises ToolError with the process's last words."""
        command = self.apus_command(row) if runner == "apus" else self.peer_command(runner, row)
        busy, own, started = machine_seconds(), children_seconds(), time.monotonic()
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=PROCESS_LIMIT)
        except subprocess.TimeoutExpired:
            raise ToolError(f"over {PROCESS_LIMIT} s") from None
        others = (machine_seconds() - busy) - (children_seconds() - own)
        share = others / (time.monotonic() - started) / (os.cpu_count() or 1)
        if result.returncode != 0:
            raise ToolError((result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1][:160])
        return share, apus_result(result.stdout) if runner == "apus" else json.loads(result.stdout.splitlines()[-1])

    def peer_command(self, runner: str, row: Row) -> list[str]:
        request = {"runner": runner, "model": row.model, "file": str(self.models / f"{row.model}.onnx"), "threads": self.threads, "warmup": self.warmup,
                   "duration": self.duration, "inputs": {name: dataclasses.asdict(spec) for name, spec in row.inputs.items()}}
        return [str(self.python), __file__, "--child", json.dumps(request)]

    def apus_command(self, row: Row) -> list[str]:
        words = [str(self.apus), "bench", str(self.engine(row.model)),
                 "--warmup", f"{1e3 * self.warmup:g}", "--duration", f"{self.duration:g}", "--threads", str(self.threads), "--json"]
        for name, spec in row.inputs.items():
            if self.takes_inputs:
                words += ["--input", f"{name}={self.input_file(row, name)}"]
            elif spec.shape:
                words += ["--shape", f"{name}={spec.label()}"]
        return words

    def input_file(self, row: Row, name: str) -> Path:
        return self.work / f"{row.model}-{row.shape}" / f"{list(row.inputs).index(name)}.npy"

    def engine(self, model: str) -> Path:
        return self.work / f"{model}.apus"

    def build(self, model: str) -> float:
        """Build an engine with an empty cache; seconds."""
        with tempfile.TemporaryDirectory(prefix="apus-cache-") as cache:
            started = time.monotonic()
            call([self.apus, "build", self.models / f"{model}.onnx", "-o", self.engine(model)], f"build {model}",
                 env=os.environ | {"APUS_CACHE": str(cache)})
            return time.monotonic() - started

    def write_inputs(self, row: Row) -> None:
        """Input files for `apus bench --input`, made where numpy is."""
        specs = {str(self.input_file(row, name)): dataclasses.asdict(spec) for name, spec in row.inputs.items()}
        call([self.python, __file__, "--write", json.dumps(specs)], f"write the inputs of {row.model}")


def write_inputs(request: str) -> None:
    import numpy as np
    specs = {path: Input(tuple(v["shape"]), v["dtype"], v["high"], v["value"]) for path, v in json.loads(request).items()}
    for path, value in arrays(specs).items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        np.save(path, value)


def apus_result(text: str) -> dict:
    """What `apus bench --json` printed, under this script's names."""
    try:
        printed = json.loads(text)
        latency = printed["latency_ms"]
        return {"median_ms": latency["median"], "min_ms": latency["min"], "load_ms": printed.get("load_ms")}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ToolError(f"`apus bench --json` did not print an object with latency_ms.median and latency_ms.min: {error!r}, in {text[:120]!r}") from None


def machine_seconds() -> float:
    """CPU seconds that all processes of this machine have used since it started."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq = (int(word) for word in file.readline().split()[1:8])
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


# ---- results ------------------------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Result:
    row: Row
    medians: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    loads: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def time(self, runner: str) -> float | None:
        return statistics.median(self.medians[runner]) if self.medians.get(runner) else None

    def load(self, runner: str) -> float | None:
        return statistics.median(self.loads[runner]) if self.loads.get(runner) else None

    def cell(self, runner: str) -> str:
        middle = self.time(runner)
        if middle is None:
            return "fails" if runner in self.failures else "-"
        return f"{short(middle)} [{short(min(self.medians[runner]))}..{short(max(self.medians[runner]))}]"

    def fastest_peer(self) -> str | None:
        timed = [peer for peer in PEERS if self.time(peer) is not None]
        return min(timed, key=self.time) if timed else None

    def ratio(self) -> float | None:
        peer, own = self.fastest_peer(), self.time("apus")
        return self.time(peer) / own if peer and own else None

    def as_json(self, build: float | None) -> dict:
        peers = {peer: time for peer in PEERS if (time := self.time(peer)) is not None}
        return {"model": self.row.model, "shape": self.row.shape, "apus_ms": self.time("apus"), "peers": peers, "ratio": self.ratio(),
                "medians_ms": self.medians, "failures": self.failures, "build_s": build, "load_ms": {runner: self.load(runner) for runner in self.loads}}


def short(ms: float) -> str:
    return f"{ms:.3g}" if ms < 100 else f"{ms:.0f}"


def measure_row(bench: Bench, row: Row, runners: list[str], rounds: int) -> Result:
    result = Result(row)
    for k in range(rounds):
        turn = k % len(runners)
        for runner in runners[turn:] + runners[:turn]:
            if runner in result.failures:
                continue
            try:
                measured = bench.measure(runner, row)
            except ToolError as error:
                result.failures[runner] = str(error)
                continue
            result.medians.setdefault(runner, []).append(measured["median_ms"])
            if measured.get("load_ms") is not None:
                result.loads.setdefault(runner, []).append(measured["load_ms"])
    return result


def print_row(result: Result, runners: list[str]) -> None:
    ratio = result.ratio()
    cells = "".join(f"{result.cell(runner):>27}" for runner in runners)
    say(f"{result.row.model:<25}{result.row.shape:<16}{cells}{f'{ratio:.2f}' if ratio else '-':>8}")
    for runner, reason in result.failures.items():
        say(f"  {runner}: {reason}")


def summarise(results: list[Result], builds: dict[str, float], bench: Bench) -> tuple[float | None, float | None]:
    """Print what follows the table; returns the geometric mean and the smallest of the ratios."""
    if builds:
        say("\nbuild with an empty cache, and load of the engine")
        for model, seconds in builds.items():
            load = next((r.load("apus") for r in results if r.row.model == model and r.load("apus") is not None), None)
            peers = {peer: next((r.load(peer) for r in results if r.row.model == model and r.load(peer) is not None), None) for peer in ("ort", "openvino")}
            others = ", ".join(f"{peer} {ms:.0f} ms" for peer, ms in peers.items() if ms is not None)
            say(f"  {model:<25} build {seconds:6.2f} s   load {'-' if load is None else f'{load:.1f} ms'}{f'   (to open the model: {others})' if others else ''}")
    say(f"\nother processes used up to {bench.disturbance:.0%} of the machine during a measurement{'; repeat when it is quieter' if bench.disturbance > DISTURBED else ''}")
    ratios = [ratio for result in results if (ratio := result.ratio())]
    if not ratios:
        return None, None
    mean, least = math.exp(statistics.fmean(map(math.log, ratios))), min(ratios)
    say(f"geometric mean of the ratio over {len(ratios)} rows: {mean:.3f} (smallest {least:.3f})")
    return mean, least


def select(models: str | None, folder: Path) -> list[Row]:
    known = dict.fromkeys(row.model for row in ROWS)
    wanted = models.split(",") if models else list(known)
    if unknown := [name for name in wanted if name not in known]:
        raise ToolError(f"no benchmark of {', '.join(unknown)}; there are {', '.join(known)}")
    missing = [name for name in wanted if not (folder / f"{name}.onnx").exists()]
    if missing and models:
        raise ToolError(f"{folder} has no {', '.join(missing)}; fetch with `Tools/fetch-models --with-exports`")
    for name in missing:
        say(f"{name}: not in {folder}, left out")
    return [row for row in ROWS if row.model in wanted and row.model not in missing]


def prepare(options: argparse.Namespace, rows: list[Row]) -> tuple[Bench, dict[str, float]]:
    """The environment, the engines with their build times, the input files."""
    apus = None
    if not options.no_apus:
        apus = Path(options.apus) if options.apus else ROOT / ".build" / "release" / "apus"
        if not os.access(apus, os.X_OK):
            raise ToolError(f"no apus binary at {apus}; build it with `swift build -c release`, name it with --apus, or time the peers alone with --no-apus")
    work = DATA / "bench"
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(ensure_venv("bench"), apus, options.models, work, options.threads, options.warmup / 1e3, options.duration)
    builds: dict[str, float] = {}
    if apus:
        bench.takes_inputs = "--input" in subprocess.run([apus, "bench", "--help"], capture_output=True, text=True).stdout
        for row in rows if bench.takes_inputs else []:
            bench.write_inputs(row)
        for model in dict.fromkeys(row.model for row in rows):
            try:
                builds[model] = bench.build(model)
            except ToolError as error:
                say(f"{model}: {error}")
    return bench, builds


def main() -> int:
    if len(sys.argv) == 3 and sys.argv[1] in ("--child", "--write"):
        return {"--child": child, "--write": write_inputs}[sys.argv[1]](sys.argv[2]) or 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example: Benchmarks/cpu_peers.py --models minilm,ppocr4_det --rounds 5 --json results.json")
    parser.add_argument("--apus", metavar="BINARY", help="default: .build/release/apus")
    parser.add_argument("--no-apus", action="store_true", help="time the peers alone")
    parser.add_argument("--models-dir", dest="models", type=Path, default=DATA / "models", metavar="DIR", help="default: .apus-data/models")
    parser.add_argument("--models", dest="only", metavar="NAME,…", help=f"only these of: {', '.join(dict.fromkeys(row.model for row in ROWS))}")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAME,…", help=f"default: {','.join(PEERS)}")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="for every runner (default: all cores)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="processes per cell (default: 3)")
    parser.add_argument("--warmup", type=float, default=500, metavar="MS", help="before timing (default: 500; at least 5 calls)")
    parser.add_argument("--duration", type=float, default=1.5, metavar="S", help=f"of timed calls (default: 1.5; at least {LEAST_CALLS} calls)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--require", nargs=2, type=float, metavar=("MEAN", "LEAST"), help="exit with 1 when the geometric mean or any ratio is below these")
    options = parser.parse_args()

    rows, peers = select(options.only, options.models), [peer for peer in options.peers.split(",") if peer]
    if unknown := [peer for peer in peers if peer not in PEERS]:
        raise ToolError(f"unknown peer {', '.join(unknown)}; there are {', '.join(PEERS)}")
    bench, builds = prepare(options, rows)
    runners = ([] if options.no_apus else ["apus"]) + peers
    say(f"{options.threads} threads, {options.rounds} rounds; milliseconds, median of process medians [range]\n")
    say(f"{'model':<25}{'shape':<16}{''.join(f'{runner:>27}' for runner in runners)}{'ratio':>8}")
    results = []
    for row in rows:
        results.append(measure_row(bench, row, [r for r in runners if r != "apus" or row.model in builds], options.rounds))
        print_row(results[-1], runners)
    mean, least = summarise(results, builds, bench)
    if options.json:
        options.json.write_text(json.dumps([result.as_json(builds.get(result.row.model)) for result in results], indent=1) + "\n")
        say(f"wrote {options.json}")
    if options.require and (mean is None or mean < options.require[0] or least < options.require[1] or any("apus" not in r.medians for r in results)):
        say(f"below what is required: mean {options.require[0]:g}, every ratio {options.require[1]:g}, every row timed")
        return 1
    return 0


if __name__ == "__main__":
    run_main(main)
