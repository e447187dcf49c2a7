"""Calls the `apus` command from Python: arrays in, arrays out, through .npy files. Needs numpy."""
from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from support import ROOT, ToolError


def find_apus(stated: str | os.PathLike[str] | None = None) -> Path:
    """The apus binary: the one stated, else the release build of this repository, else the one on PATH."""
    candidates = [Path(stated)] if stated else [ROOT / ".build" / "release" / "apus", Path(shutil.which("apus") or "/nonexistent")]
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    raise ToolError(f"no apus binary: looked at {', '.join(map(str, candidates))}; build it with `swift build -c release` or name it")


def call_apus(apus: Path, *arguments: str | os.PathLike[str], timeout: float = 600) -> str:
    """Run apus and return what it printed; its own message is passed on when it fails."""
    words = [os.fspath(apus), *map(os.fspath, arguments)]
    try:
        result = subprocess.run(words, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise ToolError(f"`apus {' '.join(words[1:4])} …` did not end within {timeout:g} s") from None
    if result.returncode != 0:
        message = "\n  ".join((result.stderr.strip() or result.stdout.strip() or "(it said nothing)").splitlines()[-12:])
        raise ToolError(f"`apus {' '.join(words[1:4])} …` ended with {result.returncode}\n  {message}")
    return result.stdout


def file_name(tensor: str) -> str:
    """A tensor's name as a file name: what a file name cannot hold becomes `_`."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", tensor)


def save_arrays(arrays: dict[str, np.ndarray], root: Path, folder: Path) -> dict[str, dict]:
    """Write arrays under root/folder and describe them: {tensor: {file, shape, dtype}}."""
    (root / folder).mkdir(parents=True)
    described = {}
    for name, value in arrays.items():
        file = folder / f"{file_name(name)}.npy"
        np.save(root / file, value)
        described[name] = {"file": file.as_posix(), "shape": list(value.shape), "dtype": str(value.dtype)}
    return described


def output_file(folder: Path, tensor: str) -> Path:
    """The .npy file that `apus run --output-dir` wrote for a tensor."""
    for name in (tensor.replace("/", "_"), file_name(tensor)):
        if (path := folder / f"{name}.npy").exists():
            return path
    raise ToolError(f"apus wrote no {file_name(tensor)}.npy for output {tensor}; found: {', '.join(sorted(p.name for p in folder.iterdir())) or 'nothing'}")


def run_files(apus: Path, engine: Path, options: list[str], inputs: dict[str, Path]) -> dict[str, np.ndarray]:
    """One inference by `apus run` on inputs in files; outputs are keyed by file name without suffix."""
    with tempfile.TemporaryDirectory(prefix="apus-") as made:
        arguments = [word for name, path in inputs.items() for word in ("--input", f"{name}={path}")]
        call_apus(apus, "run", engine, *options, *arguments, "--output-dir", made)
        return {path.stem: np.load(path) for path in Path(made).glob("*.npy")}


def run(apus: Path, engine: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same on arrays."""
    with tempfile.TemporaryDirectory(prefix="apus-") as given:
        paths = {name: Path(given) / f"{file_name(name)}.npy" for name in inputs}
        for name, value in inputs.items():
            np.save(paths[name], np.ascontiguousarray(value))
        return run_files(apus, engine, [], paths)


def metadata(apus: Path, engine: Path) -> dict[str, str]:
    """The model's metadata as `apus inspect --json` states it; empty when it states none."""
    try:
        return json.loads(call_apus(apus, "inspect", engine, "--json")).get("metadata") or {}
    except json.JSONDecodeError as error:
        raise ToolError(f"`apus inspect {engine} --json` did not print one JSON object: {error}") from None
