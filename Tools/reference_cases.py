"""The real inputs on which the engines are compared with onnxruntime: photographs, printed text, sentences, speech, files."""
from __future__ import annotations

import dataclasses
import re
import sys
import unicodedata
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

import onnx_scan
from support import ROOT, sample_picture

sys.path.insert(0, str(ROOT / "Examples"))
import filetypes
import ocr

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Case:
    """One inference. `carry` names inputs that take an output of the case before, of the same model: {input: output}."""

    model: str
    name: str
    inputs: Arrays
    carry: dict[str, str] = dataclasses.field(default_factory=dict)


# ---- pictures -----------------------------------------------------------------------------------------------------------

def picture(name: str, size: tuple[int, int]) -> Image.Image:
    return Image.open(sample_picture(name)).convert("RGB").resize(size, Image.BICUBIC)


def square(name: str, side: int = 224) -> Image.Image:
    """The middle square of a photograph."""
    photo = Image.open(sample_picture(name)).convert("RGB")
    edge = min(photo.size)
    left, top = (photo.width - edge) // 2, (photo.height - edge) // 2
    return photo.crop((left, top, left + edge, top + edge)).resize((side, side), Image.BICUBIC)


def batch(*pictures: Image.Image) -> np.ndarray:
    return np.concatenate([ocr.to_tensor(p) for p in pictures])


def unit(*pictures: Image.Image) -> np.ndarray:
    """Pixels from 0 to 1, as YOLO models take them."""
    return (batch(*pictures) + 1) / 2


def text_line(row: int, width: int) -> Image.Image:
    """A line of print out of page.png at the recogniser's height."""
    top, bottom = ((10, 36), (47, 68))[row]
    return Image.open(sample_picture("page.png")).convert("RGB").crop((0, top, 384, bottom)).resize((width, ocr.LINE_HEIGHT), Image.BICUBIC)


def text_cases() -> Iterator[Case]:
    yield Case("ppocr4_det.onnx", "page_192x384", {"x": batch(picture("page.png", (384, 192)))})
    yield Case("ppocr4_det.onnx", "page_480x960", {"x": batch(picture("page.png", (960, 480)))})
    yield Case("ppocr4_det.onnx", "two_pages_320x320", {"x": batch(picture("page.png", (320, 320)), picture("coffee.png", (320, 320)))})
    yield Case("ppocr4_rec.onnx", "line_48x384", {"x": batch(text_line(0, 384))})
    yield Case("ppocr4_rec.onnx", "two_lines_48x603", {"x": batch(text_line(0, 603), text_line(1, 603))})
    yield Case("ppocr_cls.onnx", "line_48x192", {"x": batch(text_line(0, 192))})
    yield Case("ppocr_cls.onnx", "lines_and_turned_48x192", {"x": batch(text_line(0, 192), text_line(1, 192), text_line(1, 192).rotate(180))})


def photo_cases() -> Iterator[Case]:
    for model in ("efficientnet_lite0.onnx", "mobilenetv2.onnx", "resnet50.onnx"):
        yield Case(model, "chelsea_b1", {"image": batch(square("chelsea.png"))})
        yield Case(model, "chelsea_coffee_b2", {"image": batch(square("chelsea.png"), square("coffee.png"))})
    yield Case("nudenet.onnx", "astronaut_320x320", {"images": unit(picture("astronaut.png", (320, 320)))})
    yield Case("nudenet.onnx", "astronaut_256x416", {"images": unit(picture("astronaut.png", (416, 256)))})
    yield Case("nudenet.onnx", "astronaut_coffee_b2_192x192", {"images": unit(picture("astronaut.png", (192, 192)), picture("coffee.png", (192, 192)))})


def light_cases(models: Path) -> Iterator[Case]:
    """The topologies without weights of their own: the input their stored output belongs to, and a photograph.
    Those that were given weights: two photographs."""
    for path in sorted(models.glob("light_*.onnx")):
        name = onnx_scan.inputs(path.read_bytes())[0].name
        n = 3 * 224 * 224
        yield Case(path.name, "ramp", {name: (np.arange(n) / n).astype(np.float32).reshape(1, 3, 224, 224)})
        yield Case(path.name, "chelsea", {name: batch(square("chelsea.png"))})
    for path in sorted(models.glob("weighted_*.onnx")):
        name = onnx_scan.inputs(path.read_bytes())[0].name
        for photo in ("chelsea", "coffee"):
            yield Case(path.name, photo, {name: batch(square(f"{photo}.png"))})


# ---- files ----------------------------------------------------------------------------------------------------------------

def file_cases(models: Path) -> Iterator[Case]:
    config = filetypes.Config.load(models / "magika_config.json")
    # A file whose label is not clear-cut would compare onnxruntime's own rounding: its answer for README.txt is 1.1e-4 away
    # from an evaluation in f64.
    files = [Path(__file__), sample_picture("page.png"), sample_picture("rocket.jpg"), models / "magika_config.json"]
    rows = [filetypes.features(path, config) for path in files]
    yield Case("magika.onnx", "png_b1", {"bytes": np.stack(rows[1:2])})
    yield Case("magika.onnx", "four_files_b4", {"bytes": np.stack(rows)})


# ---- sentences ------------------------------------------------------------------------------------------------------------

