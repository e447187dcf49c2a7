"""A decoder-only transformer of gemma-3's architecture: its sizes, random weights, ONNX graph, and an eager forward pass.

The graph is written with onnx.helper in the primitives that exporters write; the eager pass is plain numpy on the same
weights and shares nothing else with it, so that each can be held against the other. There is no cache of keys and
values: a call computes the whole network on its tokens. Needs numpy; the graph needs onnx as well.
Source of the architecture: huggingface/transformers, models/gemma3/modeling_gemma3.py.
"""
from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

EPSILON = 1e-6
OPSET = 20


@dataclasses.dataclass(frozen=True)
class Config:
    name: str
    layers: int
    hidden: int
    inner: int
    heads: int
    head_size: int
    vocabulary: int
    window: int
    # Every so many layers one sees all positions; the others see the last `window`.
    period: int
    # Standard deviation of the norms' weights, which multiply as 1 + w.
    norm_spread: float
    theta_full: float = 1e6
    theta_sliding: float = 1e4
    seed: int = 0

    def is_full(self, layer: int) -> bool:
        return (layer + 1) % self.period == 0

    @property
    def scale(self) -> float:
        return self.head_size ** -0.5


FULL = Config("gemma3_1b", layers=26, hidden=1152, inner=6912, heads=4, head_size=256, vocabulary=262144, window=512, period=6, norm_spread=0)
# All features at sizes that no tile divides; the window is shorter than the longest sequence, so that it matters.
REDUCED = Config("gemma3_reduced", layers=5, hidden=92, inner=220, heads=4, head_size=24, vocabulary=1003, window=40, period=3, norm_spread=0.1)
LONGEST = 256


SIZES = {"f32": 4, "bf16": 2}


def bf16_bits(values: np.ndarray) -> np.ndarray:
    """The nearest bf16 values of finite f32 ones, as their bits."""
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


# ---- weights ------------------------------------------------------------------------------------------------------------

