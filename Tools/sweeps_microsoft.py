"""Random models of operators of onnxruntime's own domain: a part of `sweeps`."""
from __future__ import annotations

from random import Random

import numpy as np

from sweeps import Node, family, need


def draw_of(*ops: str):
    def draw(r: Random) -> dict:
        return {"op": r.choice(ops), "batch": r.choice((1, 1, 2, 3)), "queries": r.choice((1, 2, 5, 8)), "keys": r.choice((1, 3, 7)), "past": r.choice((0, 0, 1, 4)),
                "heads": r.choice((1, 2, 4)), "groups": r.choice((1, 2)), "depth": r.choice((16, 16, 32)), "causal": r.random() < 0.4, "bias": r.random() < 0.5, "mask": r.choice((0, 0, 1, 2)),
                "scores": r.random() < 0.3, "window": r.choice((-1, -1, 2)), "interleaved": r.random() < 0.4, "rotary": r.random() < 0.5, "rank": r.choice((3, 4)), "softcap": r.choice((0, 0, 5)),
                "bits": r.choice((4, 4, 8)), "block": r.choice((16, 32)), "width": r.choice((1, 3, 8, 17)), "unsigned": r.random() < 0.5, "kind": r.choice(("", "Relu", "Tanh", "Sigmoid", "LeakyRelu")),
                "count": r.choice((1, 2, 3)), "free": r.random() < 0.2, "seed": r.randrange(1 << 30)}
    return draw


def microsoft(p: dict, **attributes) -> Node:
    node = Node(p["op"], p["seed"], **attributes)
    node.domain = "com.microsoft"
    return node


