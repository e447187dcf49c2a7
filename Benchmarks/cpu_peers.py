#!/usr/bin/env python3
"""Time Apus, onnxruntime, openvino and torch on the same models, shapes and threads, interleaved in one run.

Every measurement is a process of its own: it loads the model, warms up, and times calls one by one. A round measures
every runner once, and each round starts with another runner, so that whatever else the machine does meets all alike.
A cell is the median over rounds of the processes' medians, with their range in brackets. The ratio is the fastest
peer's time over Apus's fastest: above 1 Apus is faster. The end gives the geometric mean over all rows.

Runners: apus, ort and openvino with the model as it is (dynamic); apus-static, ort-static and openvino-static with all
dimensions fixed before the graph is optimised; apus-tuned as apus-static, its steps chosen by measurement (--tune);
torch, eager, where a module exists: the models that `Tools/fetch-models --with-exports` makes. onnxruntime has all its
graph optimisations on, openvino its latency hint and f32.

Where the ranges of Apus's fastest and of the fastest peer overlap after the rounds asked for, there are more, up to
--most-rounds: what the machine does meanwhile decides fewer rows.

What bounds a row is said of Apus's fastest: the share of the measured multiply-add ceiling that the operations of its
steps reach, counted as direct sums, and of the measured read bandwidth that the bytes of its steps reach. In each round
one process measures its ceilings and times its calls; the share is the median of theirs, once by the median call and
once, of the read bandwidth, by the fastest call: ceilings are the fastest of several probes.
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
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tools"))
from peer_process import LEAST_CALLS, Input
from support import DATA, ROOT, ToolError, call, ensure_venv, run_main, say

OWN = ("apus", "apus-static", "apus-tuned")
PEERS = ("ort", "ort-static", "openvino", "openvino-static", "torch")
PROCESS_LIMIT = 300  # seconds a single measurement may take
DISTURBED = 0.1      # share of the machine that others may use during a measurement before it is repeated
ATTEMPTS = 3


@dataclasses.dataclass(frozen=True)
class Row:
    model: str
    inputs: dict[str, Input]
    label: str = ""

    @property
    def shape(self) -> str:
        return self.label or next(iter(self.inputs.values())).label()

    @property
    def key(self) -> str:
        return f"{self.model}:{self.shape}"

    @property
    def file(self) -> str:
        return f"{self.model}-{self.shape}"


def image(model: str, name: str, *shape: int) -> Row:
    return Row(model, {name: Input(shape)})


def sentence(batch: int, length: int) -> Row:
    return Row("minilm", {"input_ids": Input((batch, length), "int64", 30522), "attention_mask": Input((batch, length), "int64", value=1)})


def decoder(model: str, cache: tuple[int, int, int], tokens: int, past: int) -> Row:
    layers, heads, depth = cache
    kept = Input((layers, 1, heads, past, depth))
    return Row(model, {"ids": Input((1, tokens), "int64", 1000), "past_k": kept, "past_v": kept}, f"{tokens}-past{past}")


GPT2, SMOLLM2 = ("gpt2_small", (12, 12, 64)), ("smollm2", (30, 3, 64))
ROWS = [
    image("resnet50", "image", 1, 3, 224, 224), image("resnet50", "image", 8, 3, 224, 224),
    image("mobilenetv2", "image", 1, 3, 224, 224),
    image("efficientnet_lite0", "image", 1, 3, 224, 224), image("efficientnet_lite0", "image", 8, 3, 224, 224),
    sentence(1, 16), sentence(1, 128), sentence(8, 128),
    image("ppocr4_det", "x", 1, 3, 640, 640),
    image("ppocr4_rec", "x", 1, 3, 48, 320), image("ppocr4_rec", "x", 6, 3, 48, 320),
    Row("magika", {"bytes": Input((1, 2048), "int32", 257)}), Row("magika", {"bytes": Input((8, 2048), "int32", 257)}),
    image("nudenet", "images", 1, 3, 320, 320),
    Row("silero_vad_openvino_16k", {"input": Input((1, 576)), "state": Input((2, 1, 128))}),
    image("basic_pitch", "serving_default_input_2:0", 1, 43844, 1),
    decoder(*GPT2, 128, 0), decoder(*GPT2, 1, 128), decoder(*SMOLLM2, 128, 0), decoder(*SMOLLM2, 1, 128),
]
# Timed only when asked for by name.
OTHER_ROWS = [
    Row("silero_vad", {"input": Input((1, 576)), "state": Input((2, 1, 128)), "sr": Input((), "int64", value=16000)}),
]


# ---- starting measurements ----------------------------------------------------------------------------------------------

@dataclasses.dataclass
class Bench:
    python: Path
    torch: Path
    apus: Path | None
    models: Path
    work: Path
    threads: int
    warmup: float
    duration: float
    tune: str
    reuse: bool
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
        command = self.apus_command(runner, row) if runner in OWN else self.peer_command(runner, row)
        busy, own, started = machine_seconds(), children_seconds(), time.monotonic()
        result, peak = run(command)
        others = (machine_seconds() - busy) - (children_seconds() - own)
        share = others / (time.monotonic() - started) / (os.cpu_count() or 1)
        if result.returncode != 0:
            raise ToolError((result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1][:160])
        measured = apus_result(result.stdout) if runner in OWN else json.loads(result.stdout.splitlines()[-1])
        return share, measured | {"peak_mb": peak}

    def peer_command(self, runner: str, row: Row) -> list[str]:
        request = {"runner": runner, "file": str(self.models / f"{row.model}.onnx"), "threads": self.threads, "warmup": self.warmup,
                   "duration": self.duration, "inputs": {name: dataclasses.asdict(spec) for name, spec in row.inputs.items()}}
        python = self.torch if runner == "torch" else self.python
        return [str(python), str(Path(__file__).with_name("peer_process.py")), "--measure", json.dumps(request)]

    def apus_command(self, runner: str, row: Row) -> list[str]:
        words = [str(self.apus), "bench", str(self.engine(runner, row)),
                 "--warmup", f"{1e3 * self.warmup:g}", "--duration", f"{self.duration:g}", "--threads", str(self.threads), "--json"]
        for name in row.inputs:
            words += ["--input", f"{name}={self.input_file(row, name)}"]
        return words

    def input_file(self, row: Row, name: str) -> Path:
        return self.work / row.file / f"{list(row.inputs).index(name)}.npy"

    def engine(self, runner: str, row: Row) -> Path:
        """One for all shapes, or one for the row."""
        return self.work / (f"{row.model}.apus" if runner == "apus" else f"{row.file}.{runner}.apus")

    def build(self, runner: str, row: Row) -> float | None:
        """Build an engine with an empty cache; seconds, or nil when one is there that may be used again."""
        engine, model = self.engine(runner, row), self.models / f"{row.model}.onnx"
        if self.reuse and engine.exists() and engine.stat().st_mtime > max(model.stat().st_mtime, self.apus.stat().st_mtime):
            return None
        words = [self.apus, "build", model, "-o", engine]
        if runner != "apus":
            for name, spec in row.inputs.items():
                words += ["--shape", f"{name}={spec.label()}"] if spec.shape else []
        if runner == "apus-tuned":
            words += ["--tune", self.tune]
        with tempfile.TemporaryDirectory(prefix="apus-cache-") as cache:
            started = time.monotonic()
            call(words, f"build {engine.stem}", env=os.environ | {"APUS_CACHE": str(cache)})
            return time.monotonic() - started

    def write_inputs(self, row: Row) -> None:
        """Input files for `apus bench --input`, made where numpy is."""
        specs = {str(self.input_file(row, name)): dataclasses.asdict(spec) for name, spec in row.inputs.items()}
        call([self.python, Path(__file__).with_name("peer_process.py"), "--write", json.dumps(specs)], f"write the inputs of {row.key}")

    def bound(self, runner: str, row: Row) -> dict:
        """Shares of the ceilings that the same process measures."""
        words = self.apus_command(runner, row) + ["--layers"]
        words[words.index("--duration") + 1] = "0.5"
        result, _ = run(words)
        if result.returncode != 0:
            raise ToolError((result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1][:160])
        return bound_of(json.loads(result.stdout))


def run(command: list[str]) -> tuple[subprocess.CompletedProcess, float]:
    """What a process printed, and its largest resident size in MB."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err)
        until = time.monotonic() + PROCESS_LIMIT
        while True:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > until:
                process.kill()
                os.wait4(process.pid, 0)
                raise ToolError(f"over {PROCESS_LIMIT} s")
            time.sleep(0.01)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, out.read(), err.read()), usage.ru_maxrss * 1024 / 1e6


