#!/usr/bin/env python3
"""What profiles gain: a transformer of gemma-3's architecture built with one profile and with two.

The one-profile engine takes 1 to 256 tokens and is tuned at 128; the other has a profile of its own for 1 token (decode)
beside it (prefill). Each regime is called as torch-tensorrt's example does, the profile pinned: rounds of calls after some
that are not counted, the two engines in turn, and the least of the rounds' means is reported. Then rounds of one prefill
and 16 decodes run in one context, with and without changes of profile. The answers of both engines are compared with those of
an eager run. Export the model before with `Tools/export-gemma3.py`.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tools"))
import support

if __name__ == "__main__" and not {"-h", "--help"} & set(sys.argv):
    try:
        support.restart_in_venv("demo", minimum=(3, 10))
    except support.ToolError as error:
        sys.exit(f"error: {error}")

from support import DATA, ToolError, run_main, say

LONG = "seq=1..256@128"
ENGINES = {"single": ["--profile", f"prefill: {LONG}"], "multi": ["--profile", "decode: seq=1", "--profile", f"prefill: {LONG}"]}


@dataclasses.dataclass(frozen=True)
class Regime:
    name: str
    length: int
    # The profile that the multi-profile engine runs it in.
    profile: str


REGIMES = (Regime("decode", 1, "decode"), Regime("prefill", 128, "prefill"))


@dataclasses.dataclass
class Bench:
    apus: Path
    folder: Path
    model: str
    options: argparse.Namespace

    def engine(self, kind: str) -> Path:
        return self.folder / f"{self.model}_{'one_profile' if kind == 'single' else 'two_profiles'}.apus"

    def call(self, *words) -> str:
        from apus_cli import call_apus
        return call_apus(self.apus, *map(str, words), timeout=3600)

    def build(self, kind: str) -> dict:
        started = time.monotonic()
        self.call("build", self.options.models / f"{self.model}.onnx", "-o", self.engine(kind), *ENGINES[kind])
        return {"build_s": time.monotonic() - started, "bytes": self.engine(kind).stat().st_size}

    def bench(self, kind: str, regime: Regime, *words) -> dict:
        shapes = [word for name in ("input_ids", "position_ids") for word in ("--shape", f"{name}=1x{regime.length}")]
        profile = regime.profile if kind == "multi" else "prefill"
        return json.loads(self.call("bench", self.engine(kind), "--profile", profile, *shapes, "--warmup-runs", self.options.warmup,
                                    "--runs", self.options.calls, "--json", *words))

    def alternate(self) -> dict:
        """Rounds in one context of the multi-profile engine: a prefill and 16 decodes in a profile each, and the same all in the
        prefill profile, which is the single-profile engine's. Taking turns in one process leaves both the same machine."""
        phases = ("1 prefill", "16 decode", "1 prefill", "16 prefill seq=1")
        return json.loads(self.call("bench", self.engine("multi"), *(word for phase in phases for word in ("--phase", phase)),
                                    "--runs", max(3, self.options.calls // 4), "--json"))

    def moved(self, kind: str) -> dict[str, int]:
        """Rows of logits whose largest element is elsewhere than in the eager run, by regime."""
        import numpy as np
        from apus_cli import run_files
        reference, moved = self.options.reference, {}
        for case in json.loads((reference / "manifest.json").read_text())["cases"]:
            regime = next((r for r in REGIMES if case["name"] == f"seq{r.length}_{r.profile if kind == 'multi' else 'prefill'}"), None)
            if regime is None or not case["engine"].endswith("two_profiles" if kind == "multi" else "one_profile"):
                continue
            inputs = {name: reference / value["file"] for name, value in case["inputs"].items()}
            found = run_files(self.apus, self.engine(kind), case["run"], inputs)["logits"]
            expected = np.load(reference / case["outputs"]["logits"]["file"])
            moved[regime.name] = int(np.count_nonzero(found.argmax(-1) != expected.argmax(-1)))
        return moved


def measure(bench: Bench) -> list[dict]:
    """Rounds of both engines in turn; a row for each regime."""
    rows = []
    for regime in REGIMES:
        means, medians = defaultdict(list), defaultdict(list)
        for k in range(bench.options.rounds):
            for kind in list(ENGINES)[::1 if k % 2 == 0 else -1]:
                latency = bench.bench(kind, regime)["latency_ms"]
                means[kind].append(latency["mean"])
                medians[kind].append(latency["median"])
        rows.append({"regime": regime.name, "seq": regime.length, "means_ms": dict(means), "medians_ms": dict(medians),
                     "single_ms": min(means["single"]), "multi_ms": min(means["multi"]), "ratio": min(means["single"]) / min(means["multi"])})
    return rows


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.3f} [{min(values):.3f}..{max(values):.3f}]"


def print_rows(rows: list[dict]) -> None:
    say(f"\n{'regime':<18}{'single-profile ms':>19}{'multi-profile ms':>19}{'ratio':>8}     medians of the rounds, single and multi")
    for row in rows:
        say(f"{row['regime'] + ' seq ' + str(row['seq']):<18}{row['single_ms']:>19.3f}{row['multi_ms']:>19.3f}{row['ratio']:>7.2f}x"
            f"     {spread(row['medians_ms']['single'])}, {spread(row['medians_ms']['multi'])}")


def alternation(result: dict) -> dict[str, dict]:
    """Medians by engine: the first call after a prefill, the later ones, and a round of 1 + 16 calls."""
    found = {}
    for kind, at in (("multi", 0), ("single", 2)):
        prefill, decode = result["phases"][at:at + 2]
        first, later = decode["first_ms"]["median"], decode["later_ms"]["median"]
        found[kind] = {"prefill_ms": prefill["first_ms"]["median"], "first_decode_ms": first, "later_decode_ms": later,
                       "round_ms": prefill["first_ms"]["median"] + first + (decode["calls"] - 1) * later}
    return found


def print_alternation(found: dict[str, dict]) -> None:
    single, multi = found["single"]["round_ms"], found["multi"]["round_ms"]
    say(f"\n1 prefill + 16 decode in one context: {single:.3f} ms in one profile, {multi:.3f} ms in two: {single / multi:.2f}x")
    for kind, times in found.items():
        say(f"  {kind}: prefill {times['prefill_ms']:.3f} ms, first decode {times['first_decode_ms']:.3f}, later ones {times['later_decode_ms']:.3f} (medians)")


def kind_of(layer: dict) -> str:
    """The group a step belongs to in the explanation."""
    for word in ("gemv", "gemm"):
        if layer["tactic"].startswith(word):
            return "products"
    return layer["tactic"]


def explain(bench: Bench, regime: Regime) -> dict[str, dict]:
    """Times and bytes by group of steps, from the layer table of each engine."""
    groups: dict[str, dict] = {}
    for kind in ENGINES:
        sums: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])
        for layer in bench.bench(kind, regime, "--layers")["layers"]:
            group = sums[kind_of(layer)]
            group[0] += 1
            group[1] += layer["median_ms"]
            group[2] += layer["median_ms"] * layer["gb_per_s"] / 1e3
        groups[kind] = {name: {"steps": n, "ms": ms, "gb": gb} for name, (n, ms, gb) in sums.items()}
    return groups