@family("microsoft attention", 5)
class Attention:
    draw = draw_of("Attention", "MultiHeadAttention", "GroupQueryAttention", "RotaryEmbedding")

    def make(p: dict) -> Node:
        heads, depth, batch, queries, past = p["heads"], p["depth"], p["batch"], p["queries"], p["past"]
        need(min(heads, depth, batch, queries, p["keys"]) >= 1 and past >= 0 and depth % 2 == 0)
        hidden = heads * depth
        if p["op"] == "RotaryEmbedding":
            node = microsoft(p, interleaved=int(p["interleaved"]))
            x = node.values([batch, heads, queries, depth] if p["rank"] == 4 else [batch, queries, hidden], "float32")
            places = node.random.integers(0, 8, [batch, queries]) if p["mask"] else np.array([past])
            return node.feed(x).feed(places.astype(np.int64)).feed(node.values([24, depth // 2], "float32"), True).feed(node.values([24, depth // 2], "float32"), True)
        if p["op"] == "Attention":
            node = microsoft(p, num_heads=heads, unidirectional=int(p["causal"]))
            node.outputs = 2 if past else 1
            node.feed(node.values([batch, queries, 24], "float32", -1, 1)).feed(node.values([24, 3 * hidden], "float32", -0.5, 0.5), True).feed(node.values([3 * hidden], "float32"), True)
            if p["mask"] == 1:
                node.feed(node.random.integers(1, past + queries + 1, [batch]).astype(np.int32))
            elif p["mask"] == 2:
                mask = (node.random.random([batch, past + queries]) < 0.7).astype(np.int32)
                mask[:, 0] = 1
                node.feed(mask)
            else:
                node.skip()
            return node.feed(node.values([2, batch, heads, past, depth], "float32")) if past else node
        if p["op"] == "MultiHeadAttention":
            keys = p["keys"]
            need(not p["causal"] or keys == queries)
            node = microsoft(p, num_heads=heads, unidirectional=int(p["causal"]))
            node.outputs = 3 if past else 1
            node.feed(node.values([batch, queries, hidden], "float32")).feed(node.values([batch, keys, hidden], "float32")).feed(node.values([batch, keys, hidden], "float32"))
            node.feed(node.values([3 * hidden], "float32"), True) if p["bias"] and not past else node.skip()
            mask = (node.random.random([batch, past + keys]) < 0.7).astype(np.int32)
            mask[:, 0] = 1
            node.feed(mask) if p["mask"] else node.skip()
            node.feed(node.values([batch, heads, queries, past + keys], "float32")) if p["scores"] else node.skip()
            if past:
                node.feed(node.values([batch, heads, past, depth], "float32")).feed(node.values([batch, heads, past, depth], "float32"))
            return node
        groups = p["groups"]
        need(heads % groups == 0 and groups >= 1 and (past == 0 or queries == 1))
        node = microsoft(p, num_heads=heads, kv_num_heads=groups, local_window_size=p["window"] if p["window"] > 0 else None, do_rotary=int(p["rotary"]),
                         rotary_interleaved=int(p["interleaved"]), softcap=float(p["softcap"]) or None)
        node.outputs = 3
        node.feed(node.values([batch, queries, hidden], "float32"))
        for _ in range(2):
            node.feed(node.values([batch, queries, groups * depth], "float32"))
        for _ in range(2):
            node.feed(node.values([batch, groups, past, depth], "float32"))
        total = past + queries
        node.feed(np.full([batch], total - 1, np.int32)).feed(np.array(total, np.int32), True)
        if p["rotary"]:
            node.feed(node.values([24, depth // 2], "float32"), True).feed(node.values([24, depth // 2], "float32"), True)
        return node


@family("microsoft", 6)
class Fused:
    draw = draw_of("QLinearAdd", "QLinearMul", "QLinearSigmoid", "QLinearLeakyRelu", "QLinearGlobalAveragePool", "QLinearConcat", "MatMulNBits", "DynamicQuantizeMatMul",
                   "MatMulIntegerToFloat", "FusedConv", "FusedGemm", "EmbedLayerNormalization")

    def make(p: dict) -> Node:
        op, kind = p["op"], "uint8" if p["unsigned"] else "int8"
        rows, depth, width = p["queries"], p["depth"], p["width"]
        need(min(rows, depth, width, p["batch"], p["count"]) >= 1)

        def small(node: Node, shape: list[int]) -> np.ndarray:
            return node.random.integers(0 if p["unsigned"] else -128, 256 if p["unsigned"] else 128, shape).astype(kind)

        def scale(node: Node, low: float = 0.01, high: float = 0.05) -> Node:
            node.feed(np.array(low + (high - low) * node.random.random(), np.float32), True)
            return node.feed(np.array(node.random.integers(3, 9), kind), True)

        if op in ("QLinearAdd", "QLinearMul"):
            node = microsoft(p)
            for shape in ([p["batch"], rows, width], [width] if p["bias"] else [p["batch"], rows, width]):
                scale(node.feed(small(node, shape)))
            return scale(node, 0.03, 0.1)
        if op in ("QLinearSigmoid", "QLinearLeakyRelu"):
            node = microsoft(p, alpha=0.1 if op == "QLinearLeakyRelu" else None)
            return scale(scale(node.feed(small(node, [rows, width]))), 0.004, 0.01)
        if op == "QLinearGlobalAveragePool":
            node = microsoft(p, channels_last=0)
            return scale(scale(node.feed(small(node, [p["batch"], width, rows, 3]))), 0.01, 0.02)
        if op == "QLinearConcat":
            node = scale(microsoft(p, axis=1), 0.02, 0.05)
            for _ in range(p["count"]):
                scale(node.feed(small(node, [rows, width])))
            return node
        if op == "MatMulNBits":
            inner, block, bits = p["depth"] * 2 + p["keys"] * 2, p["block"], p["bits"]
            blocks = -(-inner // block)
            node = microsoft(p, K=inner, N=width, bits=bits, block_size=block)
            node.feed(node.values([p["batch"], rows, inner], "float32")).feed(node.random.integers(0, 256, [width, blocks, block * bits // 8]).astype(np.uint8), True)
            node.feed(node.values([width * blocks], "float32", 0.01, 0.1), True)
            if p["mask"]:
                node.feed(node.random.integers(0, 256, [width * (-(-blocks * bits // 8))]).astype(np.uint8), True)
            return node
        if op == "DynamicQuantizeMatMul":
            node = microsoft(p)
            node.feed(node.values([rows, depth], "float32")).feed(small(node, [depth, width]), True)
            node.feed(np.array([0.02], np.float32), True).feed(np.array([3], kind), True)
            return node.feed(node.values([width], "float32"), True) if p["bias"] else node
        if op == "MatMulIntegerToFloat":
            node = microsoft(p)
            node.feed(node.random.integers(0, 256, [rows, depth]).astype(np.uint8)).feed(small(node, [depth, width]), True)
            node.feed(np.array([0.02], np.float32), True).feed(np.array([0.03], np.float32), True).feed(np.array([7], np.uint8), True).feed(np.array([3], kind), True)
            return node.feed(node.values([width], "float32"), True) if p["bias"] else node
        if op == "FusedConv":
            node = microsoft(p, activation=p["kind"] or "Relu", activation_params=[0.2] if p["kind"] == "LeakyRelu" else None, pads=[1, 1, 1, 1])
            return node.feed(node.values([p["batch"], 3, 5, 6], "float32")).feed(node.values([width, 3, 3, 3], "float32"), True).feed(node.values([width], "float32"), True)
        if op == "FusedGemm":
            node = microsoft(p, activation=p["kind"] or "Relu", transB=1, alpha=0.5)
            return node.feed(node.values([rows, depth], "float32")).feed(node.values([width, depth], "float32"), True).feed(node.values([width], "float32"), True)
        node = microsoft(p, epsilon=1e-5)
        node.outputs = 2
        node.feed(node.random.integers(0, 9, [p["batch"], rows]).astype(np.int32)).feed(node.random.integers(0, 2, [p["batch"], rows]).astype(np.int32))
        for shape in ([9, depth], [16, depth], [2, depth], [depth], [depth]):
            node.feed(node.values(shape, "float32"), True)
        return node.feed((node.random.random([p["batch"], rows]) < 0.7).astype(np.int32)) if p["mask"] else node


@family("microsoft recurrent", 2)
class DynamicQuantizeLSTM:
    def draw(r: Random) -> dict:
        return {"length": r.choice((1, 2, 5, 9)), "batch": r.choice((1, 2, 3)), "inputs": r.choice((1, 3, 8, 17)), "hidden": r.choice((1, 3, 8, 16)), "direction": r.choice(("forward", "reverse", "bidirectional")),
                "bias": r.random() < 0.6, "lengths": r.random() < 0.3, "initial": r.random() < 0.5, "peephole": r.random() < 0.2, "columns": r.random() < 0.4, "unsigned": r.random() < 0.5, "zero": r.choice((0, 3)),
                "outputs": r.choice((1, 2, 3)), "seed": r.randrange(1 << 30)}

    def make(p: dict) -> Node:
        need(min(p["length"], p["batch"], p["inputs"], p["hidden"], p["outputs"]) >= 1)
        hidden, directions = p["hidden"], 2 if p["direction"] == "bidirectional" else 1
        kind, low = ("uint8", 0) if p["unsigned"] else ("int8", -128)
        node = microsoft({**p, "op": "DynamicQuantizeLSTM"}, hidden_size=hidden, direction=p["direction"])
        value = lambda *shape: node.values(list(shape), "float32", -0.7, 0.7)
        node.feed(value(p["length"], p["batch"], p["inputs"]))
        for rows in (p["inputs"], hidden):
            node.feed(node.random.integers(low, low + 256, [directions, rows, 4 * hidden]).astype(kind), True)
        node.feed(value(directions, 8 * hidden), True) if p["bias"] else node.skip()
        node.feed(node.random.integers(1, p["length"] + 1, p["batch"]).astype(np.int32)) if p["lengths"] else node.skip()
        for _ in range(2):
            node.feed(value(directions, p["batch"], hidden)) if p["initial"] else node.skip()
        node.feed(value(directions, 3 * hidden), True) if p["peephole"] else node.skip()
        # Zero points are near the middle of what the type holds; those of columns are the same for all, as onnxruntime has it.
        zero = low + 128 + p["zero"]
        for _ in range(2):
            shape = [directions, 4 * hidden] if p["columns"] else [directions]
            node.feed(node.values(shape, "float32", 0.002, 0.006), True).feed(np.full(shape, zero, kind), True)
        node.outputs = p["outputs"]
        # onnxruntime rounds inputs and states to eight bits in each step.
        node.computes = "eight bits"
        return node