def apus_result(text: str) -> dict:
    """What `apus bench --json` printed, under this script's names."""
    try:
        printed = json.loads(text)
        latency = printed["latency_ms"]
        return {"median_ms": latency["median"], "min_ms": latency["min"], "load_ms": printed.get("load_ms")}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ToolError(f"`apus bench --json` did not print an object with latency_ms.median and latency_ms.min: {error!r}, in {text[:120]!r}") from None


def bound_of(printed: dict) -> dict:
    layers, ceilings, latency = printed["layers"], printed["ceilings"], printed["latency_ms"]
    leaves = [layer for k, layer in enumerate(layers) if k + 1 == len(layers) or layers[k + 1]["depth"] <= layer["depth"]]
    operations, moved = sum(layer["operations"] for layer in leaves), sum(layer["bytes"] for layer in leaves)
    by_bound: dict[str, float] = {}
    for layer in leaves:
        if layer["bound"]:
            by_bound[layer["bound"]] = by_bound.get(layer["bound"], 0) + layer["median_ms"]
    return {"gflop": operations / 1e9, "mb": moved / 1e6, "ceiling_gflop_per_s": ceilings["gflop_per_s"]["f32"], "ceiling_gb_per_s": ceilings["gb_per_s"],
            "compute_share": operations / (1e6 * latency["median"]) / ceilings["gflop_per_s"]["f32"],
            "memory_share": moved / (1e6 * latency["median"]) / ceilings["gb_per_s"],
            "memory_share_of_fastest": moved / (1e6 * latency["min"]) / ceilings["gb_per_s"], "ms_by_bound": by_bound,
            "bound": max(by_bound, key=by_bound.get) if by_bound else None}


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
    measured: dict[str, list[dict]] = dataclasses.field(default_factory=dict)
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    bounds: dict[str, list[dict]] = dataclasses.field(default_factory=dict)

    def all(self, runner: str, key: str) -> list[float]:
        return [value for one in self.measured.get(runner, []) if (value := one.get(key)) is not None]

    def middle(self, runner: str, key: str = "median_ms") -> float | None:
        values = self.all(runner, key)
        return statistics.median(values) if values else None

    def least(self, runner: str) -> float | None:
        return min(self.all(runner, "min_ms"), default=None)

    def cell(self, runner: str) -> str:
        middle, medians = self.middle(runner), self.all(runner, "median_ms")
        if middle is None:
            return "fails" if runner in self.failures else "-"
        return f"{short(middle)} [{short(min(medians))}..{short(max(medians))}]"

    def fastest(self, runners: tuple[str, ...]) -> str | None:
        timed = [runner for runner in runners if self.middle(runner) is not None]
        return min(timed, key=self.middle) if timed else None

    def ratio(self, own: str | None = None) -> float | None:
        peer, own = self.fastest(PEERS), own or self.fastest(OWN)
        return self.middle(peer) / self.middle(own) if peer and own and self.middle(own) else None

    def ratio_of_least(self) -> float | None:
        """By the fastest calls."""
        own, peers = ([least for r in runners if (least := self.least(r)) is not None] for runners in (OWN, PEERS))
        return min(peers) / min(own) if own and peers else None

    @property
    def is_open(self) -> bool:
        """Whether the ranges of Apus's fastest and the fastest peer overlap."""
        own, peer = self.fastest(OWN), self.fastest(PEERS)
        if not own or not peer:
            return False
        a, b = self.all(own, "median_ms"), self.all(peer, "median_ms")
        return min(a) <= max(b) and min(b) <= max(a)

    @property
    def bound(self) -> dict | None:
        """Medians over the rounds, of Apus's fastest."""
        bounds = self.bounds.get(self.fastest(OWN) or "")
        if not bounds:
            return None
        words = [one["bound"] for one in bounds]
        numbers = {key: statistics.median(one[key] for one in bounds) for key, value in bounds[0].items() if isinstance(value, float)}
        return numbers | {"bound": max(words, key=words.count), "ms_by_bound": bounds[-1]["ms_by_bound"]}

    def as_json(self, builds: dict[str, float | None]) -> dict:
        runners = list(self.measured)
        own = self.fastest(OWN)
        return {"model": self.row.model, "shape": self.row.shape, "apus_ms": self.middle(own) if own else None,
                "peers": {peer: self.middle(peer) for peer in PEERS if self.middle(peer) is not None}, "ratio": self.ratio(),
                "apus": {name: self.middle(name) for name in OWN if self.middle(name) is not None}, "ratio_untuned": self.ratio("apus"),
                "ratio_of_fastest_calls": self.ratio_of_least(), "bound": self.bound,
                "medians_ms": {r: self.all(r, "median_ms") for r in runners}, "min_ms": {r: self.least(r) for r in runners},
                "load_ms": {r: self.middle(r, "load_ms") for r in runners}, "peak_mb": {r: self.middle(r, "peak_mb") for r in runners},
                "build_s": builds, "failures": self.failures}


