"""Give the light_* topologies weights (called by fetch-models, in an environment with onnx).

usage: python weigh_light_models.py DIR NAME     DIR/light_NAME.onnx becomes DIR/weighted_NAME.onnx
In the light models every weight is one constant, so every picture has the same answer and no mistake in the order of
channels could show. Here each ConstantOfShape becomes an initializer of seeded random values of a fitting size.
"""
from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

OFFSETS = {("BatchNormalization", 2), ("BatchNormalization", 3), ("Conv", 2), ("Gemm", 2), ("Add", 0), ("Add", 1)}
"""Which inputs of which operators are added or subtracted: values around zero. Other vectors are factors."""


def draw(shape: tuple[int, ...], role: tuple[str, int], random: np.random.Generator) -> np.ndarray:
    if len(shape) > 1:
        return (np.sqrt(2 / np.prod(shape[1:])) * random.standard_normal(shape)).astype(np.float32)
    low, high = (-0.1, 0.1) if role in OFFSETS else (0.7, 1.3)
    return random.uniform(low, high, shape).astype(np.float32)


def roles_of(graph: onnx.GraphProto) -> dict[str, tuple[str, int]]:
    """Each value's operator and place as its input; an Unsqueeze on the way is looked through."""
    readers = {name: (node, place) for node in graph.node for place, name in enumerate(node.input)}

    def role(name: str) -> tuple[str, int]:
        node, place = readers[name]
        return role(node.output[0]) if node.op_type == "Unsqueeze" else (node.op_type, place)
    return {name: role(name) for name in readers}


def show_logits(graph: onnx.GraphProto) -> None:
    """Also give what goes into the last Softmax, which hides most of it."""
    for node in graph.node:
        if node.op_type == "Softmax" and node.output[0] == graph.output[0].name:
            logits = graph.output.add()
            logits.CopyFrom(graph.output[0])
            logits.name = node.input[0]


def weigh(model: onnx.ModelProto) -> None:
    graph, random = model.graph, np.random.default_rng(0)
    shapes = {tensor.name: tuple(numpy_helper.to_array(tensor).tolist()) for tensor in graph.initializer if tensor.name.endswith("__SHAPE")}
    roles = roles_of(graph)
    kept = []
    for node in graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        name, shape = node.output[0], shapes[node.input[0]]
        graph.initializer.append(numpy_helper.from_array(draw(shape, roles[name], random), name))
        graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))  # IR version 3 lists initializers as inputs
    del graph.node[:]
    graph.node.extend(kept)
    for field in (graph.initializer, graph.input):  # the shapes nobody reads any more
        rest = [entry for entry in field if entry.name not in shapes]
        del field[:]
        field.extend(rest)


def main() -> None:
    directory, name = Path(sys.argv[1]), sys.argv[2]
    model, scratch = onnx.load(directory / f"light_{name}.onnx"), directory / f"weighted_{name}.onnx.partial"
    weigh(model)
    show_logits(model.graph)
    onnx.checker.check_model(model)
    onnx.save(model, scratch)
    scratch.replace(directory / f"weighted_{name}.onnx")


if __name__ == "__main__":
    main()