def shapes(config: Config) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the weights; matrices are [inputs, outputs], the embedding is [vocabulary, hidden]."""
    h, width = config.hidden, config.heads * config.head_size
    yield "embed_tokens", (config.vocabulary, h)
    for i in range(config.layers):
        layer = f"layers.{i}"
        for name, outputs in (("q_proj", width), ("k_proj", config.head_size), ("v_proj", config.head_size)):
            yield f"{layer}.{name}", (h, outputs)
        yield f"{layer}.o_proj", (width, h)
        yield f"{layer}.gate_proj", (h, config.inner)
        yield f"{layer}.up_proj", (h, config.inner)
        yield f"{layer}.down_proj", (config.inner, h)
        for name in ("q_norm", "k_norm"):
            yield f"{layer}.{name}", (config.head_size,)
        for name in ("input_norm", "post_attention_norm", "pre_feedforward_norm", "post_feedforward_norm"):
            yield f"{layer}.{name}", (h,)
    yield "norm", (h,)


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights in one file, each starting on a page, so that a model of gigabytes is never in memory as a whole.

    They are of f32 or bf16; in Python they are read as f32 either way.
    """

    path: Path
    places: dict[str, tuple[int, tuple[int, ...]]]
    kind: str = "f32"

    @staticmethod
    def places_of(config: Config, kind: str = "f32") -> dict[str, tuple[int, tuple[int, ...]]]:
        places, at = {}, 0
        for name, shape in shapes(config):
            places[name] = (at, shape)
            at += -(-SIZES[kind] * math.prod(shape) // 4096) * 4096
        return places

    @classmethod
    def write(cls, config: Config, path: Path, kind: str = "f32") -> Weights:
        """Matrices are normal with deviation 0.02, norms with the config's own."""
        random, places = np.random.default_rng(config.seed), cls.places_of(config, kind)
        with open(path, "wb") as file:
            for name, (at, shape) in places.items():
                values = random.standard_normal(shape, np.float32)
                values *= np.float32(0.02 if len(shape) == 2 else config.norm_spread)
                file.seek(at)
                (values if kind == "f32" else bf16_bits(values)).tofile(file)
        return cls(path, places, kind)

    def __getitem__(self, name: str) -> np.ndarray:
        at, shape = self.places[name]
        if self.kind == "f32":
            return np.memmap(self.path, np.float32, "r", at, shape)
        return (np.memmap(self.path, np.uint16, "r", at, shape).astype(np.uint32) << 16).view(np.float32)


# ---- the eager forward pass -----------------------------------------------------------------------------------------------

class Eager:
    """The network computed step by step in one floating-point type."""

    def __init__(self, config: Config, weights: Weights, dtype: type):
        self.config, self.weights, self.dtype = config, weights, dtype

    def __call__(self, ids: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Logits [1, n, vocabulary] of tokens [1, n]."""
        c, (tokens, places) = self.config, (ids[0], positions[0])
        x = self.weights["embed_tokens"][tokens].astype(self.dtype) * self.dtype(np.float32(math.sqrt(c.hidden)))
        for i in range(c.layers):
            x = x + self.norm(self.attend(i, self.norm(x, f"layers.{i}.input_norm"), places), f"layers.{i}.post_attention_norm")
            x = x + self.norm(self.feed(i, self.norm(x, f"layers.{i}.pre_feedforward_norm")), f"layers.{i}.post_feedforward_norm")
        x = self.norm(x, "norm")
        return np.concatenate([x @ part.T for part in self.parts("embed_tokens")], axis=-1)[None]

    def parts(self, name: str, rows: int = 16384) -> Iterator[np.ndarray]:
        """A weight a few rows at a time, so that another type than the file's does not take the memory of the whole."""
        whole = self.weights[name]
        for at in range(0, len(whole), rows):
            yield whole[at:at + rows].astype(self.dtype)

    def weight(self, name: str) -> np.ndarray:
        return self.weights[name].astype(self.dtype)

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        square = np.square(x).mean(axis=-1, keepdims=True)
        return x / np.sqrt(square + self.dtype(EPSILON)) * (1 + self.weight(name))

    def rotated(self, x: np.ndarray, places: np.ndarray, theta: float) -> np.ndarray:
        """Pairs (j, j + d/2) of [heads, n, d] turned by the position times theta^(-2j/d)."""
        half = x.shape[-1] // 2
        speeds = np.float32(theta) ** (-np.arange(half, dtype=np.float32) / np.float32(half))
        # The model's angles are of f32 whatever the rest is computed in.
        angles = (places[:, None].astype(np.float32) * speeds).astype(self.dtype)
        cos, sin, a, b = np.cos(angles), np.sin(angles), x[..., :half], x[..., half:]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    def attend(self, i: int, x: np.ndarray, places: np.ndarray) -> np.ndarray:
        c, layer, n = self.config, f"layers.{i}", len(x)
        theta = c.theta_full if c.is_full(i) else c.theta_sliding
        q, k, v = ((x @ self.weight(f"{layer}.{part}_proj")).reshape(n, -1, c.head_size).swapaxes(0, 1) for part in "qkv")
        q = self.rotated(self.norm(q, f"{layer}.q_norm"), places, theta)
        k = self.rotated(self.norm(k, f"{layer}.k_norm"), places, theta)
        behind = np.arange(n)[:, None] - np.arange(n)[None]
        seen = (behind >= 0) & ((behind < c.window) | c.is_full(i))
        scores = np.where(seen, q @ k.swapaxes(1, 2) * self.dtype(c.scale), -np.inf)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        mixed = scores / scores.sum(axis=-1, keepdims=True) @ v
        return mixed.swapaxes(0, 1).reshape(n, -1) @ self.weight(f"{layer}.o_proj")

    def feed(self, i: int, x: np.ndarray) -> np.ndarray:
        gate, up = (x @ self.weight(f"layers.{i}.{name}_proj") for name in ("gate", "up"))
        curve = np.tanh(math.sqrt(2 / math.pi) * (gate + 0.044715 * gate ** 3))
        return (0.5 * gate * (1 + curve) * up).astype(self.dtype) @ self.weight(f"layers.{i}.down_proj")


# ---- the ONNX graph -------------------------------------------------------------------------------------------------------

class GraphWriter:
    """Collects nodes and initializers; every node's one output has a name of its own."""

    def __init__(self) -> None:
        self.nodes, self.initializers, self.scope = [], {}, ""

    def op(self, kind: str, *inputs: str, name: str = "", **attributes) -> str:
        from onnx import helper
        output = name or f"{self.scope}{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def constant(self, values, dtype) -> str:
        from onnx import numpy_helper
        array = np.asarray(values, dtype)
        name = f"constant_{array.dtype}_{'x'.join(map(str, array.shape))}_{array.tobytes().hex()[:64]}"
        if array.size > 8:
            name = f"constant_{len(self.initializers)}"
        self.initializers.setdefault(name, numpy_helper.from_array(array, name))
        return name

    def float(self, value) -> str:
        return self.constant(value, np.float32)

    def ints(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def external(self, name: str, weights: Weights) -> str:
        """A weight that stays in the file beside the model."""
        from onnx import TensorProto
        at, shape = weights.places[name]
        kind = TensorProto.FLOAT if weights.kind == "f32" else TensorProto.BFLOAT16
        tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
        for key, value in (("location", weights.path.name), ("offset", at), ("length", SIZES[weights.kind] * math.prod(shape))):
            tensor.external_data.add(key=key, value=str(value))
        self.initializers[name] = tensor
        return name


class Network(GraphWriter):
    """The forward pass as nodes. With weights of bf16 it is computed in bf16, but for norms and angles, which are of f32."""

    def __init__(self, config: Config, weights: Weights, last: bool = False):
        super().__init__()
        self.config, self.weights, self.last = config, weights, last

    def weight(self, name: str) -> str:
        return self.external(name, self.weights)

    def wide(self, x: str) -> str:
        return x if self.weights.kind == "f32" else self.op("Cast", x, to=1)

    def narrow(self, x: str) -> str:
        return x if self.weights.kind == "f32" else self.op("Cast", x, to=16)

    def number(self, value) -> str:
        """A constant of the type that the network is computed in."""
        return self.narrow(self.float(value))

    def norm(self, x: str, name: str) -> str:
        return self.narrow(self.wide_norm(self.wide(x), name))

    def wide_norm(self, x: str, name: str) -> str:
        mean = self.op("ReduceMean", self.op("Mul", x, x), self.ints(-1), keepdims=1)
        inverse = self.op("Reciprocal", self.op("Sqrt", self.op("Add", mean, self.float(EPSILON))))
        return self.op("Mul", self.op("Mul", x, inverse), self.op("Add", self.wide(self.weight(name)), self.float(1)))

    def turns(self, theta: float) -> tuple[str, str]:
        """Cosines and sines [1, 1, n, d] of the positions."""
        half = self.config.head_size // 2
        speeds = np.float32(theta) ** (-np.arange(half, dtype=np.float32) / np.float32(half))
        places = self.op("Unsqueeze", self.op("Cast", "position_ids", to=1), self.ints(1, 3))
        angles = self.op("Mul", places, self.constant(speeds.reshape(1, 1, 1, half), np.float32))
        angles = self.op("Concat", angles, angles, axis=-1)
        return self.narrow(self.op("Cos", angles)), self.narrow(self.op("Sin", angles))

    def rotated(self, x: str, turns: tuple[str, str]) -> str:
        half, end = self.config.head_size // 2, self.config.head_size
        low = self.op("Slice", x, self.ints(0), self.ints(half), self.ints(-1))
        high = self.op("Slice", x, self.ints(half), self.ints(end), self.ints(-1))
        crossed = self.op("Concat", self.op("Neg", high), low, axis=-1)
        return self.op("Add", self.op("Mul", x, turns[0]), self.op("Mul", crossed, turns[1]))

    def masks(self) -> tuple[str, str]:
        """What is added to the scores [n, n] of full and of sliding layers."""
        count = self.op("Squeeze", self.op("Shape", "input_ids", start=1, end=2))
        places = self.op("Range", self.constant(0, np.int64), count, self.constant(1, np.int64))
        queries, keys = self.op("Unsqueeze", places, self.ints(1)), self.op("Unsqueeze", places, self.ints(0))
        past = self.op("LessOrEqual", keys, queries)
        near = self.op("And", past, self.op("Less", self.op("Sub", queries, keys), self.constant(self.config.window, np.int64)))
        hidden = self.float(np.finfo(np.float32).min)
        return tuple(self.narrow(self.op("Where", seen, self.float(0), hidden)) for seen in (past, near))

    def attend(self, i: int, x: str, turns: tuple[str, str], mask: str) -> str:
        c, layer = self.config, f"layers.{i}"

        def heads(name: str, count: int) -> str:
            flat = self.op("MatMul", x, self.weight(f"{layer}.{name}"))
            return self.op("Transpose", self.op("Reshape", flat, self.ints(1, -1, count, c.head_size)), perm=[0, 2, 1, 3])

        q, k, v = heads("q_proj", c.heads), heads("k_proj", 1), heads("v_proj", 1)
        q = self.rotated(self.norm(q, f"{layer}.q_norm"), turns)
        k = self.rotated(self.norm(k, f"{layer}.k_norm"), turns)
        scores = self.op("Mul", self.op("MatMul", q, self.op("Transpose", k, perm=[0, 1, 3, 2])), self.number(c.scale))
        shares = self.op("Softmax", self.op("Add", scores, mask), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", shares, v), perm=[0, 2, 1, 3])
        flat = self.op("Reshape", mixed, self.ints(1, -1, c.heads * c.head_size))
        return self.op("MatMul", flat, self.weight(f"{layer}.o_proj"))

    def feed(self, i: int, x: str) -> str:
        gate, up = (self.op("MatMul", x, self.weight(f"layers.{i}.{name}_proj")) for name in ("gate", "up"))
        open_ = self.op("Gelu", gate, approximate="tanh")
        return self.op("MatMul", self.op("Mul", open_, up), self.weight(f"layers.{i}.down_proj"))

    def write(self) -> None:
        c = self.config
        table = self.weight("embed_tokens")
        x = self.op("Mul", self.op("Gather", table, "input_ids", axis=0), self.number(math.sqrt(c.hidden)))
        turns = {full: self.turns(c.theta_full if full else c.theta_sliding) for full in (True, False)}
        everything, near = self.masks()
        for i in range(c.layers):
            self.scope, full = f"layers.{i}/", c.is_full(i)
            mixed = self.attend(i, self.norm(x, f"layers.{i}.input_norm"), turns[full], everything if full else near)
            x = self.op("Add", x, self.norm(mixed, f"layers.{i}.post_attention_norm"))
            fed = self.feed(i, self.norm(x, f"layers.{i}.pre_feedforward_norm"))
            x = self.op("Add", x, self.norm(fed, f"layers.{i}.post_feedforward_norm"))
        self.scope = ""
        if self.last:
            x = self.op("Slice", x, self.ints(-1), self.ints(np.iinfo(np.int64).max), self.ints(1))
        self.op("MatMul", self.norm(x, "norm"), self.op("Transpose", table, perm=[1, 0]), name="logits")


def write_model(config: Config, weights: Weights, path: Path, last: bool = False) -> None:
    """Write the ONNX model; its weights stay in their file, which must lie beside it.

    With `last` the logits are those of the last position alone, as generating text needs them.
    """
    from onnx import TensorProto, helper
    network = Network(config, weights, last)
    network.write()
    kind = TensorProto.FLOAT if weights.kind == "f32" else TensorProto.BFLOAT16
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, [1, "seq"]) for name in ("input_ids", "position_ids")]
    outputs = [helper.make_tensor_value_info("logits", kind, [1, 1 if last else "seq", config.vocabulary])]
    graph = helper.make_graph(network.nodes, config.name, inputs, outputs, list(network.initializers.values()))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="export-gemma3", ir_version=10)
    path.write_bytes(model.SerializeToString())


# ---- inputs -----------------------------------------------------------------------------------------------------------------

def tokens(config: Config, length: int, stride: int = 1) -> dict[str, np.ndarray]:
    """Made-up tokens at positions 0, stride, 2·stride, …."""
    ids = 1 + 7919 * np.arange(length, dtype=np.int64) % (min(config.vocabulary, 10000) - 1)
    return {"input_ids": ids[None], "position_ids": stride * np.arange(length, dtype=np.int64)[None]}