def short(ms: float) -> str:
    return f"{ms:.3g}" if ms < 100 else f"{ms:.0f}"


def measure_row(bench: Bench, row: Row, runners: list[str], rounds: int, most: int, failures: dict[str, str]) -> Result:
    result = Result(row, failures=dict(failures))
    for k in range(max(rounds, most)):
        if k >= rounds and not result.is_open:
            break
        turn = k % len(runners)
        for runner in runners[turn:] + runners[:turn]:
            if runner in result.failures:
                continue
            try:
                result.measured.setdefault(runner, []).append(bench.measure(runner, row))
            except ToolError as error:
                result.failures[runner] = str(error)
        for own in OWN:
            if own in result.measured and own not in result.failures:
                result.bounds.setdefault(own, []).append(bench.bound(own, row))
    return result


def print_row(result: Result, runners: list[str]) -> None:
    ratio, least, bound = result.ratio(), result.ratio_of_least(), result.bound
    cells = "".join(f"{result.cell(runner):>23}" for runner in runners)
    limit = f"{bound['bound'] or '-':>9}{bound['compute_share']:>6.0%}{bound['memory_share']:>6.0%}{bound['memory_share_of_fastest']:>8.0%}" if bound else ""
    say(f"{result.row.model:<24}{result.row.shape:<14}{cells}{f'{ratio:.2f}' if ratio else '-':>7}{f'{least:.2f}' if least else '-':>7}{limit}")
    for runner, reason in result.failures.items():
        say(f"  {runner}: {reason}")


