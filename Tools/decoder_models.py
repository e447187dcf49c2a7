"""Decoders with an explicit cache of keys and values, of the shapes of GPT-2 small and SmolLM2-135M, with seeded random weights.

One graph serves both phases: `ids` [1, T] and `past_k`, `past_v` [layers, 1, heads, P, depth], where P may be 0, give the logits
of the last token [1, vocabulary] and the grown caches.
"""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def causal_bias(tokens: int, past: int) -> Tensor:
    """0 where a token may look, -inf at what comes after it: [1, 1, T, P + T]."""
    query, key = torch.arange(tokens)[:, None] + past, torch.arange(tokens + past)[None]
    return torch.where(key <= query, 0.0, float("-inf"))[None, None]


class GPT2Layer(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads, self.norm_attention, self.norm_inner = heads, nn.LayerNorm(width), nn.LayerNorm(width)
        self.joined, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.grow, self.shrink = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, past_k: Tensor, past_v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, width = x.shape
        q, k, v = (part.view(batch, tokens, self.heads, width // self.heads).transpose(1, 2)
                   for part in self.joined(self.norm_attention(x)).split(width, -1))
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        x = x + self.attended(y.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.shrink(F.gelu(self.grow(self.norm_inner(x)), approximate="tanh")), k, v


class GPT2(nn.Module):
    def __init__(self, vocabulary: int = 50257, width: int = 768, layers: int = 12, heads: int = 12):
        super().__init__()
        self.words, self.positions, self.norm = nn.Embedding(vocabulary, width), nn.Embedding(1024, width), nn.LayerNorm(width)
        self.layers = nn.ModuleList(GPT2Layer(width, heads) for _ in range(layers))
        self.cache = (layers, heads, width // heads)

    def forward(self, ids: Tensor, past_k: Tensor, past_v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens, past = ids.shape[1], past_k.shape[3]
        x = self.words(ids) + self.positions(torch.arange(tokens) + past)[None]
        bias, keys, values = causal_bias(tokens, past), [], []
        for index, layer in enumerate(self.layers):
            x, k, v = layer(x, past_k[index], past_v[index], bias)
            keys.append(k)
            values.append(v)
        return F.linear(self.norm(x[:, -1]), self.words.weight), torch.stack(keys), torch.stack(values)


class RMSNorm(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class LlamaLayer(nn.Module):
    def __init__(self, width: int, heads: int, key_heads: int, inner: int):
        super().__init__()
        self.heads, self.key_heads, self.depth = heads, key_heads, width // heads
        self.norm_attention, self.norm_inner = RMSNorm(width), RMSNorm(width)
        self.query, self.attended = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.key, self.value = (nn.Linear(width, key_heads * self.depth, bias=False) for _ in range(2))
        self.gate, self.grow, self.shrink = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False), nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor, past_k: Tensor, past_v: Tensor, bias: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, tokens, width = x.shape

        def heads(part: Tensor, count: int) -> Tensor:
            return part.view(batch, tokens, count, self.depth).transpose(1, 2)

        def turned(part: Tensor) -> Tensor:  # pairs are neighbours (2i, 2i + 1)
            a, c = part[..., 0::2], part[..., 1::2]
            return torch.stack((a * cos - c * sin, a * sin + c * cos), -1).flatten(-2)

        def repeated(part: Tensor) -> Tensor:
            wide = part[:, :, None].expand(batch, self.key_heads, self.heads // self.key_heads, part.shape[2], self.depth)
            return wide.reshape(batch, self.heads, part.shape[2], self.depth)

        y = self.norm_attention(x)
        q = turned(heads(self.query(y), self.heads))
        k = torch.cat([past_k, turned(heads(self.key(y), self.key_heads))], 2)
        v = torch.cat([past_v, heads(self.value(y), self.key_heads)], 2)
        a = F.scaled_dot_product_attention(q, repeated(k), repeated(v), attn_mask=bias)
        x = x + self.attended(a.transpose(1, 2).reshape(batch, tokens, width))
        y = self.norm_inner(x)
        return x + self.shrink(F.silu(self.gate(y)) * self.grow(y)), k, v


class Llama(nn.Module):
    """Sizes of SmolLM2-135M: tied embeddings, three query heads to a key head."""

    def __init__(self, vocabulary: int = 49152, width: int = 576, layers: int = 30, heads: int = 9, key_heads: int = 3, inner: int = 1536):
        super().__init__()
        self.words, self.norm = nn.Embedding(vocabulary, width), RMSNorm(width)
        self.layers = nn.ModuleList(LlamaLayer(width, heads, key_heads, inner) for _ in range(layers))
        depth = width // heads
        self.register_buffer("rate", 1.0 / 1e5 ** (torch.arange(0, depth, 2).float() / depth), persistent=False)
        self.cache = (layers, key_heads, depth)

    def forward(self, ids: Tensor, past_k: Tensor, past_v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        tokens, past = ids.shape[1], past_k.shape[3]
        x = self.words(ids)
        angle = (torch.arange(tokens) + past)[:, None].float() * self.rate[None]
        cos, sin, bias, keys, values = angle.cos(), angle.sin(), causal_bias(tokens, past), [], []
        for index, layer in enumerate(self.layers):
            x, k, v = layer(x, past_k[index], past_v[index], bias, cos, sin)
            keys.append(k)
            values.append(v)
        return F.linear(self.norm(x[:, -1]), self.words.weight), torch.stack(keys), torch.stack(values)


def seeded_decoder(model: nn.Module) -> nn.Module:
    """Small weights, as at the start of training, so that the residual stream stays finite through all layers."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02)
    return model
