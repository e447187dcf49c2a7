#!/usr/bin/env python3
"""Read the text in a picture with two Apus engines, PP-OCRv4's detector and recogniser.

The detector gives each pixel the probability of belonging to a line of text; neighbouring pixels above a threshold make a
box, which may lean. The recogniser turns the picture in each box into characters (it does not read vertical text). Prints one line of text
per box with its confidence, and writes the picture with the boxes beside the text that was read in them.
"""
from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "Tools"))
import support

if __name__ == "__main__":
    support.restart_in_venv("demo", minimum=(3, 10))

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import apus_cli
import onnx_scan
from support import DATA, ToolError

PIXEL_THRESHOLD = 0.3  # probability from which a pixel belongs to text
BOX_THRESHOLD = 0.6    # mean probability from which a region is kept
LINE_THRESHOLD = 0.5   # confidence from which a line is reported
UNCLIP = 1.6           # the detector is trained on shrunk boxes; this grows them back
SMALLEST_SIDE = 3      # pixels of the detector's map
LINE_HEIGHT = 48       # rows of the recogniser's input

Run = Callable[[np.ndarray], np.ndarray]
"""One model: its input tensor to its output tensor."""


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle with its own axes: the middle, the unit vector along the line of text, length and height."""

    middle: np.ndarray
    along: np.ndarray
    length: float
    height: float

    def corners(self) -> np.ndarray:
        """Top left, top right, bottom right, bottom left, as rows of x and y."""
        right, down = self.along * self.length / 2, across(self.along) * self.height / 2
        return np.array([self.middle - right - down, self.middle + right - down, self.middle + right + down, self.middle - right + down])

    def grown(self, by: float) -> Box:
        return dataclasses.replace(self, length=self.length + 2 * by, height=self.height + 2 * by)

    def scaled(self, x: float, y: float) -> Box:
        """The box in a picture stretched by x and y, which differ so little that it stays a rectangle."""
        along = self.along * (x, y)
        stretch = float(np.linalg.norm(along))
        return Box(self.middle * (x, y), along / stretch, self.length * stretch, self.height * x * y / stretch)


def across(vector: np.ndarray) -> np.ndarray:
    """The vector turned from rightwards to downwards."""
    return np.array([-vector[1], vector[0]])


@dataclasses.dataclass(frozen=True)
class Line:
    box: Box
    text: str
    confidence: float


# ---- pictures to tensors ----------------------------------------------------------------------------------------------

def to_tensor(picture: Image.Image) -> np.ndarray:
    """RGB picture to float [1, 3, H, W] between -1 and 1."""
    pixels = np.asarray(picture.convert("RGB"), dtype=np.float32)
    return np.ascontiguousarray(((pixels / 255 - 0.5) / 0.5).transpose(2, 0, 1)[None])


def for_detector(picture: Image.Image, long_side: int) -> Image.Image:
    """Scale the longer side to about `long_side`; both sides become multiples of 32."""
    scale = long_side / max(picture.size)
    width, height = (max(32, round(side * scale / 32) * 32) for side in picture.size)
    return picture.resize((width, height), Image.BICUBIC)


def for_recogniser(picture: Image.Image, box: Box) -> Image.Image:
    """The box's part of the picture, scaled to the height the recogniser reads."""
    size = max(1, round(box.length)), max(1, round(box.height))
    top_left, top_right, bottom_right, bottom_left = box.corners()
    corners = np.concatenate([top_left, bottom_left, bottom_right, top_right]).tolist()
    crop = picture.transform(size, Image.Transform.QUAD, corners, Image.BICUBIC)
    return crop.resize((max(LINE_HEIGHT, round(crop.width * LINE_HEIGHT / crop.height)), LINE_HEIGHT), Image.BICUBIC)


# ---- detection: probability map to boxes --------------------------------------------------------------------------------

def components(mask: np.ndarray) -> list[np.ndarray]:
    """The 8-connected regions of a boolean map, each as rows of (y, first column, end column)."""
    parent: list[int] = []
    runs: list[tuple[int, int, int]] = []

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    above = range(0)  # the runs of the row before
    for y, row in enumerate(mask):
        edges = np.flatnonzero(np.diff(np.concatenate(([0], row.view(np.int8), [0]))))
        first = len(runs)
        for start, end in edges.reshape(-1, 2).tolist():
            parent.append(len(runs))
            for other in above:
                if runs[other][1] <= end and start <= runs[other][2]:
                    parent[root(other)] = root(len(runs))
            runs.append((y, start, end))
        above = range(first, len(runs))
    regions: dict[int, list[tuple[int, int, int]]] = {}
    for i, run in enumerate(runs):
        regions.setdefault(root(i), []).append(run)
    return [np.array(region) for region in regions.values()]