def print_explanation(regime: Regime, groups: dict[str, dict]) -> None:
    say(f"\nsteps of {regime.name} by how they are computed")
    say(f"{'':<14}{'single: steps':>14}{'ms':>10}{'GB/s':>8}{'multi: steps':>16}{'ms':>10}{'GB/s':>8}")
    for name in sorted(set().union(*groups.values()), key=lambda name: -groups["single"].get(name, {"ms": 0})["ms"]):
        cells = ""
        for kind, width in (("single", 14), ("multi", 16)):
            group = groups[kind].get(name, {"steps": 0, "ms": 0, "gb": 0})
            rate = f"{1e3 * group['gb'] / group['ms']:.1f}" if group["ms"] and name in ("products", "attention") else "-"
            cells += f"{group['steps']:>{width}}{group['ms']:>10.3f}{rate:>8}"
        say(f"{name:<14}{cells}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apus", metavar="BINARY", help="default: .build/release/apus")
    parser.add_argument("--full", action="store_true", help="the real sizes: 4 GB of weights, minutes")
    parser.add_argument("--models", type=Path, default=DATA / "models", metavar="DIR", help="the folder of the model (default: .apus-data/models)")
    parser.add_argument("--reference", type=Path, metavar="DIR", help="the folder of the eager run (default: .apus-data/NAME-reference)")
    parser.add_argument("--engines", type=Path, default=DATA / "engines", metavar="DIR", help="where the engines go (default: .apus-data/engines)")
    parser.add_argument("--no-build", action="store_true", help="take the engines that are there")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="for each engine and regime (default: 3)")
    parser.add_argument("--calls", type=int, default=50, metavar="N", help="in a round (default: 50)")
    parser.add_argument("--warmup", type=int, default=20, metavar="N", help="calls before a round (default: 20)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the results there")
    options = parser.parse_args()

    from apus_cli import find_apus
    model = "gemma3_1b" if options.full else "gemma3_reduced"
    options.reference = options.reference or DATA / f"{model}-reference"
    if not (options.models / f"{model}.onnx").exists() or not (options.reference / "manifest.json").exists():
        raise ToolError(f"no {model}.onnx with an eager run; make them with `Tools/export-gemma3.py{' --full' if options.full else ''}`")
    options.engines.mkdir(parents=True, exist_ok=True)
    bench = Bench(find_apus(options.apus), options.engines, model, options)
    builds = {} if options.no_build else {kind: bench.build(kind) for kind in ENGINES}
    for kind, build in builds.items():
        say(f"{kind}-profile engine: {build['bytes'] / 2**20:,.1f} MiB, built in {build['build_s']:.1f} s")
    moved = {kind: bench.moved(kind) for kind in ENGINES}
    for kind, counts in moved.items():
        say(f"{kind}-profile engine: argmax differs from the eager run in {', '.join(f'{n} rows of {name}' for name, n in counts.items())}")
    rows = measure(bench)
    print_rows(rows)
    turns = alternation(bench.alternate())
    print_alternation(turns)
    layers = {regime.name: explain(bench, regime) for regime in REGIMES}
    for regime in REGIMES:
        print_explanation(regime, layers[regime.name])
    if options.json:
        results = {"model": model, "rows": rows, "alternation": turns, "layers": layers, "builds": builds, "argmax_moved": moved}
        options.json.write_text(json.dumps(results, indent=1) + "\n")
        say(f"\nwrote {options.json}")
    return 1 if any(n for counts in moved.values() for n in counts.values()) else 0


if __name__ == "__main__":
    run_main(main)
