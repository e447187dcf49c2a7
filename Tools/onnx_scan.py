"""Reads the few facts the scripts need straight out of an ONNX file, without the onnx package.

Protocol buffers are a flat list of (field number, wire type, payload); the field numbers below are those of onnx.proto.
"""
from __future__ import annotations

import array
import dataclasses
import math
import sys
from collections.abc import Iterator

# ModelProto
MODEL_GRAPH, MODEL_METADATA, MODEL_FUNCTIONS = 7, 14, 25
# GraphProto and FunctionProto
GRAPH_NODE, GRAPH_INITIALIZER, GRAPH_INPUT, FUNCTION_NODE = 1, 5, 11, 7
# NodeProto, AttributeProto
NODE_OP_TYPE, NODE_ATTRIBUTE, NODE_DOMAIN, ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS = 4, 5, 7, 6, 11
# TensorProto
TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_RAW = 1, 2, 8, 9


@dataclasses.dataclass(frozen=True)
class Input:
    name: str
    element_type: int
    shape: tuple[int | None, ...]
    dimension_names: tuple[str, ...] = ()


def varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data: memoryview | bytes) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value): an int for a varint, the payload for everything else."""
    data, at = memoryview(data), 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"not a protocol buffer: wire type {kind} at byte {at}")
        if at + size > len(data):
            raise ValueError(f"truncated protocol buffer: a field of {size} bytes at byte {at} of {len(data)}")
        yield key >> 3, data[at:at + size]
        at += size


def all_of(data: memoryview | bytes, number: int) -> list:
    return [value for field, value in fields(data) if field == number]


def text(data: memoryview | bytes, number: int) -> str:
    found = all_of(data, number)
    return bytes(found[-1]).decode() if found else ""


def metadata(model: bytes) -> dict[str, str]:
    """The model's metadata_props."""
    return {text(entry, 1): text(entry, 2) for entry in all_of(model, MODEL_METADATA)}


def inputs(model: bytes) -> list[Input]:
    """The graph's tensor inputs that are not initializers."""
    graph = all_of(model, MODEL_GRAPH)[0]
    stored = {text(tensor, TENSOR_NAME) for tensor in all_of(graph, GRAPH_INITIALIZER)}
    return [value for value in map(value_info, all_of(graph, GRAPH_INPUT)) if value.name not in stored]


def value_info(data: memoryview) -> Input:
    name, element, dims = text(data, 1), 0, []
    for kind in all_of(data, 2):
        for tensor in all_of(kind, 1):
            element = next(iter(all_of(tensor, 1)), 0)
            dims = [dim for shape in all_of(tensor, 2) for dim in all_of(shape, 1)]
    return Input(name, element, tuple(next(iter(all_of(dim, 1)), None) for dim in dims), tuple(text(dim, 2) for dim in dims))


def operators(model: bytes) -> list[str]:
    """The distinct operators of a model, sub-graphs and function bodies included, as Op or domain::Op."""
    found: set[str] = set()
    for graph in all_of(model, MODEL_GRAPH):
        collect(all_of(graph, GRAPH_NODE), found)
    for function in all_of(model, MODEL_FUNCTIONS):
        collect(all_of(function, FUNCTION_NODE), found)
    return sorted(found)


def collect(nodes: list[memoryview], found: set[str]) -> None:
    for node in nodes:
        domain = text(node, NODE_DOMAIN)
        found.add((f"{domain}::" if domain else "") + text(node, NODE_OP_TYPE))
        for attribute in all_of(node, NODE_ATTRIBUTE):
            for graph in all_of(attribute, ATTRIBUTE_GRAPH) + all_of(attribute, ATTRIBUTE_GRAPHS):
                collect(all_of(graph, GRAPH_NODE), found)


def ramp_tensor(value: Input) -> bytes:
    """A float TensorProto with the values 0, 1/n, … (n-1)/n in the input's shape (an unknown dim counts as 1)."""
    shape = [dim or 1 for dim in value.shape]
    n = math.prod(shape)
    ramp = array.array("f", (i / n for i in range(n)))
    if sys.byteorder == "big":
        ramp.byteswap()
    parts = [encode(TENSOR_DIMS, dim) for dim in shape]
    parts += [encode(TENSOR_TYPE, 1), encode(TENSOR_NAME, value.name.encode()), encode(TENSOR_RAW, ramp.tobytes())]
    return b"".join(parts)


def encode(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return encode_varint(number << 3) + encode_varint(value)
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


def encode_varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