def hull(points: np.ndarray) -> np.ndarray:
    """The convex hull of points, in order (the monotone chain)."""
    ordered = sorted(set(map(tuple, points.tolist())))

    def chain(sequence: list[tuple[float, float]]) -> list[tuple[float, float]]:
        kept: list[tuple[float, float]] = []
        for p in sequence:
            while len(kept) > 1 and (kept[-1][0] - kept[-2][0]) * (p[1] - kept[-2][1]) <= (kept[-1][1] - kept[-2][1]) * (p[0] - kept[-2][0]):
                kept.pop()
            kept.append(p)
        return kept[:-1]
    return np.array(chain(ordered) + chain(ordered[::-1]), dtype=np.float64)


def smallest_rectangle(points: np.ndarray) -> Box:
    """The rectangle of least area around points; one of its sides lies on their hull. Its text runs within 45° of level."""
    corners = hull(points)
    best: Box | None = None
    for edge in np.roll(corners, -1, axis=0) - corners:
        along = edge / np.linalg.norm(edge)
        if abs(along[1]) > abs(along[0]):
            along = across(along)
        along = along if along[0] > 0 else -along
        axes = np.stack([along, across(along)])
        projected = corners @ axes.T
        low, high = projected.min(axis=0), projected.max(axis=0)
        length, height = high - low
        if best is None or length * height < best.length * best.height:
            best = Box((low + high) / 2 @ axes, along, float(length), float(height))
    assert best is not None
    return best


def mean_over(probability: np.ndarray, region: np.ndarray) -> float:
    """The mean of the map over a region, which may be bent where its rectangle is straight."""
    return float(np.concatenate([probability[y, start:end] for y, start, end in region]).mean())


def boxes(probability: np.ndarray) -> list[Box]:
    """The text boxes of a probability map [H, W], in its own pixels."""
    found = []
    for region in components(probability > PIXEL_THRESHOLD):
        y, start, end = region.T
        box = smallest_rectangle(np.stack([np.concatenate([start, end, start, end]), np.concatenate([y, y, y + 1, y + 1])], axis=1))
        if min(box.length, box.height) < SMALLEST_SIDE or mean_over(probability, region) < BOX_THRESHOLD:
            continue
        found.append(box.grown(UNCLIP * box.length * box.height / (2 * (box.length + box.height))))
    return found


def reading_order(found: list[Box]) -> list[Box]:
    """Rows from top to bottom, boxes of one row from left to right. Boxes share a row when their middles are level."""
    rows: list[list[Box]] = []
    for box in sorted(found, key=lambda b: b.middle[1]):
        if rows and box.middle[1] - rows[-1][0].middle[1] < 0.5 * min(box.height, rows[-1][0].height):
            rows[-1].append(box)
        else:
            rows.append([box])
    return [box for row in rows for box in sorted(row, key=lambda b: b.middle[0])]


def detect(picture: Image.Image, detector: Run, long_side: int) -> list[Box]:
    scaled = for_detector(picture, long_side)
    probability = detector(to_tensor(scaled))[0, 0]
    x, y = picture.width / probability.shape[1], picture.height / probability.shape[0]
    return reading_order([box.scaled(x, y) for box in boxes(probability)])


# ---- recognition: picture of a line to text -------------------------------------------------------------------------------

def decode(probabilities: np.ndarray, characters: list[str]) -> tuple[str, float]:
    """Greedy CTC over [steps, classes]: class 0 is the blank; repeated classes without a blank between are one character."""
    best = probabilities.argmax(axis=1)
    kept = (best != 0) & (best != np.concatenate(([0], best[:-1])))
    confidence = float(probabilities.max(axis=1)[kept].mean()) if kept.any() else 0.0
    return "".join(characters[i - 1] for i in best[kept]), confidence


def recognise(picture: Image.Image, box: Box, recogniser: Run, characters: list[str]) -> Line:
    probabilities = recogniser(to_tensor(for_recogniser(picture, box)))[0]
    if probabilities.shape[1] != len(characters) + 1:
        raise ToolError(f"the recogniser has {probabilities.shape[1]} classes, expected {len(characters) + 1} "
                        "(one blank and the characters of the model's metadata); use the character list of this very model")
    return Line(box, *decode(probabilities, characters))


def read(picture: Image.Image, detector: Run, recogniser: Run, characters: list[str], long_side: int = 960) -> list[Line]:
    """All lines of text of a picture, in reading order."""
    lines = [recognise(picture, box, recogniser, characters) for box in detect(picture, detector, long_side)]
    return [line for line in lines if line.text.strip() and line.confidence >= LINE_THRESHOLD]