def summarise(results: list[Result], builds: dict[str, dict[str, float | None]], bench: Bench) -> tuple[float | None, float | None]:
    """Print what follows the table; returns the geometric mean and the smallest of the ratios."""
    say("\nbuild with an empty cache, load and largest resident size")
    for result in results:
        cells = []
        for runner in result.measured:
            build, load, peak = builds.get(result.row.key, {}).get(runner), result.middle(runner, "load_ms"), result.middle(runner, "peak_mb")
            cells.append(f"{runner} {f'{build:.1f} s, ' if build else ''}{'' if load is None else f'{load:.0f} ms, '}{peak:.0f} MB")
        say(f"  {result.row.key:<36}{'; '.join(cells)}")
    say(f"\nother processes used up to {bench.disturbance:.0%} of the machine during a measurement{'; repeat when it is quieter' if bench.disturbance > DISTURBED else ''}")
    if ceilings := [result.bound for result in results if result.bound]:
        say(f"ceilings: {statistics.median(c['ceiling_gflop_per_s'] for c in ceilings):.0f} GFLOP/s, {statistics.median(c['ceiling_gb_per_s'] for c in ceilings):.1f} GB/s")
    ratios = [ratio for result in results if (ratio := result.ratio())]
    if not ratios:
        return None, None
    mean, least = math.exp(statistics.fmean(map(math.log, ratios))), min(ratios)
    say(f"geometric mean of the ratio over {len(ratios)} rows: {mean:.3f} (smallest {least:.3f})")
    for own in OWN:
        one = [ratio for result in results if (ratio := result.ratio(own))]
        if one:
            say(f"  {own} alone, {len(one)} rows: {math.exp(statistics.fmean(map(math.log, one))):.3f} (smallest {min(one):.3f})")
    return mean, least


