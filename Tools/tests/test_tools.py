#!/usr/bin/env python3
"""Tests of the scripts' own logic: no network beyond the demo environment, no apus, no models.

usage: Tools/tests/test_tools.py
"""
from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / folder) for folder in ("Tools", "Examples", "Benchmarks")]
import support

if __name__ == "__main__":
    support.restart_in_venv("demo", minimum=(3, 10))

import numpy as np
from PIL import Image

import apus_cli
import cpu_peers
import filetypes
import ocr
import onnx_scan


class OnnxScan(unittest.TestCase):
    def model(self) -> bytes:
        """A model by hand: Identity on a float input [batch, 3], one metadata entry."""
        def shape(*dims: bytes) -> bytes:
            return b"".join(onnx_scan.encode(1, dim) for dim in dims)
        tensor = onnx_scan.encode(1, 1) + onnx_scan.encode(2, shape(onnx_scan.encode(2, b"batch"), onnx_scan.encode(1, 3)))
        value = onnx_scan.encode(1, b"x") + onnx_scan.encode(2, onnx_scan.encode(1, tensor))
        node = onnx_scan.encode(1, b"x") + onnx_scan.encode(2, b"y") + onnx_scan.encode(onnx_scan.NODE_OP_TYPE, b"Identity")
        graph = onnx_scan.encode(onnx_scan.GRAPH_NODE, node) + onnx_scan.encode(onnx_scan.GRAPH_INPUT, value)
        entry = onnx_scan.encode(1, b"character") + onnx_scan.encode(2, "a\nß".encode())
        return onnx_scan.encode(onnx_scan.MODEL_GRAPH, graph) + onnx_scan.encode(onnx_scan.MODEL_METADATA, entry)

    def test_reads_what_was_written(self):
        model = self.model()
        self.assertEqual(onnx_scan.metadata(model), {"character": "a\nß"})
        self.assertEqual(onnx_scan.operators(model), ["Identity"])
        self.assertEqual(onnx_scan.inputs(model), [onnx_scan.Input("x", 1, (None, 3), ("batch", ""))])

    def test_truncated_file_is_an_error(self):
        with self.assertRaises((ValueError, IndexError)):
            onnx_scan.metadata(self.model()[:-3])


class Detection(unittest.TestCase):
    def test_components_join_diagonally_and_around_corners(self):
        mask = np.array([[1, 0, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0], [0, 0, 0, 1, 0]], bool)
        self.assertEqual(sorted(int((r[:, 2] - r[:, 1]).sum()) for r in ocr.components(mask)), [1, 8])

    def test_leaning_rectangle_is_recovered(self):
        along = np.array([np.cos(0.2), np.sin(0.2)])
        box = ocr.smallest_rectangle(ocr.Box(np.array([50.0, 40.0]), along, 60, 12).corners())
        np.testing.assert_allclose([*box.middle, *box.along, box.length, box.height], [50, 40, *along, 60, 12], atol=1e-9)

    def test_one_pixel_has_a_rectangle(self):
        box = ocr.smallest_rectangle(np.array([[3, 4], [4, 4], [3, 5], [4, 5]]))
        self.assertEqual((box.length, box.height), (1.0, 1.0))

    def test_box_of_a_map_is_grown_and_noise_is_dropped(self):
        probability = np.zeros((64, 128), np.float32)
        probability[20:30, 10:110] = 0.9
        probability[50:60, 50:60] = 0.4
        (box,) = ocr.boxes(probability)
        grow = ocr.UNCLIP * 1000 / 220
        np.testing.assert_allclose([*box.middle, box.length, box.height], [60, 25, 100 + 2 * grow, 10 + 2 * grow])

    def test_reading_order(self):
        def at(x: float, y: float) -> ocr.Box:
            return ocr.Box(np.array([x, y]), np.array([1.0, 0.0]), 20, 10)
        boxes = [at(60, 12), at(10, 30), at(10, 10), at(60, 29)]
        self.assertEqual([tuple(b.middle) for b in ocr.reading_order(boxes)], [(10, 10), (60, 12), (10, 30), (60, 29)])