# ---- the picture that shows the answer ------------------------------------------------------------------------------------

def annotate(picture: Image.Image, lines: list[Line]) -> Image.Image:
    """The picture with its boxes on the left, the text that was read at the same places on the right."""
    scale = max(1, round(900 / picture.width))
    width, height = picture.width * scale, picture.height * scale
    canvas = Image.new("RGB", (2 * width, height), "white")
    canvas.paste(picture.convert("RGB").resize((width, height), Image.BICUBIC), (0, 0))
    draw = ImageDraw.Draw(canvas)
    for line in lines:
        box = line.box.scaled(scale, scale)
        corners = box.corners()
        draw.polygon([tuple(corner) for corner in corners.tolist()], outline=(220, 40, 40), width=2)
        left, middle = float(corners[:, 0].min()), float(box.middle[1])
        draw.text((width + max(left, 0) + 4, middle), line.text, fill="black", font=fitting_font(draw, line.text, box), anchor="lm")
    return canvas


def fitting_font(draw: ImageDraw.ImageDraw, text: str, box: Box) -> ImageFont.FreeTypeFont:
    """The largest font with which the text stays as long as its box."""
    size = max(8, 0.7 * box.height)
    needed = draw.textlength(text, font=ImageFont.load_default(size))
    return ImageFont.load_default(max(8, min(size, size * box.length / max(needed, 1))))


# ---- the command ------------------------------------------------------------------------------------------------------------

def model(apus: Path, engine: Path, source: Path) -> Run:
    """A model with one input `x` and one output, run by `apus run`."""
    if not engine.exists():
        raise ToolError(f"no engine {engine}; make it with `{apus} build {source} -o {engine}`, or run `make demo`")

    def call(tensor: np.ndarray) -> np.ndarray:
        outputs = apus_cli.run(apus, engine, {"x": tensor})
        if len(outputs) != 1:
            raise ToolError(f"{engine} gave {len(outputs)} outputs ({', '.join(outputs)}), expected one")
        return next(iter(outputs.values()))
    return call


def character_list(apus: Path, engine: Path, source: Path) -> list[str]:
    """The recogniser's characters, kept in the model's metadata under `character`; the space is implied."""
    listed = apus_cli.metadata(apus, engine).get("character")
    if listed is None and source.exists():
        listed = onnx_scan.metadata(source.read_bytes()).get("character")
    if listed is None:
        raise ToolError(f"neither {engine} nor {source} has the metadata entry `character`; fetch the model again with Tools/fetch-models")
    return listed.split("\n") + [" "]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     epilog="example: Examples/ocr.py photo.jpg -o photo-text.png")
    parser.add_argument("picture", nargs="?", type=Path, help="the picture to read (default: the scanned page that scikit-image carries)")
    parser.add_argument("-o", "--output", type=Path, default=DATA / "demo" / "ocr.png", help="the annotated picture (default: .apus-data/demo/ocr.png)")
    parser.add_argument("--engines", type=Path, default=DATA / "engines", metavar="DIR", help="where ppocr4_det.apus and ppocr4_rec.apus are")
    parser.add_argument("--models", type=Path, default=DATA / "models", metavar="DIR", help="where ppocr4_det.onnx and ppocr4_rec.onnx are")
    parser.add_argument("--apus", metavar="BINARY", help="the apus command (default: .build/release/apus, else the one on PATH)")
    parser.add_argument("--long-side", type=int, default=960, metavar="PIXELS", help="what the longer side is scaled to for the detector (default: 960)")
    options = parser.parse_args()

    apus = apus_cli.find_apus(options.apus)
    path = options.picture or support.sample_picture("page.png")
    try:
        picture = Image.open(path).convert("RGB")
    except OSError as error:
        raise ToolError(f"cannot read the picture {path}: {error}") from None
    engines = {name: options.engines / f"{name}.apus" for name in ("ppocr4_det", "ppocr4_rec")}
    runs = {name: model(apus, engine, options.models / f"{name}.onnx") for name, engine in engines.items()}
    characters = character_list(apus, engines["ppocr4_rec"], options.models / "ppocr4_rec.onnx")
    lines = read(picture, runs["ppocr4_det"], runs["ppocr4_rec"], characters, options.long_side)

    print(f"{path.name}, {picture.width}x{picture.height}: {len(lines)} lines")
    for line in lines:
        print(f"  {line.confidence:.3f}  {line.text}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    annotate(picture, lines).save(options.output)
    print(f"wrote {support.shown(options.output)}")


if __name__ == "__main__":
    support.run_main(main)
