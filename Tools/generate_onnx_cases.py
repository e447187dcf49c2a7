"""Write the node cases that the installed `onnx` package builds at import time (called by fetch-onnx-cases).

usage: python generate_onnx_cases.py DIR     writes DIR/node/CASE/…
"""
from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
import numpy as np
from onnx import TensorProto, ValueInfoProto, numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

import onnx_scan


def encode(value: object, info: ValueInfoProto) -> bytes:
    """A test value as the message its declared type asks for."""
    if isinstance(value, TensorProto):
        return value.SerializeToString()
    match info.type.WhichOneof("value"):
        case "sequence_type":
            message = numpy_helper.from_list(value, info.name)
        case "optional_type":
            message = numpy_helper.from_optional(value, info.name)
        case "map_type":
            message = numpy_helper.from_dict(value, info.name)
        case _:
            message = numpy_helper.from_array(np.asarray(value), info.name)
    return message.SerializeToString()


def write_case(case: TestCase, folder: Path) -> None:
    model = case.model.SerializeToString()
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)
    for k, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{k}"
        data.mkdir()
        for kind, values, infos in (("input", inputs, case.model.graph.input), ("output", outputs, case.model.graph.output)):
            for j, value in enumerate(values):
                (data / f"{kind}_{j}.pb").write_bytes(encode(value, infos[j]))
    description = {"rtol": case.rtol, "atol": case.atol, "ops": onnx_scan.operators(model), "expanded": "_expanded" in case.name}
    (folder / "case.json").write_text(json.dumps(description))


def main() -> None:
    root = Path(sys.argv[1]) / "node"
    for case in load_model_tests(kind="node"):
        write_case(case, root / case.name)


if __name__ == "__main__":
    main()
