#!/usr/bin/env python3
"""Say what kind of file each file is, from its bytes alone, with magika's model as an Apus engine.

The model looks at the first and the last 1024 bytes of a file (white space at its ends left out) and gives each of 214
kinds a probability. All files are asked about in one batch.
"""
from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tools"))
import support

if __name__ == "__main__":
    support.restart_in_venv("demo", minimum=(3, 10))

import numpy as np

import apus_cli
from support import DATA, ROOT, ToolError


@dataclasses.dataclass(frozen=True)
class Config:
    """The model's own description of its input and output (magika_config.json)."""

    beginning: int
    end: int
    block: int
    padding: int
    smallest: int
    labels: list[str]
    thresholds: dict[str, float]
    usual_threshold: float

    @staticmethod
    def load(path: Path) -> Config:
        if not path.exists():
            raise ToolError(f"no {path}; fetch it with `Tools/fetch-models --only magika,magika_config`")
        c = json.loads(path.read_text())
        return Config(c["beg_size"], c["end_size"], c["block_size"], c["padding_token"], c["min_file_size_for_dl"],
                      c["target_labels_space"], c.get("thresholds", {}), c["medium_confidence_threshold"])


def features(path: Path, config: Config) -> np.ndarray:
    """The model's input for one file: its first and last bytes as integers, padded in the middle."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        first = file.read(config.block).lstrip()
        file.seek(max(0, size - config.block))
        last = file.read(config.block).rstrip()
    if size <= config.block:  # the two blocks are the same bytes: strip both ends of each
        first, last = first.rstrip(), last.lstrip()
    row = np.full(config.beginning + config.end, config.padding, np.int32)
    first, last = first[:config.beginning], last[-config.end:]
    row[:len(first)] = list(first)
    row[len(row) - len(last):] = list(last)
    return row


@dataclasses.dataclass(frozen=True)
class Answer:
    path: Path
    label: str
    score: float
    sure: bool


def answers(paths: list[Path], scores: np.ndarray, config: Config) -> list[Answer]:
    found = []
    for path, row in zip(paths, scores, strict=True):
        label, score = config.labels[int(row.argmax())], float(row.max())
        found.append(Answer(path, label, score, score >= config.thresholds.get(label, config.usual_threshold)))
    return found


def some_files() -> list[Path]:
    """Files of many kinds that a checkout and any Debian or Ubuntu have."""
    own = [ROOT / "README.md", ROOT / "Package.swift", ROOT / "Makefile", Path(__file__), ROOT / "Tools" / "fetch-models",
           DATA / "models" / "magika.onnx", DATA / "models" / "magika_config.json", support.sample_picture("page.png"), support.sample_picture("rocket.jpg")]
    system = [Path(p) for p in ("/bin/ls", "/etc/passwd", "/usr/bin/ldd", "/usr/share/common-licenses/Apache-2.0",
                                "/usr/share/perl5/Debconf/Db.pm", "/usr/share/info/dir", "/var/lib/dpkg/status")]
    return [path for path in own + system if path.is_file()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example: Examples/filetypes.py ~/Downloads/*")
    parser.add_argument("files", nargs="*", type=Path, help="the files to ask about (default: some of this checkout and of the system)")
    parser.add_argument("--engine", type=Path, default=DATA / "engines" / "magika.apus", help="default: .apus-data/engines/magika.apus")
    parser.add_argument("--config", type=Path, default=DATA / "models" / "magika_config.json", help="default: .apus-data/models/magika_config.json")
    parser.add_argument("--apus", metavar="BINARY", help="the apus command (default: .build/release/apus, else the one on PATH)")
    options = parser.parse_args()

    apus, config = apus_cli.find_apus(options.apus), Config.load(options.config)
    if not options.engine.exists():
        raise ToolError(f"no engine {options.engine}; make it with `{apus} build {options.config.parent / 'magika.onnx'} -o {options.engine}`, or run `make demo`")
    paths = options.files or some_files()
    if missing := [path for path in paths if not path.is_file()]:
        raise ToolError(f"not a file: {', '.join(map(str, missing))}")
    small = [path for path in paths if path.stat().st_size < config.smallest]
    asked = [path for path in paths if path not in small]
    if asked:
        scores = apus_cli.run(apus, options.engine, {"bytes": np.stack([features(path, config) for path in asked])})["target_label"]
        for answer in answers(asked, scores, config):
            print(f"  {answer.score:.3f}  {answer.label:<14} {support.shown(answer.path)}{'' if answer.sure else '   (unsure)'}")
    for path in small:
        print(f"      -  too short      {support.shown(path)}")


if __name__ == "__main__":
    support.run_main(main)
