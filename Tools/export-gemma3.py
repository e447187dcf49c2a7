#!/usr/bin/env python3
"""Export a transformer of gemma-3-1b's architecture with seeded random weights to ONNX, and write what an eager run gives.

MODELS/gemma3_reduced.onnx has every feature at a small size and is compared in f64; with --full MODELS/gemma3_1b.onnx
has the real sizes (4 GB of f32 weights) and is compared in f32. Both take any `seq` and compute logits of all positions;
the weights lie beside the model, the tied embedding once. The eager run's inputs and logits go to
REFERENCE/manifest.json and the files it names, which `Tools/check-models` reads: the reduced model is built with one
profile and with two.
"""
from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import support

if __name__ == "__main__" and not {"-h", "--help"} & set(sys.argv):
    try:
        support.restart_in_venv("cases")
    except support.ToolError as error:
        sys.exit(f"error: {error}")

from support import DATA, new_folder, run_main, say, shown

ONE = {"name": "one_profile", "build": ["--profile", "prefill: seq=1..256@128"]}
TWO = {"name": "two_profiles", "build": ["--profile", "decode: seq=1", "--profile", "prefill: seq=1..256@128"]}


def export(config, models: Path):
    """The model with its weights; returns the weights."""
    import gemma3
    models.mkdir(parents=True, exist_ok=True)
    weights = gemma3.Weights.write(config, models / f"{config.name}.data")
    gemma3.write_model(config, weights, models / f"{config.name}.onnx")
    return weights


def references(config, eager, lengths: list[tuple[int, int]], root: Path) -> list[dict]:
    """Manifest entries of every length, for each engine and each of its profiles that holds it."""
    import gemma3
    from apus_cli import save_arrays
    entries = []
    for length, stride in lengths:
        name = f"seq{length}" + (f"_stride{stride}" if stride != 1 else "")
        inputs, folder = gemma3.tokens(config, length, stride), Path(config.name) / name
        logits = {"logits": eager(**dict(zip(("ids", "positions"), inputs.values()))).astype("float32")}
        case = {"model": f"{config.name}.onnx", "inputs": save_arrays(inputs, root, folder / "inputs"),
                "outputs": save_arrays(logits, root, folder / "outputs"), "carry": {}}
        case["outputs"]["logits"]["argmax"] = -1
        for engine, profile in ((ONE, "prefill"), (TWO, "prefill"), (TWO, "decode")):
            if profile == "prefill" or length == 1:
                entries.append(case | {"engine": f"{config.name}_{engine['name']}", "build": engine["build"],
                                       "name": f"{name}_{profile}", "run": ["--profile", profile]})
    return sorted(entries, key=lambda entry: entry["engine"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="?", type=Path, default=DATA / "models", metavar="MODELS", help="where the model goes (default: .apus-data/models)")
    parser.add_argument("reference", nargs="?", type=Path, metavar="REFERENCE", help="where the eager run's logits go (default: .apus-data/NAME-reference)")
    parser.add_argument("--full", action="store_true", help="the real sizes: 4 GB of weights")
    options = parser.parse_args()
    import gemma3
    import numpy as np
    config, started = gemma3.FULL if options.full else gemma3.REDUCED, time.monotonic()
    weights = export(config, options.models)
    path = options.models / f"{config.name}.onnx"
    say(f"{shown(path)}: {path.stat().st_size:,} bytes and {weights.path.stat().st_size:,} of weights, in {time.monotonic() - started:.1f} s")
    lengths = [(1, 1), (128, 1)] if options.full else [(1, 1), (2, 1), (17, 1), (128, 1), (128, 3), (200, 1), (256, 1)]
    reference, started = options.reference or DATA / f"{config.name}-reference", time.monotonic()
    with new_folder(reference) as root:
        entries = references(config, gemma3.Eager(config, weights, np.float32 if options.full else np.float64), lengths, root)
        (root / "manifest.json").write_text(json.dumps({"eager": "float32" if options.full else "float64", "cases": entries}, indent=1) + "\n")
    say(f"{shown(reference)}: {len(entries)} cases of an eager run, in {time.monotonic() - started:.1f} s")


run_main(main)
