"""Finds a recording of speech: Debian's pocketsphinx test data where it can be had, else a synthetic voice."""
from __future__ import annotations

import array
import math
import random
import subprocess
import tempfile
import wave
from pathlib import Path

from support import DATA, ToolError, say, sha256, write_atomically

PACKAGE = "pocketsphinx-testdata"
RECORDING = "usr/share/pocketsphinx/test/data/librivox/sense_and_sensibility_01_austen_64kb-0870.wav"
SHA256 = "b0557cf95c974d930577e58e46b7f068c432a6e3afcc286563d88922b2a5315c"
RATE = 16000


def recording() -> tuple[Path, str]:
    """A mono 16 kHz wave file and where it is from."""
    path = DATA / "samples" / "speech.wav"
    for attempt in (lambda: path.read_bytes(), lambda: Path("/", RECORDING).read_bytes(), from_debian):
        try:
            data = attempt()
        except (OSError, ToolError):
            continue
        write_atomically(path, data)
        if sha256(path) == SHA256:
            return path, f"a reader of LibriVox, from Debian's {PACKAGE}"
    say(f"no speech recording to be had ({PACKAGE} could not be downloaded; `apt-get update` may help): using a synthetic voice")
    synthetic = DATA / "samples" / "synthetic-voice.wav"
    write_synthetic(synthetic)
    return synthetic, "a synthetic voice"


def from_debian() -> bytes:
    """Download the package, without installing it, and take the recording out."""
    with tempfile.TemporaryDirectory() as scratch:
        for command in (["apt-get", "download", PACKAGE], ["sh", "-c", "dpkg-deb -x *.deb tree"]):
            if subprocess.run(command, cwd=scratch, capture_output=True, timeout=120).returncode != 0:
                raise ToolError(f"`{' '.join(command)}` failed")
        return (Path(scratch) / "tree" / RECORDING).read_bytes()


VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))


def write_synthetic(path: Path) -> None:
    """Four seconds of vowels: a pulse of varying pitch through three resonances each, with pauses between syllables."""
    noise, samples, phase = random.Random(0), [], 0.0
    state = [[0.0, 0.0] for _ in range(3)]
    for i in range(4 * RATE):
        t = i / RATE
        vowel, loudness = VOWELS[int(t / 0.2) % len(VOWELS)], max(0.0, math.sin(math.pi * (t % 0.2) / 0.2)) ** 0.5
        phase += (120 + 25 * math.sin(2 * math.pi * 1.3 * t)) / RATE
        source = 0.02 * noise.gauss(0, 1)
        if phase >= 1:
            phase, source = phase - 1, 1.0
        value = 0.0
        for resonance, frequency in zip(state, vowel):
            radius = math.exp(-math.pi * 80 / RATE)
            value_now = source + 2 * radius * math.cos(2 * math.pi * frequency / RATE) * resonance[0] - radius * radius * resonance[1]
            resonance[0], resonance[1] = value_now, resonance[0]
            value += value_now
        samples.append(loudness * value)
    peak = max(map(abs, samples))
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(array.array("h", (round(20000 * s / peak) for s in samples)).tobytes())