# ---- the run ------------------------------------------------------------------------------------------------------------

def select(wanted: str | None, folder: Path) -> list[Row]:
    names = wanted.split(",") if wanted else []
    known = {name for row in ROWS + OTHER_ROWS for name in (row.model, row.key)}
    if unknown := [name for name in names if name not in known]:
        raise ToolError(f"no benchmark of {', '.join(unknown)}; there are {', '.join(row.key for row in ROWS + OTHER_ROWS)}")
    rows = [row for row in ROWS + OTHER_ROWS if row.model in names or row.key in names] if names else ROWS
    missing = sorted({row.model for row in rows if not (folder / f"{row.model}.onnx").exists()})
    if missing and names:
        raise ToolError(f"{folder} has no {', '.join(missing)}; fetch with `Tools/fetch-models --with-exports`")
    for name in missing:
        say(f"{name}: not in {folder}, left out")
    return [row for row in rows if row.model not in missing]


def find_apus(options: argparse.Namespace) -> Path | None:
    if options.no_apus:
        return None
    apus = Path(options.apus) if options.apus else ROOT / ".build" / "release" / "apus"
    if not os.access(apus, os.X_OK):
        raise ToolError(f"no apus binary at {apus}; build it with `swift build -c release`, name it with --apus, or time the peers alone with --no-apus")
    return apus


