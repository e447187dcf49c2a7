#!/usr/bin/env python3
"""What profiles gain on a GPU: a transformer of gemma-3-1b's sizes in bf16, built with one profile and with two.

The one-profile engine takes 1 to 256 tokens and is tuned at 128; the other has a profile of its own for 1 token (decode) beside
it (prefill). Each regime runs with the profile pinned, with CUDA graphs and without, the engines in turn; the results of both are
compared with an eager run in torch. Then rounds of one prefill and 16 decodes run in one context, and what a change of profile
costs is measured. OUT gets profiles.json and profiles.md with the card, its driver and clocks, and its measured ceilings. Needs a
GPU, torch and onnx; takes 6 GB of disk and about three minutes.
"""
from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tools"))
import gemma3
import gpu_speed

LONG = "seq=1..256@128"
ENGINES = {"single": ["--profile", f"prefill: {LONG}"], "multi": ["--profile", "decode: seq=1", "--profile", f"prefill: {LONG}"]}
# Name, tokens, and the profile of the multi-profile engine.
REGIMES = (("decode", 1, "decode"), ("prefill", 128, "prefill"))
TOLERANCE = 6e-2


class Profiles(gpu_speed.Bench):
    """Engines with one profile and with two, in turn."""

    def build(self, config: gemma3.Config, weights: gemma3.Weights) -> None:
        model = self.folder / "model.onnx"
        gemma3.write_model(config, weights, model, last=True)
        for kind, profiles in ENGINES.items():
            self.apus("build", model, "-o", self.engine(kind), "--backend", self.backend, "--quiet", *profiles)

    def engine(self, kind: str) -> Path:
        return self.folder / f"{kind}.apus"

    def words(self, kind: str, length: int, profile: str, captures: bool) -> list[str]:
        shapes = [word for name in ("input_ids", "position_ids") for word in ("--shape", f"{name}=1x{length}")]
        return [*shapes, "--profile", profile if kind == "multi" else "prefill", *([] if captures else ["--no-capture"])]

    def right(self, config: gemma3.Config, module: torch.nn.Module) -> dict[str, float]:
        """Relative errors by engine and regime."""
        import numpy as np
        errors = {}
        for regime, length, profile in REGIMES:
            inputs, words = gemma3.tokens(config, length), []
            for name, value in inputs.items():
                np.save(self.folder / f"{name}.npy", value)
                words += ["--input", f"{name}={self.folder / name}.npy"]
            with torch.no_grad():
                expected = module(*(torch.from_numpy(value).to(self.device) for value in inputs.values())).float().cpu().numpy()
            for kind in ENGINES:
                chosen = ["--profile", profile if kind == "multi" else "prefill"]
                error = self.compare(self.engine(kind), [*words, *chosen], expected)
                errors[f"{kind} {regime}"] = error
                if not error <= TOLERANCE:
                    raise RuntimeError(f"{kind} {regime}: relative error {error:.3g} is over {TOLERANCE:g}")
        return errors

    def row(self, regime: str, length: int, profile: str, captures: bool, rounds: int) -> dict:
        """Medians of rounds: of the device with inputs and outputs in its memory, and of a call with both at the host."""
        device, call = {kind: [] for kind in ENGINES}, {kind: [] for kind in ENGINES}
        for k in range(rounds):
            for kind in list(ENGINES)[::1 if k % 2 == 0 else -1]:
                found = json.loads(self.apus("bench", self.engine(kind), *self.words(kind, length, profile, captures),
                                             "--duration", "1", "--warmup", "100", "--quiet", "--json"))
                device[kind].append(found.get("device_ms", found["latency_ms"])["median"])
                call[kind].append(found["latency_ms"]["median"])
        single, multi = (statistics.median(device[kind]) for kind in ENGINES)
        return {"regime": regime, "seq": length, "cuda_graphs": captures, "single_ms": single, "multi_ms": multi, "speedup": single / multi,
                "single_call_ms": statistics.median(call["single"]), "multi_call_ms": statistics.median(call["multi"]), "device_runs_ms": device,
                "call_runs_ms": call}

    def change(self, captures: bool) -> dict:
        words = [] if captures else ["--no-capture"]
        found = json.loads(self.apus("bench", self.engine("multi"), "--switch", "decode,prefill", "--duration", "6", "--quiet", "--json", *words))
        return {"cuda_graphs": captures, **found}

    def rounds(self) -> dict[str, float]:
        """Milliseconds of a prefill and 16 decodes in one context, each in its profile, and all in the prefill profile."""
        found = {}
        for kind, decode in (("multi", "16 decode"), ("single", "16 prefill seq=1")):
            phases = ["--phase", "1 prefill seq=128", "--phase", decode]
            found[kind] = json.loads(self.apus("bench", self.engine("multi"), *phases, "--runs", "20", "--quiet", "--json"))["round_ms"]["median"]
        return found