class WordPiece:
    """The tokenizer of uncased BERT models: words split into the longest pieces of a vocabulary."""

    def __init__(self, vocabulary: Path):
        self.ids = {piece: i for i, piece in enumerate(vocabulary.read_text(encoding="utf-8").splitlines())}

    def encode(self, sentence: str) -> list[int]:
        plain = "".join(c for c in unicodedata.normalize("NFD", sentence.lower()) if unicodedata.category(c) != "Mn")
        words = re.findall(r"[^\W_]+|[^\w\s]|_", plain)
        return [self.ids["[CLS]"], *(i for word in words for i in self.pieces(word)), self.ids["[SEP]"]]

    def pieces(self, word: str) -> list[int]:
        found, at = [], 0
        while at < len(word):
            for end in range(len(word), at, -1):
                piece = ("##" if at else "") + word[at:end]
                if piece in self.ids:
                    found.append(self.ids[piece])
                    at = end
                    break
            else:
                return [self.ids["[UNK]"]]
        return found


def sentence_cases(models: Path) -> Iterator[Case]:
    tokenizer = WordPiece(models / "minilm_vocab.txt")
    for name, sentences in (("guitar_b1", ["A man is playing a guitar."]),
                            ("two_sentences_b2", ["The stock market fell today, although unemployment figures were surprisingly encouraging.", "Someone plays an instrument."])):
        rows = [tokenizer.encode(sentence) for sentence in sentences]
        width = max(map(len, rows))
        ids = np.array([row + [0] * (width - len(row)) for row in rows], np.int64)
        mask = np.array([[1] * len(row) + [0] * (width - len(row)) for row in rows], np.int64)
        yield Case("minilm.onnx", name, {"input_ids": ids, "attention_mask": mask})


# ---- sound ------------------------------------------------------------------------------------------------------------------

def read_wave(path: Path) -> np.ndarray:
    """A mono 16-bit recording of 16 kHz as floats between -1 and 1."""
    with wave.open(str(path)) as recording:
        found = recording.getnchannels(), recording.getsampwidth(), recording.getframerate()
        if found != (1, 2, 16000):
            raise ValueError(f"{path}: expected 1 channel, 2 bytes, 16000 Hz, found {found}")
        return np.frombuffer(recording.readframes(recording.getnframes()), "<i2").astype(np.float32) / 32768


# file: (samples per second, takes sr, batches)
SILERO = {"silero_vad.onnx": ((16000, 8000), True, (1, 2)), "silero_vad_16k_op15.onnx": ((16000,), True, (1, 2)),
          "silero_vad_half.onnx": ((16000,), False, (1,)), "silero_vad_op18_ifless.onnx": ((16000, 8000), True, (1, 2)),
          "silero_vad_openvino_16k.onnx": ((16000,), False, (1,))}
WINDOWS = 6


def loudest(sound: np.ndarray, window: int) -> int:
    """The window before the loudest one, with room for all that follow it."""
    last = len(sound) // window - 2 * WINDOWS
    return max(1, int((sound[:last * window].reshape(last, window) ** 2).sum(axis=1).argmax()) - 1)


def voice_cases(speech: np.ndarray) -> Iterator[Case]:
    """Consecutive windows of speech; each takes the state that the one before left. A second stream lags by WINDOWS."""
    sound = {16000: speech, 8000: speech[: len(speech) // 2 * 2].reshape(-1, 2).mean(axis=1)}
    for model, (rates, takes_rate, batches) in SILERO.items():
        for rate in rates:
            for size in batches:
                window = 512 if rate == 16000 else 256
                context, first = window // 8, loudest(sound[rate], window)
                for k in range(WINDOWS):
                    starts = [(first + k + b * WINDOWS) * window for b in range(size)]
                    inputs = {"input": np.stack([sound[rate][start - context:start + window] for start in starts])}
                    if takes_rate:
                        inputs["sr"] = np.array(rate, np.int64)
                    if k == 0:
                        inputs["state"] = np.zeros((2, size, 128), np.float32)
                    yield Case(model, f"{rate // 1000}khz_b{size}_window{k}", inputs, {"state": "stateN"} if k else {})


def pitch_cases(speech: np.ndarray) -> Iterator[Case]:
    """Speech at 22,050 Hz, and the note A4 over it. (A tone alone is no fair input: the model takes the logarithm of a
    spectrum that is then nearly zero, and onnxruntime's own optimisation levels differ by 6e-4 on it.)"""
    n = 43844
    talk = np.interp(np.arange(n) * 16000 / 22050, np.arange(len(speech)), speech)
    tone = 0.1 * np.sin(2 * np.pi * 440 * np.arange(n) / 22050)
    for name, sounds in (("speech_b1", [talk]), ("speech_and_note_b2", [talk, talk + tone])):
        yield Case("basic_pitch.onnx", name, {"serving_default_input_2:0": np.stack(sounds).astype(np.float32)[:, :, None]})


def all_cases(models: Path, speech: Path) -> Iterator[Case]:
    """Every case, whether its model is there or not; cases of one model that carry a state follow one another."""
    sound = read_wave(speech)
    yield from text_cases()
    yield from photo_cases()
    yield from light_cases(models)
    if (models / "magika_config.json").exists():
        yield from file_cases(models)
    if (models / "minilm_vocab.txt").exists():
        yield from sentence_cases(models)
    yield from voice_cases(sound)
    yield from pitch_cases(sound)
