"""Random models of one node, by family of operators: what `sweep-operators` draws, shrinks and compares.

A family draws parameters (numbers, strings, lists, nothing else, so that they can be written down and made smaller) and makes a
node of them. Parameters that make no valid node raise Invalid, or are refused by every witness.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from random import Random

import ml_dtypes
import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

OPSET = 22
SIZES = (1, 2, 3, 4, 5, 7, 8, 11, 13, 16, 17, 31, 33)
FLOATS = ("float32", "float32", "float32", "float64", "float16", "bfloat16")
INTS = ("int32", "int64", "int8", "uint8", "int16", "uint16", "uint32", "uint64")
KINDS = {
    "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "float16": TensorProto.FLOAT16, "bfloat16": TensorProto.BFLOAT16,
    "int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int16": TensorProto.INT16, "uint16": TensorProto.UINT16, "int32": TensorProto.INT32,
    "uint32": TensorProto.UINT32, "int64": TensorProto.INT64, "uint64": TensorProto.UINT64, "bool": TensorProto.BOOL, "int4": TensorProto.INT4,
    "uint4": TensorProto.UINT4, "float8e4m3fn": TensorProto.FLOAT8E4M3FN, "float8e5m2": TensorProto.FLOAT8E5M2,
}


class Invalid(Exception):
    """The parameters make no valid node."""


def need(condition: bool) -> None:
    if not condition:
        raise Invalid


def array_type(dtype: str) -> np.dtype:
    special = {"bfloat16": ml_dtypes.bfloat16, "int4": ml_dtypes.int4, "uint4": ml_dtypes.uint4, "float8e4m3fn": ml_dtypes.float8_e4m3fn,
               "float8e5m2": ml_dtypes.float8_e5m2}
    return np.dtype(special.get(dtype, dtype))


class Node:
    """A node under construction: inputs by name, those that are constants of the model among them."""

    def __init__(self, op: str, seed: int, opset: int = OPSET, **attributes):
        self.op, self.opset, self.attributes, self.outputs = op, opset, attributes, 1
        self.domain = ""
        # The type whose rounding errors are allowed at least.
        self.computes = "float64"
        self.inputs: list[tuple[str, np.ndarray | None, bool]] = []
        self.seed, self.draws = seed, 0

    @property
    def random(self) -> np.random.Generator:
        """Each value has numbers of its own, so that the sizes of one do not change another."""
        self.draws += 1
        return np.random.default_rng([self.seed, self.draws])

    def values(self, shape: list[int], dtype: str, low: float = -2.0, high: float = 2.0) -> np.ndarray:
        need(all(size >= 0 for size in shape) and int(np.prod(shape, dtype=np.int64)) <= 1 << 18)
        if dtype == "bool":
            return self.random.random(shape) < 0.5
        if dtype.startswith(("int", "uint")):
            floor = 0 if dtype.startswith("uint") else -4
            return self.random.integers(max(floor, low) if low != -2.0 else floor, high + 1 if high != 2.0 else 6, shape).astype(array_type(dtype))
        return (low + (high - low) * self.random.random(shape)).astype(array_type(dtype))

    def feed(self, value: np.ndarray, constant: bool = False) -> "Node":
        self.inputs.append((f"x{len(self.inputs)}", value, constant))
        return self

    def skip(self) -> "Node":
        self.inputs.append(("", None, True))
        return self

    def ints(self, values: list[int], constant: bool = True) -> "Node":
        return self.feed(np.array(values, np.int64), constant)

    def in_f32(self) -> "Node":
        """The same with all floats in f32."""
        wide = Node(self.op, self.seed, self.opset, **self.attributes)
        wide.outputs, wide.domain = self.outputs, self.domain
        wide.inputs = [(name, value.astype(np.float32) if value is not None and value.dtype.name in ("float16", "bfloat16", "float64") else value, constant)
                       for name, value, constant in self.inputs]
        return wide

    @property
    def feeds(self) -> dict[str, np.ndarray]:
        return {name: value for name, value, constant in self.inputs if value is not None and not constant}

    @property
    def constants(self) -> dict[str, np.ndarray]:
        return {name: value for name, value, constant in self.inputs if value is not None and constant}

    def model(self, shapes: dict[str, list[int | str]] | None = None) -> ModelProto:
        """- shapes: of inputs, with names in place of sizes that change."""
        shapes = shapes or {name: list(value.shape) for name, value in self.feeds.items()}
        names = [name for name, _, _ in self.inputs]
        while names and not names[-1]:
            names.pop()
        outputs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outputs, name="node", domain=self.domain, **{k: v for k, v in self.attributes.items() if v is not None})
        graph = helper.make_graph(
            [node], f"{self.op} sweep", [helper.make_tensor_value_info(name, kind(value), shapes[name]) for name, value in self.feeds.items()],
            [helper.make_empty_tensor_value_info(name) for name in outputs],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)], ir_version=10)


def kind(value: np.ndarray) -> int:
    return next(number for name, number in KINDS.items() if array_type(name) == value.dtype)


@dataclasses.dataclass(frozen=True)
class Family:
    name: str
    draw: Callable[[Random], dict]
    make: Callable[[dict], Node]
    # How many draws of every hundred.
    weight: int = 4


FAMILIES: dict[str, Family] = {}


def family(name: str, weight: int = 4):
    """Registers a class with `draw` and `make`."""
    def register(cls):
        FAMILIES[name] = Family(name, cls.draw, cls.make, weight)
        return cls
    return register


def sizes(r: Random, rank: int, limit: int = 4096, zero: float = 0.02) -> list[int]:
    """A shape with primes, ones, now and then a zero."""
    shape = [r.choice(SIZES) for _ in range(rank)]
    while np.prod(shape) > limit:
        i = max(range(rank), key=lambda k: shape[k])
        shape[i] = r.choice([s for s in SIZES if s < shape[i]])
    if rank and r.random() < zero:
        shape[r.randrange(rank)] = 0
    return shape


def broadcast(r: Random, shape: list[int]) -> list[int]:
    """A shape that broadcasts with another."""
    other = [1 if r.random() < 0.3 else size for size in shape]
    return other[r.randrange(len(other) + 1) if r.random() < 0.4 else 0:]


# ---- windows ------------------------------------------------------------------------------------------------------------


def windows(r: Random, rank: int) -> dict:
    return {"kernel": [r.choice((1, 1, 2, 3, 3, 4, 5)) for _ in range(rank)], "strides": [r.choice((1, 1, 1, 2, 3)) for _ in range(rank)],
            "dilations": [r.choice((1, 1, 1, 2, 3)) for _ in range(rank)], "pads": [r.choice((0, 0, 1, 2)) for _ in range(2 * rank)],
            "spatial": [r.choice((1, 3, 5, 6, 7, 8, 9, 12, 14, 17)) for _ in range(rank)] if rank < 3 else [r.choice((3, 4, 5, 7)) for _ in range(rank)],
            "auto": r.choice(("NOTSET",) * 5 + ("SAME_UPPER", "SAME_LOWER", "VALID"))}


def window_attributes(p: dict, dilates: bool = True) -> dict:
    explicit = p["auto"] == "NOTSET"
    return {"kernel_shape": p["kernel"], "strides": p["strides"], "pads": p["pads"] if explicit else None,
            "auto_pad": None if explicit else p["auto"], "dilations": p["dilations"] if dilates else None}


def fits(p: dict) -> None:
    """Whether every output has a size of at least one."""
    rank = len(p["kernel"])
    need(min(p["kernel"] + p["strides"] + p["dilations"]) >= 1 and min(p["pads"]) >= 0)
    # onnxruntime's pools forget dilations where they pad to keep sizes.
    need(not p["auto"].startswith("SAME") or max(p["dilations"]) == 1)
    for i in range(rank):
        extent = (p["kernel"][i] - 1) * p["dilations"][i] + 1
        padded = p["spatial"][i] + (p["pads"][i] + p["pads"][rank + i] if p["auto"] == "NOTSET" else 0)
        need(p["auto"].startswith("SAME") or padded >= extent)
        # Nor is it agreed upon what to pad where strides leave out more than is there.
        need(not p["auto"].startswith("SAME") or (-(-p["spatial"][i] // p["strides"][i]) - 1) * p["strides"][i] + extent >= p["spatial"][i])


@family("conv", 12)
class Conv:
    def draw(r: Random) -> dict:
        groups = r.choice((1, 1, 1, 2, 3, 8))
        return {**windows(r, r.choice((1, 2, 2, 2, 3))), "batch": r.choice((1, 1, 2, 3)), "groups": groups, "inputs": r.choice((1, 1, 2, 3, 5, 8, 16)),
                "outputs": r.choice((1, 1, 2, 3, 5, 8, 16)), "bias": r.random() < 0.5, "constant": r.random() < 0.7, "dtype": r.choice(FLOATS), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        fits(p)
        need(min(p["groups"], p["inputs"], p["outputs"]) >= 1)
        node = Node("Conv", p["seed"], group=p["groups"], **window_attributes(p))
        node.feed(node.values([p["batch"], p["groups"] * p["inputs"], *p["spatial"]], p["dtype"]))
        node.feed(node.values([p["groups"] * p["outputs"], p["inputs"], *p["kernel"]], p["dtype"]), p["constant"])
        if p["bias"]:
            node.feed(node.values([p["groups"] * p["outputs"]], p["dtype"]), p["constant"])
        return node


@family("conv_transpose", 6)
class ConvTranspose:
    def draw(r: Random) -> dict:
        rank = r.choice((1, 2, 2, 3))
        return {**windows(r, rank), "batch": r.choice((1, 2)), "groups": r.choice((1, 1, 2, 3)), "inputs": r.choice((1, 2, 3, 8)), "outputs": r.choice((1, 2, 3, 8)),
                "extra": [r.choice((0, 0, 1)) for _ in range(rank)], "bias": r.random() < 0.5, "constant": r.random() < 0.7, "dtype": r.choice(FLOATS), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        need(min(p["kernel"] + p["strides"] + p["dilations"]) >= 1 and min(p["pads"] + p["extra"]) >= 0 and min(p["groups"], p["inputs"], p["outputs"]) >= 1)
        rank = len(p["kernel"])
        for i in range(rank):
            need(p["extra"][i] < max(p["strides"][i], p["dilations"][i]))
            out = (p["spatial"][i] - 1) * p["strides"][i] + p["extra"][i] + (p["kernel"][i] - 1) * p["dilations"][i] + 1
            need(out - p["pads"][i] - p["pads"][rank + i] >= 1 and (p["auto"] == "NOTSET" or out >= p["spatial"][i] * p["strides"][i]))
        node = Node("ConvTranspose", p["seed"], group=p["groups"], output_padding=p["extra"], **window_attributes(p))
        node.feed(node.values([p["batch"], p["groups"] * p["inputs"], *p["spatial"]], p["dtype"]))
        node.feed(node.values([p["groups"] * p["inputs"], p["outputs"], *p["kernel"]], p["dtype"]), p["constant"])
        if p["bias"]:
            node.feed(node.values([p["groups"] * p["outputs"]], p["dtype"]), p["constant"])
        return node


@family("pool", 8)
class Pool:
    def draw(r: Random) -> dict:
        return {**windows(r, r.choice((1, 2, 2, 3))), "op": r.choice(("MaxPool", "MaxPool", "AveragePool", "AveragePool", "LpPool")), "batch": r.choice((1, 2)),
                "channels": r.choice((1, 3, 8)), "ceil": r.random() < 0.4, "counts_pads": r.random() < 0.5, "indices": r.random() < 0.3, "p": r.choice((1, 2, 3)),
                "dtype": r.choice(FLOATS), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        fits(p)
        for i, pad in enumerate(p["pads"]):
            need(pad < p["kernel"][i % len(p["kernel"])])
        more = {"MaxPool": {}, "AveragePool": {"count_include_pad": int(p["counts_pads"])}, "LpPool": {"p": p["p"]}}[p["op"]]
        node = Node(p["op"], p["seed"], ceil_mode=int(p["ceil"]), **window_attributes(p), **more)
        node.feed(node.values([p["batch"], p["channels"], *p["spatial"]], p["dtype"]))
        node.outputs = 2 if p["op"] == "MaxPool" and p["indices"] else 1
        return node


@family("global_pool", 2)
class GlobalPool:
    def draw(r: Random) -> dict:
        return {"op": r.choice(("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")), "shape": sizes(r, r.choice((3, 4, 5)), zero=0), "dtype": r.choice(FLOATS), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        node = Node(p["op"], p["seed"])
        return node.feed(node.values(p["shape"], p["dtype"]))


# ---- products -----------------------------------------------------------------------------------------------------------


@family("matmul", 8)
class MatMul:
    def draw(r: Random) -> dict:
        batch = sizes(r, r.choice((0, 0, 1, 2)), 12)
        return {"a": broadcast(r, batch) if r.random() < 0.4 else batch, "b": broadcast(r, batch) if r.random() < 0.4 else batch,
                "rows": r.choice((1, 1, 2, 3, 17, 33, 64)), "columns": r.choice((1, 2, 3, 8, 17, 33, 65)), "depth": r.choice((0, 1, 2, 3, 8, 16, 31, 64, 130)),
                "vectors": r.choice(("none",) * 6 + ("a", "b")), "constant": r.random() < 0.5, "dtype": r.choice(FLOATS + ("int32", "uint64")), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        node = Node("MatMul", p["seed"])
        node.feed(node.values([p["depth"]] if p["vectors"] == "a" else [*p["a"], p["rows"], p["depth"]], p["dtype"]))
        return node.feed(node.values([p["depth"]] if p["vectors"] == "b" else [*p["b"], p["depth"], p["columns"]], p["dtype"]), p["constant"])


@family("gemm", 4)
class Gemm:
    def draw(r: Random) -> dict:
        return {"rows": r.choice(SIZES), "columns": r.choice(SIZES), "depth": r.choice(SIZES), "a": r.random() < 0.5, "b": r.random() < 0.5,
                "alpha": r.choice((1.0, 0.5, -2.0)), "beta": r.choice((1.0, 0.25, 0.0)), "c": r.choice(("none", "full", "row", "column", "vector", "scalar")),
                "constant": r.random() < 0.5, "dtype": r.choice(FLOATS), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        node = Node("Gemm", p["seed"], transA=int(p["a"]), transB=int(p["b"]), alpha=p["alpha"], beta=p["beta"])
        m, n, k = p["rows"], p["columns"], p["depth"]
        node.feed(node.values([k, m] if p["a"] else [m, k], p["dtype"])).feed(node.values([n, k] if p["b"] else [k, n], p["dtype"]), p["constant"])
        shapes = {"full": [m, n], "row": [1, n], "column": [m, 1], "vector": [n], "scalar": []}
        if p["c"] in shapes:
            node.feed(node.values(shapes[p["c"]], p["dtype"]), p["constant"])
        return node


@family("einsum", 2)
class Einsum:
    EQUATIONS = ("ij,jk->ik", "bij,bjk->bik", "bhid,bhjd->bhij", "ij->ji", "ii->i", "ij->", "i,j->ij", "...ij,...jk->...ik", "abc,cd,de->abe", "ij,ij->i", "bij,bij->b")

    def draw(r: Random) -> dict:
        return {"equation": r.choice(Einsum.EQUATIONS), "sizes": {letter: r.choice((1, 2, 3, 5, 8)) for letter in "abcdehijk"}, "dtype": r.choice(("float32", "float64", "int32")),
                "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        node = Node("Einsum", p["seed"], equation=p["equation"])
        for term in p["equation"].split("->")[0].split(","):
            node.feed(node.values([p["sizes"][letter] for letter in term.replace("...", "eh")], p["dtype"]))
        return node


@family("attention", 4)
class Attention:
    def draw(r: Random) -> dict:
        groups = r.choice((1, 1, 2, 4))
        return {"batch": r.choice((1, 2)), "kv_heads": r.choice((1, 2, 3)), "groups": groups, "queries": r.choice((1, 1, 4, 7, 16)), "keys": r.choice((1, 5, 8, 17)),
                "size": r.choice((4, 8, 16, 20)), "values": r.choice((4, 8, 16)), "mask": r.choice(("none", "none", "bool", "float")), "mask_rank": r.choice((2, 3, 4)),
                "causal": r.random() < 0.4, "past": r.choice((0, 0, 3)), "flat": r.random() < 0.3, "scale": r.choice((0.0, 0.0, 0.2)), "softcap": r.choice((0.0, 0.0, 2.0)),
                "dtype": r.choice(("float32", "float32", "float32", "float16", "float64")), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        heads, total = p["kv_heads"] * p["groups"], p["keys"] + p["past"]
        need(min(p["kv_heads"], p["groups"], p["size"], p["values"], p["keys"], p["queries"]) >= 1)
        more = {"q_num_heads": heads, "kv_num_heads": p["kv_heads"]} if p["flat"] else {}
        node = Node("Attention", p["seed"], opset=23, is_causal=int(p["causal"]), scale=p["scale"] or None, softcap=p["softcap"] or None, **more)
        node.computes = "float32"  # onnxruntime does in any case

        def rows(count: int, length: int, size: int) -> np.ndarray:
            return node.values([p["batch"], length, count * size] if p["flat"] else [p["batch"], count, length, size], p["dtype"], -1.0, 1.0)
        node.feed(rows(heads, p["queries"], p["size"])).feed(rows(p["kv_heads"], p["keys"], p["size"])).feed(rows(p["kv_heads"], p["keys"], p["values"]))
        if p["mask"] == "none":
            node.skip()
        else:
            shape = [p["batch"], 1, p["queries"], total][4 - p["mask_rank"]:]
            mask = node.values(shape, "bool" if p["mask"] == "bool" else p["dtype"])
            if p["mask"] == "bool":
                mask[..., 0] = True
            node.feed(mask)
        if p["past"]:
            for size in (p["size"], p["values"]):
                node.feed(node.values([p["batch"], p["kv_heads"], p["past"], size], p["dtype"], -1.0, 1.0))
            node.outputs = 3
        return node


# ---- rows ---------------------------------------------------------------------------------------------------------------


@family("reduce", 8)
class Reduce:
    OPS = ("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")

    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3, 4)), zero=0.05)
        axes = r.sample(range(len(shape)), r.randrange(len(shape) + 1))
        return {"op": r.choice(Reduce.OPS), "shape": shape, "axes": [axis - len(shape) if r.random() < 0.3 else axis for axis in axes], "keep": r.random() < 0.5,
                "noop": r.random() < 0.2, "dtype": r.choice(FLOATS + ("int32", "int64")), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        need(all(-len(p["shape"]) <= axis < len(p["shape"]) for axis in p["axes"]))
        # onnxruntime cuts integers off between the steps of a logarithm of sums, others at the end.
        need("Log" not in p["op"] or p["dtype"] in FLOATS)
        need(0 not in p["shape"] or p["op"] in ("ReduceSum", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"))
        node = Node(p["op"], p["seed"], keepdims=int(p["keep"]), noop_with_empty_axes=int(p["noop"]))
        bounds = (0.5, 1.5) if p["op"] in ("ReduceLogSum", "ReduceProd") else (-2.0, 2.0)
        node.feed(node.values(p["shape"], p["dtype"], *bounds))
        return node.ints(p["axes"]) if p["axes"] or p["noop"] else node


@family("arg", 3)
class Arg:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3, 4)), zero=0)
        return {"op": r.choice(("ArgMax", "ArgMin")), "shape": shape, "axis": r.randrange(-len(shape), len(shape)), "keep": r.random() < 0.5, "last": r.random() < 0.4,
                "dtype": r.choice(("float32", "float16", "int32", "int8", "uint8")), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        need(-len(p["shape"]) <= p["axis"] < len(p["shape"]))
        node = Node(p["op"], p["seed"], axis=p["axis"], keepdims=int(p["keep"]), select_last_index=int(p["last"]))
        return node.feed(np.round(node.values(p["shape"], p["dtype"]).astype(np.float32)).astype(array_type(p["dtype"])))


@family("norm", 6)
class Norm:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((2, 3, 4)), zero=0)
        return {"op": r.choice(("LayerNormalization", "LayerNormalization", "RMSNormalization", "InstanceNormalization", "BatchNormalization", "GroupNormalization", "LpNormalization",
                                "LRN", "MeanVarianceNormalization")), "shape": shape, "axis": r.randrange(-len(shape), len(shape)), "bias": r.random() < 0.5,
                "groups": r.choice((1, 2, 4)), "epsilon": r.choice((1e-5, 1e-2)), "dtype": r.choice(FLOATS), "constant": r.random() < 0.6, "p": r.choice((1, 2)),
                "size": r.choice((1, 3, 5)), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        op, shape, dtype, constant = p["op"], list(p["shape"]), p["dtype"], p["constant"]
        need(-len(shape) <= p["axis"] < len(shape) and min(shape) >= 1 and p["groups"] >= 1)
        epsilon = {"epsilon": p["epsilon"]}
        if op in ("LayerNormalization", "RMSNormalization"):
            node = Node(op, p["seed"], opset=23 if op[0] == "R" else 17, axis=p["axis"], **epsilon)
            node.computes = "float32"  # as ONNX has it where nothing else is said
            inner = shape[p["axis"]:]
            node.feed(node.values(shape, dtype)).feed(node.values(inner, dtype), constant)
            return node.feed(node.values(inner, dtype), constant) if p["bias"] and op[0] == "L" else node
        need(len(shape) >= 3 or op not in ("InstanceNormalization", "GroupNormalization", "MeanVarianceNormalization", "LRN"))
        if op == "GroupNormalization":
            shape[1] *= p["groups"]
        channels = [shape[1]]
        if op == "LpNormalization":
            node = Node(op, p["seed"], axis=p["axis"], p=p["p"])
            return node.feed(node.values(shape, dtype))
        if op == "LRN":
            node = Node(op, p["seed"], size=p["size"], alpha=0.1, beta=0.6, bias=1.5)
            return node.feed(node.values(shape, dtype))
        if op == "MeanVarianceNormalization":
            node = Node(op, p["seed"], axes=[0, *range(2, len(shape))])
            return node.feed(node.values(shape, dtype))
        node = Node(op, p["seed"], **epsilon, **({"num_groups": p["groups"]} if op == "GroupNormalization" else {}))
        node.computes = "float32"  # as ONNX has it where nothing else is said
        node.feed(node.values(shape, dtype)).feed(node.values(channels, dtype), constant).feed(node.values(channels, dtype), constant)
        if op == "BatchNormalization":
            node.feed(node.values(channels, dtype), constant).feed(node.values(channels, dtype, 0.5, 2.0), constant)
        return node


@family("softmax", 4)
class Softmax:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3, 4)))
        return {"op": r.choice(("Softmax", "Softmax", "LogSoftmax", "Hardmax")), "shape": shape, "axis": r.randrange(-len(shape), len(shape)), "opset": r.choice((22, 22, 11)),
                "scale": r.choice((1.0, 30.0)), "dtype": r.choice(FLOATS), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        need(-len(p["shape"]) <= p["axis"] < len(p["shape"]))
        need(p["opset"] > 12 or p["dtype"] != "bfloat16")
        node = Node(p["op"], p["seed"], opset=p["opset"], axis=p["axis"])
        return node.feed(node.values(p["shape"], p["dtype"], -p["scale"], p["scale"]))


@family("cumulative", 3)
class Cumulative:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3)))
        return {"shape": shape, "axis": r.randrange(-len(shape), len(shape)), "exclusive": r.random() < 0.5, "reverse": r.random() < 0.5, "constant": r.random() < 0.8,
                "dtype": r.choice(("float32", "float64", "int32", "int64")), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        need(-len(p["shape"]) <= p["axis"] < len(p["shape"]))
        node = Node("CumSum", p["seed"], exclusive=int(p["exclusive"]), reverse=int(p["reverse"]))
        return node.feed(node.values(p["shape"], p["dtype"])).feed(np.array(p["axis"], np.int64), p["constant"])


@family("top_k", 3)
class TopK:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3)), zero=0)
        axis = r.randrange(-len(shape), len(shape))
        return {"shape": shape, "axis": axis, "k": r.randrange(shape[axis] + 1), "largest": r.random() < 0.5, "sorted": r.random() < 0.7, "dtype": r.choice(("float32", "float64", "int32", "int64")),
                "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        need(-len(p["shape"]) <= p["axis"] < len(p["shape"]) and 0 <= p["k"] <= p["shape"][p["axis"]])
        # The order of what is not sorted is free.
        node = Node("TopK", p["seed"], axis=p["axis"], largest=int(p["largest"]), sorted=1)
        node.feed(node.values(p["shape"], p["dtype"])).ints([p["k"]])
        node.outputs = 2
        return node


# ---- recurrent ----------------------------------------------------------------------------------------------------------


@family("recurrent", 6)
class Recurrent:
    def draw(r: Random) -> dict:
        return {"op": r.choice(("LSTM", "LSTM", "GRU", "RNN")), "length": r.choice((1, 2, 5, 9)), "batch": r.choice((1, 2, 3)), "inputs": r.choice((1, 3, 8, 17)), "hidden": r.choice((1, 3, 8, 16)),
                "direction": r.choice(("forward", "reverse", "bidirectional")), "bias": r.random() < 0.6, "lengths": r.random() < 0.3, "initial": r.random() < 0.5, "peephole": r.random() < 0.2,
                "linear": r.random() < 0.5, "clip": r.choice((0.0, 0.0, 0.5)), "outputs": r.choice((1, 2, 3)), "constant": r.random() < 0.8, "dtype": r.choice(("float32", "float32", "float64")),
                "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        need(min(p["length"], p["batch"], p["inputs"], p["hidden"], p["outputs"]) >= 1)
        # onnxruntime does not clip what goes into the activation of the cell state, which the text of ONNX asks for.
        gates, directions = {"LSTM": 4, "GRU": 3, "RNN": 1}[p["op"]], 2 if p["direction"] == "bidirectional" else 1
        node = Node(p["op"], p["seed"], hidden_size=p["hidden"], direction=p["direction"], clip=p["clip"] if p["clip"] and p["op"] != "LSTM" else None, linear_before_reset=int(p["linear"]) if p["op"] == "GRU" else None)
        value = lambda *shape: node.values(list(shape), p["dtype"], -0.7, 0.7)
        node.feed(value(p["length"], p["batch"], p["inputs"])).feed(value(directions, gates * p["hidden"], p["inputs"]), p["constant"])
        node.feed(value(directions, gates * p["hidden"], p["hidden"]), p["constant"])
        node.feed(value(directions, 2 * gates * p["hidden"]), p["constant"]) if p["bias"] else node.skip()
        node.feed(node.random.integers(1, p["length"] + 1, p["batch"]).astype(np.int32)) if p["lengths"] else node.skip()
        node.feed(value(directions, p["batch"], p["hidden"])) if p["initial"] else node.skip()
        if p["op"] == "LSTM":
            node.feed(value(directions, p["batch"], p["hidden"])) if p["initial"] else node.skip()
            node.feed(value(directions, 3 * p["hidden"]), p["constant"]) if p["peephole"] else node.skip()
        node.outputs = min(p["outputs"], 3 if p["op"] == "LSTM" else 2)
        return node


# ---- elements -----------------------------------------------------------------------------------------------------------


@family("binary", 6)
class Binary:
    ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Mod", "PRelu")
    TESTS = ("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual")
    BITS = ("BitwiseAnd", "BitwiseOr", "BitwiseXor")

    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((0, 1, 2, 3, 4)))
        op = r.choice(Binary.ARITHMETIC + Binary.TESTS + Binary.BITS + ("And", "Or", "Xor"))
        dtypes = INTS if op in Binary.BITS else ("bool",) if op in ("And", "Or", "Xor") else FLOATS + ("int32", "int64")
        return {"op": op, "a": broadcast(r, shape), "b": shape if op == "PRelu" or r.random() < 0.6 else broadcast(r, shape), "fmod": r.random() < 0.5, "constant": r.random() < 0.3,
                "dtype": r.choice(dtypes), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        is_float = p["dtype"] in FLOATS
        node = Node(p["op"], p["seed"], fmod=int(p["fmod"] or is_float) if p["op"] == "Mod" else None)
        first, second = (p["b"], p["a"]) if p["op"] == "PRelu" else (p["a"], p["b"])
        positive = p["op"] in ("Pow", "Div", "Mod")
        node.feed(node.values(first, p["dtype"], *((0.5, 2.5) if positive and p["op"] == "Pow" and is_float else (-2.0, 2.0))))
        return node.feed(node.values(second, p["dtype"], *((0.5, 2.5) if positive and is_float else (1, 4) if positive else (-2.0, 2.0))), p["constant"])


@family("unary", 6)
class Unary:
    OPS = {"Abs": {}, "Neg": {}, "Relu": {}, "Sigmoid": {}, "Tanh": {}, "Exp": {}, "Erf": {}, "Floor": {}, "Ceil": {}, "Round": {}, "Sign": {}, "Softplus": {}, "Softsign": {}, "Reciprocal": {},
           "Cos": {}, "Sin": {}, "Atan": {}, "Sinh": {}, "Cosh": {}, "Asinh": {}, "Mish": {}, "HardSwish": {}, "LeakyRelu": {"alpha": 0.2}, "Elu": {"alpha": 1.5}, "Selu": {}, "Celu": {"alpha": 0.7},
           "ThresholdedRelu": {"alpha": 0.5}, "HardSigmoid": {"alpha": 0.3, "beta": 0.4}, "Gelu": {"approximate": "tanh"}, "IsNaN": {}, "Log": {}, "Sqrt": {}, "Shrink": {"lambd": 0.5, "bias": 0.2}}

    def draw(r: Random) -> dict:
        return {"op": r.choice(tuple(Unary.OPS)), "shape": sizes(r, r.choice((0, 1, 2, 3, 4))), "dtype": r.choice(FLOATS), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        node = Node(p["op"], p["seed"], **Unary.OPS[p["op"]])
        return node.feed(node.values(p["shape"], p["dtype"], *((0.1, 3.0) if p["op"] in ("Log", "Sqrt", "Reciprocal") else (-3.0, 3.0))))


@family("select", 3)
class Select:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3)))
        return {"op": r.choice(("Where", "Clip", "Sum", "Mean")), "a": broadcast(r, shape), "b": broadcast(r, shape), "c": shape, "dtype": r.choice(("float32", "float64", "float16", "int32", "int64")),
                "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        node = Node(p["op"], p["seed"])
        if p["op"] == "Clip":
            return node.feed(node.values(p["c"], p["dtype"])).feed(np.array(-1, array_type(p["dtype"])), True).feed(np.array(1, array_type(p["dtype"])))
        need(p["op"] == "Where" or p["dtype"].startswith("float"))
        node.feed(node.values(p["a"], "bool" if p["op"] == "Where" else p["dtype"]))
        return node.feed(node.values(p["b"], p["dtype"])).feed(node.values(p["c"], p["dtype"]))


@family("cast", 4)
class Cast:
    TYPES = ("float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "uint32", "bool", "float8e4m3fn", "float8e5m2", "int4", "uint4")

    def draw(r: Random) -> dict:
        return {"from": r.choice(Cast.TYPES), "to": r.choice(Cast.TYPES), "shape": sizes(r, r.choice((0, 1, 2, 3))), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        node = Node("Cast", p["seed"], to=KINDS[p["to"]])
        # Numbers that every type holds: what happens beyond is not defined.
        source = node.random.integers(0, 7, p["shape"]) if "uint" in p["from"] + p["to"] else node.random.integers(-7, 7, p["shape"])
        return node.feed(np.asarray(source).astype(array_type(p["from"])))


@family("quantise", 5)
class Quantise:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3, 4)), zero=0)
        return {"op": r.choice(("QuantizeLinear", "DequantizeLinear")), "shape": shape, "axis": r.randrange(-len(shape), len(shape)), "grain": r.choice(("tensor", "axis", "block")),
                "block": r.choice((1, 2, 4)), "zero": r.random() < 0.6, "dtype": r.choice(("int8", "uint8", "int16", "uint16", "int4", "uint4")), "float": r.choice(("float32", "float32", "float16")),
                "constant": r.random() < 0.6, "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        shape, axis = list(p["shape"]), p["axis"]
        need(-len(shape) <= axis < len(shape) and p["block"] >= 1)
        scales = {"tensor": [], "axis": [shape[axis]]}.get(p["grain"])
        if scales is None:
            scales = list(shape)
            scales[axis] = -(-shape[axis] // p["block"])
        node = Node(p["op"], p["seed"], opset=21, axis=axis, block_size=p["block"] if p["grain"] == "block" else None)
        if p["op"] == "QuantizeLinear":
            need(p["zero"] or p["dtype"] == "uint8")
            need(p["float"] == "float32" or "int4" not in p["dtype"])  # only the reference knows that, and divides in f16
            node.feed(node.values(shape, p["float"]))
        else:
            node.feed(node.values(shape, p["dtype"], 0, 6))
        node.feed(node.values(scales, p["float"], 0.1, 0.5), p["constant"])
        return node.feed(node.values(scales, p["dtype"], 0, 5), p["constant"]) if p["zero"] else node


# ---- movement -----------------------------------------------------------------------------------------------------------


@family("slice", 5)
class Slice:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3, 4)))
        axes = r.sample(range(len(shape)), r.randint(1, len(shape)))
        bound = lambda axis: r.choice((-(1 << 40), -shape[axis] - 2, -2, -1, 0, 1, 2, shape[axis] // 2, shape[axis], shape[axis] + 3, 1 << 40))
        return {"shape": shape, "axes": [axis - len(shape) if r.random() < 0.3 else axis for axis in axes], "starts": [bound(a) for a in axes], "ends": [bound(a) for a in axes],
                "steps": [r.choice((1, 1, 1, 2, 3, -1, -2)) for _ in axes], "constant": r.random() < 0.8, "dtype": r.choice(FLOATS + INTS + ("bool",)), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        need(all(-len(p["shape"]) <= axis < len(p["shape"]) for axis in p["axes"]) and 0 not in p["steps"])
        node = Node("Slice", p["seed"])
        node.feed(node.values(p["shape"], p["dtype"]))
        for name in ("starts", "ends", "axes", "steps"):
            node.ints(p[name], p["constant"])
        return node


@family("pad", 4)
class Pad:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3, 4)), zero=0)
        return {"mode": r.choice(("constant", "constant", "reflect", "edge", "wrap")), "shape": shape, "pads": [r.choice((0, 0, 1, 2, 3, -1)) for _ in range(2 * len(shape))],
                "value": r.random() < 0.5, "constant": r.random() < 0.8, "dtype": r.choice(("float32", "float64", "float16", "int32", "int64", "uint8", "int8", "bool")), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        rank = len(p["shape"])
        for i, size in enumerate(p["shape"]):
            low, high = p["pads"][i], p["pads"][rank + i]
            need(size + low + high >= 1 and size + min(low, 0) + min(high, 0) >= 1)
            need(p["mode"] != "reflect" or max(low, high) < size + min(low, high, 0))
            need(p["mode"] != "wrap" or max(low, high) <= size + min(low, high, 0))
        node = Node("Pad", p["seed"], mode=p["mode"])
        node.feed(node.values(p["shape"], p["dtype"])).ints(p["pads"], p["constant"])
        return node.feed(np.array(3 if p["dtype"] != "bool" else True, array_type(p["dtype"])), True) if p["value"] and p["mode"] == "constant" else node


@family("gather", 5)
class Gather:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3)), zero=0)
        return {"op": r.choice(("Gather", "Gather", "GatherElements", "GatherND")), "shape": shape, "axis": r.randrange(-len(shape), len(shape)), "indices": sizes(r, r.choice((0, 1, 2)), 200),
                "batch": r.choice((0, 0, 1)), "depth": r.choice((1, 1, 2, 3)), "constant": r.random() < 0.3, "index": r.choice(("int64", "int32")),
                "dtype": r.choice(FLOATS + ("int32", "int64", "uint8", "bool")), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        shape, axis = p["shape"], p["axis"]
        need(-len(shape) <= axis < len(shape))
        if p["op"] == "GatherND":
            batch, depth = p["batch"], p["depth"]
            need(batch + depth <= len(shape) and batch < len(shape))
            node = Node("GatherND", p["seed"], batch_dims=batch)
            lengths = shape[batch:batch + depth]
            indices = np.stack([node.random.integers(-n, n, [*shape[:batch], *p["indices"]]) for n in lengths], -1)
            return node.feed(node.values(shape, p["dtype"])).feed(indices.astype(np.int64), p["constant"])
        node = Node(p["op"], p["seed"], axis=axis)
        wanted = p["indices"]
        if p["op"] == "GatherElements":
            wanted = [int(node.random.integers(1, n + 1)) for n in shape]
            wanted[axis] = max(1, sum(p["indices"]) % 9)
        return node.feed(node.values(shape, p["dtype"])).feed(node.random.integers(-shape[axis], shape[axis], wanted).astype(p["index"]), p["constant"])


@family("scatter", 4)
class Scatter:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3)), zero=0)
        return {"op": r.choice(("ScatterElements", "ScatterND")), "shape": shape, "axis": r.randrange(-len(shape), len(shape)), "count": r.choice((1, 2, 3, 7)), "depth": r.choice((1, 2, 3)),
                "reduction": r.choice(("none", "add", "mul", "max", "min")), "constant": r.random() < 0.3, "dtype": r.choice(("float32", "float64", "float16", "int32", "int64")), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        shape, axis, dtype = p["shape"], p["axis"], p["dtype"]
        need(-len(shape) <= axis < len(shape) and p["count"] >= 1 and p["depth"] >= 1)
        node = Node(p["op"], p["seed"], reduction=p["reduction"], axis=axis if p["op"] == "ScatterElements" else None)
        node.feed(node.values(shape, dtype))
        if p["op"] == "ScatterElements":
            wanted = [int(node.random.integers(1, n + 1)) for n in shape]
            wanted[axis] = shape[axis] if p["reduction"] == "none" else p["count"]
            if p["reduction"] == "none":  # each place at most once: their order is free
                indices = np.argsort(node.random.random(wanted), axis=axis)
            else:
                indices = node.random.integers(-shape[axis], shape[axis], wanted)
            return node.feed(indices.astype(np.int64), p["constant"]).feed(node.values(wanted, dtype))
        depth = p["depth"]
        need(depth <= len(shape))
        places = int(np.prod(shape[:depth]))
        count = min(p["count"], places) if p["reduction"] == "none" else p["count"]
        flat = node.random.permutation(places)[:count] if p["reduction"] == "none" else node.random.integers(0, places, count)
        indices = np.stack(np.unravel_index(flat, shape[:depth]), -1).astype(np.int64)
        return node.feed(indices, p["constant"]).feed(node.values([count, *shape[depth:]], dtype))


@family("move", 5)
class Move:
    def draw(r: Random) -> dict:
        shape = sizes(r, r.choice((1, 2, 3, 4, 5)))
        return {"op": r.choice(("Transpose", "Concat", "Split", "Tile", "Expand", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Trilu", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "OneHot", "Identity")),
                "shape": shape, "order": r.sample(range(len(shape)), len(shape)), "axis": r.randrange(-len(shape), len(shape)), "counts": [r.choice((1, 1, 2, 3)) for _ in shape],
                "k": r.choice((-2, -1, 0, 1, 3)), "upper": r.random() < 0.5, "parts": r.choice((1, 2, 3)), "block": r.choice((1, 2, 3)), "mode": r.choice(("DCR", "CRD")),
                "dtype": r.choice(FLOATS + INTS + ("bool",)), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        op, shape, axis, dtype = p["op"], list(p["shape"]), p["axis"], p["dtype"]
        rank = len(shape)
        need(-rank <= axis < rank and sorted(p["order"]) == list(range(rank)) and min(p["parts"], p["block"]) >= 1)
        node = Node(op, p["seed"])
        x = lambda: node.values(shape, dtype)
        if op == "Transpose":
            node.attributes["perm"] = p["order"]
        elif op == "Concat":
            node.attributes["axis"] = axis
            for part in range(p["parts"]):
                shape[axis] = p["shape"][axis] + part
                node.feed(x(), part == 1 and p["upper"])
            return node
        elif op == "Split":
            node.attributes["axis"], node.outputs = axis, p["parts"]
            node.attributes["num_outputs"] = p["parts"]
            need(shape[axis] >= p["parts"])
        elif op == "Tile":
            return node.feed(x()).ints(p["counts"])
        elif op == "Expand":
            target = [size * (count if size == 1 else 1) for size, count in zip(shape, p["counts"])]
            return node.feed(x()).ints(p["counts"][:1] + target if p["upper"] else target)
        elif op == "Reshape":
            target = [shape[i] for i in p["order"]]
            need(0 not in target)
            target[p["parts"] % rank] = -1
            return node.feed(x()).ints(target)
        elif op == "Flatten":
            node.attributes["axis"] = axis
        elif op == "Squeeze":
            shape[axis] = 1
            return node.feed(x()).ints([axis])
        elif op == "Unsqueeze":
            return node.feed(x()).ints([axis])
        elif op == "Trilu":
            need(rank >= 2)
            node.attributes["upper"] = int(p["upper"])
            return node.feed(x()).feed(np.array(p["k"], np.int64), True)
        elif op in ("DepthToSpace", "SpaceToDepth"):
            need(rank == 4)
            block = p["block"]
            shape = [shape[0], shape[1] * block ** 2, *shape[2:]] if op[0] == "D" else [*shape[:2], shape[2] * block, shape[3] * block]
            node.attributes["blocksize"] = block
            if op[0] == "D":
                node.attributes["mode"] = p["mode"]
        elif op == "ReverseSequence":
            need(rank >= 2 and shape[0] > 0)
            node.attributes |= {"batch_axis": 1, "time_axis": 0}
            return node.feed(x()).feed(node.random.integers(1, shape[0] + 1, shape[1]).astype(np.int64))
        elif op == "OneHot":
            node.attributes["axis"] = axis
            node.feed(node.random.integers(-5, 5, shape).astype(np.int64)).feed(np.array(5, np.int64), True)
            return node.feed(np.array([0, 1], array_type(dtype)), True)
        return node.feed(x())


# ---- pictures -----------------------------------------------------------------------------------------------------------


@family("resize", 5)
class Resize:
    def draw(r: Random) -> dict:
        rank = r.choice((1, 2, 2, 2, 3))
        return {"mode": r.choice(("nearest", "nearest", "linear", "linear", "cubic")), "spatial": [r.choice((1, 2, 3, 4, 5, 8)) for _ in range(rank)], "target": [r.choice((1, 2, 3, 4, 5, 7, 8, 16)) for _ in range(rank)],
                "by": r.choice(("sizes", "scales")), "coordinates": r.choice(("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")),
                "nearest": r.choice(("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")), "antialias": r.random() < 0.2, "exclude": r.random() < 0.2, "channels": r.choice((1, 3)),
                "dtype": r.choice(("float32", "float32", "float16", "uint8")), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        rank = len(p["spatial"])
        need(min(p["spatial"] + p["target"]) >= 1 and (p["mode"] != "cubic" or rank == 2) and not (p["antialias"] and p["mode"] == "nearest"))
        need(p["mode"] == "nearest" or p["dtype"] != "uint8")  # cut off to integers: the last bit of a coordinate decides
        node = Node("Resize", p["seed"], opset=19, mode=p["mode"], coordinate_transformation_mode=p["coordinates"], nearest_mode=p["nearest"] if p["mode"] == "nearest" else None,
                    antialias=int(p["antialias"]), exclude_outside=int(p["exclude"]) if p["mode"] == "cubic" else None)
        node.feed(node.values([1, p["channels"], *p["spatial"]], p["dtype"], 0, 200) if p["dtype"] == "uint8" else node.values([1, p["channels"], *p["spatial"]], p["dtype"])).skip()
        if p["by"] == "sizes":
            return node.skip().ints([1, p["channels"], *p["target"]])
        return node.feed(np.array([1, 1, *(t / s for t, s in zip(p["target"], p["spatial"]))], np.float32), True)


@family("grid_sample", 3)
class GridSample:
    def draw(r: Random) -> dict:
        return {"mode": r.choice(("linear", "nearest", "cubic")), "padding": r.choice(("zeros", "border", "reflection")), "corners": r.random() < 0.5, "batch": r.choice((1, 2)), "channels": r.choice((1, 3)),
                "spatial": [r.choice((1, 2, 3, 5, 8)) for _ in range(r.choice((2, 2, 3)))], "target": [r.choice((1, 2, 3, 5)) for _ in range(3)], "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        rank = len(p["spatial"])
        need(rank in (2, 3) and (p["mode"] != "cubic" or rank == 2) and len(p["target"]) >= rank and min(p["spatial"]) >= 1)
        node = Node("GridSample", p["seed"], mode=p["mode"], padding_mode=p["padding"], align_corners=int(p["corners"]))
        node.feed(node.values([p["batch"], p["channels"], *p["spatial"]], "float32"))
        return node.feed(node.values([p["batch"], *p["target"][:rank], rank], "float32", -1.3, 1.3))


import sweeps_microsoft  # noqa: E402,F401  its families are registered with those above