def markdown(results: dict) -> str:
    lines = ["# One profile and two", "", f"{results['ceilings']}", "",
             f"{results['model']} in bf16, batch 1. Milliseconds of the device with inputs and outputs in its memory (medians), in brackets of a",
             "call with inputs and outputs at the host. The one-profile engine is tuned at 128 tokens and takes 1 to 256.", "",
             "| regime | CUDA graphs | single-profile | multi-profile | speedup |", "|---|---|---|---|---|"]
    for row in results["rows"]:
        lines.append(f"| {row['regime']} (seq={row['seq']}) | {'on' if row['cuda_graphs'] else 'off'} | {row['single_ms']:.3f} ({row['single_call_ms']:.3f}) | "
                     f"{row['multi_ms']:.3f} ({row['multi_call_ms']:.3f}) | {row['speedup']:.2f}x |")
    single, multi = results["rounds_ms"]["single"], results["rounds_ms"]["multi"]
    lines += ["", f"A prefill of 128 and 16 decodes in one context: {single:.3f} ms in one profile, {multi:.3f} ms in two ({single / multi:.2f}x).", "",
              "| a change to | CUDA graphs | costs us | ± |", "|---|---|---|---|"]
    for change in results["changes"]:
        for profile in change["profiles"]:
            lines.append(f"| {profile['name']} | {'on' if change['cuda_graphs'] else 'off'} | {profile['switch_us']:.2f} | {profile['switch_error_us']:.2f} |")
    lines += ["", "Relative errors against an eager run in torch: " + ", ".join(f"{name} {error:.1e}" for name, error in results["errors"].items()) + "."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("apus", type=Path, metavar="APUS", help="the apus binary")
    parser.add_argument("--out", type=Path, required=True, help="the folder of the report")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="for each engine, regime and mode (default: 3)")
    parser.add_argument("--tiny", action="store_true", help="small sizes on the CPU, to check this script")
    options = parser.parse_args()
    options.apus = options.apus.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    config = gemma3.REDUCED if options.tiny else gemma3.FULL
    with tempfile.TemporaryDirectory() as name:
        bench = Profiles(options, Path(name))
        weights = gemma3.Weights.write(config, bench.folder / f"{config.name}.data", "bf16")
        bench.build(config, weights)
        module = gpu_speed.Gemma(config, weights, bench.device).eval()
        results = {"model": config.name, "ceilings": bench.ceilings, "errors": bench.right(config, module)}
        del module
        if not options.tiny:
            torch.cuda.empty_cache()
        results["rows"] = [bench.row(*regime, captures, options.rounds) for regime in REGIMES for captures in (False, True)]
        results["rounds_ms"] = bench.rounds()
        results["changes"] = [bench.change(captures) for captures in (False, True)]
    (options.out / "profiles.json").write_text(json.dumps(results, indent=1) + "\n")
    (options.out / "profiles.md").write_text(markdown(results))
    print(markdown(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