def prepare(bench: Bench, rows: list[Row], own: list[str]) -> tuple[dict[str, dict[str, float | None]], dict[str, dict[str, str]]]:
    """Engines and input files: seconds of each build, and what failed, by row and runner."""
    builds: dict[str, dict[str, float | None]] = {}
    failures: dict[str, dict[str, str]] = {}
    done: dict[Path, float | None] = {}
    for row in rows:
        builds[row.key], failures[row.key] = {}, {}
        if own:
            bench.write_inputs(row)
        for runner in own:
            engine = bench.engine(runner, row)
            try:
                if engine not in done:
                    done[engine] = bench.build(runner, row)
                builds[row.key][runner] = done[engine]
            except ToolError as error:
                failures[row.key][runner] = str(error)
    return builds, failures


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example: Benchmarks/cpu_peers.py --rows minilm,resnet50:8x3x224x224 --quick --reuse")
    parser.add_argument("--apus", metavar="BINARY", help="default: .build/release/apus")
    parser.add_argument("--no-apus", action="store_true", help="time the peers alone")
    parser.add_argument("--models-dir", dest="models", type=Path, default=DATA / "models", metavar="DIR", help="default: .apus-data/models")
    parser.add_argument("--rows", metavar="MODEL[:SHAPE],…", help=f"only these of: {', '.join(row.key for row in ROWS + OTHER_ROWS)}")
    parser.add_argument("--own", default=",".join(OWN), metavar="NAME,…", help=f"default: {','.join(OWN)}")
    parser.add_argument("--peers", default=",".join(PEERS), metavar="NAME,…", help=f"default: {','.join(PEERS)}; none: no peer")
    parser.add_argument("--tune", default="quick", metavar="LEVEL", help="how apus-tuned is built: quick, full or a time (default: quick)")
    parser.add_argument("--reuse", action="store_true", help="engines of an earlier run that are newer than the binary and the model")
    parser.add_argument("--quick", action="store_true", help="one round of half a second, to see where a change goes")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), metavar="N", help="for every runner (default: all cores)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="processes per cell (default: 3)")
    parser.add_argument("--most-rounds", type=int, default=7, metavar="N", help="where ranges still overlap (default: 7)")
    parser.add_argument("--warmup", type=float, default=500, metavar="MS", help="before timing (default: 500; at least 5 calls)")
    parser.add_argument("--duration", type=float, default=1.5, metavar="S", help=f"of timed calls (default: 1.5; peers at least {LEAST_CALLS} calls)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--require", nargs=2, type=float, metavar=("MEAN", "LEAST"), help="exit with 1 when the geometric mean or any ratio is below these")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.most_rounds, options.warmup, options.duration = 1, 1, 200, 0.5
    return options


def chosen(text: str, known: tuple[str, ...], option: str) -> list[str]:
    names = [name for name in text.split(",") if name and name != "none"]
    if unknown := [name for name in names if name not in known]:
        raise ToolError(f"unknown runner {', '.join(unknown)} in {option}; there are {', '.join(known)}")
    return names


def main() -> int:
    options = arguments()
    rows, peers = select(options.rows, options.models), chosen(options.peers, PEERS, "--peers")
    apus = find_apus(options)
    own = chosen(options.own, OWN, "--own") if apus else []
    torch = DATA / "venv" / "export" / "bin" / "python"
    work = DATA / "bench"
    work.mkdir(parents=True, exist_ok=True)
    bench = Bench(ensure_venv("bench"), torch, apus, options.models, work, options.threads, options.warmup / 1e3, options.duration, options.tune, options.reuse)
    builds, failures = prepare(bench, rows, own)
    runners = own + peers
    say(f"{options.threads} threads, {options.rounds} to {options.most_rounds} rounds; milliseconds, median of process medians [range]; ratio by medians and by the "
        "fastest calls; shares of the multiply-add ceiling and of read bandwidth, the latter once more by the fastest calls\n")
    say(f"{'model':<24}{'shape':<14}{''.join(f'{runner:>23}' for runner in runners)}{'ratio':>7}{'least':>7}{'bound':>9}{'fma':>6}{'read':>6}{'fastest':>8}")
    results = []
    for row in rows:
        able = [r for r in runners if r != "torch" or torch.exists() and row.model in exported()]
        results.append(measure_row(bench, row, able, options.rounds, options.most_rounds, failures[row.key]))
        print_row(results[-1], runners)
        if options.json:
            options.json.write_text(json.dumps([result.as_json(builds[result.row.key]) for result in results], indent=1) + "\n")
    mean, least = summarise(results, builds, bench)
    if options.json:
        say(f"wrote {options.json}")
    if options.require and (mean is None or mean < options.require[0] or least < options.require[1] or any(not r.fastest(OWN) for r in results)):
        say(f"below what is required: mean {options.require[0]:g}, every ratio {options.require[1]:g}, every row timed")
        return 1
    return 0


def exported() -> set[str]:
    """The models for which there is a PyTorch module."""
    return {"minilm", "efficientnet_lite0", "mobilenetv2", "resnet50", "gpt2_small", "smollm2"}


if __name__ == "__main__":
    run_main(main)