class Recognition(unittest.TestCase):
    def test_decoding_drops_blanks_and_repeats(self):
        steps = np.full((6, 3), 0.05)
        for step, best in enumerate((1, 1, 0, 1, 2, 2)):
            steps[step, best] = 0.9
        text, confidence = ocr.decode(steps, ["a", "b"])
        self.assertEqual((text, round(confidence, 6)), ("aab", 0.9))

    def test_blank_only(self):
        self.assertEqual(ocr.decode(np.array([[1.0, 0.0]]), ["a"]), ("", 0.0))

    def test_crop_follows_the_line(self):
        picture = Image.new("RGB", (100, 50), "white")
        crop = ocr.for_recogniser(picture, ocr.Box(np.array([50.0, 25.0]), np.array([1.0, 0.0]), 80, 20))
        self.assertEqual(crop.size, (192, ocr.LINE_HEIGHT))


class FileTypes(unittest.TestCase):
    config = filetypes.Config(4, 4, 16, 256, 8, [], {}, 0.5)

    def row(self, data: bytes) -> list[int]:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            return filetypes.features(Path(file.name), self.config).tolist()

    def test_short_file_is_padded_in_the_middle(self):
        self.assertEqual(self.row(b"  ab\n"), [97, 98, 256, 256, 256, 256, 97, 98])

    def test_long_file_gives_both_ends(self):
        self.assertEqual(self.row(b" abcde" + b"." * 20 + b"vwxyz "), list(b"abcd") + list(b"wxyz"))

    def test_empty_file(self):
        self.assertEqual(self.row(b""), [256] * 8)


class Benchmark(unittest.TestCase):
    def test_ratio_is_of_the_fastest_peer(self):
        medians = {"apus": [4.0, 2.0, 3.0], "apus-static": [5.0], "ort": [6.0], "openvino": [1.5]}
        result = cpu_peers.Result(cpu_peers.ROWS[0], {runner: [{"median_ms": ms} for ms in values] for runner, values in medians.items()})
        self.assertEqual((result.fastest(cpu_peers.PEERS), result.fastest(cpu_peers.OWN), result.ratio()), ("openvino", "apus", 0.5))

    def test_shares_of_the_ceilings(self):
        layers = [{"depth": 0, "operations": 9, "bytes": 9, "bound": None, "median_ms": 3.0},
                  {"depth": 1, "operations": 2e9, "bytes": 1e6, "bound": "compute", "median_ms": 2.0},
                  {"depth": 1, "operations": 0, "bytes": 3e6, "bound": "memory", "median_ms": 1.0}]
        printed = {"layers": layers, "ceilings": {"gflop_per_s": {"f32": 1000}, "gb_per_s": 4}, "latency_ms": {"median": 4.0, "min": 2.0}}
        bound = cpu_peers.bound_of(printed)
        self.assertEqual((bound["compute_share"], bound["memory_share"], bound["bound"]), (0.5, 0.25, "compute"))
        self.assertEqual(bound["memory_share_of_fastest"], 0.5)
        slower = cpu_peers.bound_of(printed | {"latency_ms": {"median": 8.0, "min": 4.0}})
        measured = {"apus": [{"median_ms": 4.0}], "apus-static": [{"median_ms": 5.0}]}
        result = cpu_peers.Result(cpu_peers.ROWS[0], measured, bounds={"apus": [bound, slower, bound], "apus-static": [slower]})
        self.assertEqual((result.bound["memory_share"], result.bound["bound"]), (0.25, "compute"))
        measured["apus-static"] = [{"median_ms": 3.0}]
        self.assertEqual(result.bound["memory_share"], 0.125)

    def test_rows_whose_ranges_overlap_are_open(self) -> None:
        def result(own: list[float], peer: list[float]) -> cpu_peers.Result:
            measured = {runner: [{"median_ms": ms} for ms in times] for runner, times in (("apus", own), ("ort", peer))}
            return cpu_peers.Result(cpu_peers.ROWS[0], measured=measured)
        self.assertFalse(result([1.0, 1.1], [1.2, 1.3]).is_open)
        self.assertTrue(result([1.0, 1.25], [1.2, 1.3]).is_open)
        self.assertTrue(result([1.2, 1.3], [1.0, 1.25]).is_open)
        self.assertFalse(result([1.2, 1.3], [1.0, 1.1]).is_open)
        self.assertFalse(cpu_peers.Result(cpu_peers.ROWS[0]).is_open)

    def test_unusable_output_is_explained(self):
        with self.assertRaisesRegex(support.ToolError, "latency_ms"):
            cpu_peers.apus_result('{"latency": 3}')


class Names(unittest.TestCase):
    def test_file_name(self):
        self.assertEqual(apus_cli.file_name("gpu_0/data:1"), "gpu_0_data_1")


if __name__ == "__main__":
    unittest.main()
