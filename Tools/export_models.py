"""Export models from PyTorch to ONNX (called by fetch-models, in an environment with torch).

usage: python export_models.py DIR NAME     writes DIR/NAME.onnx
minilm and efficientnet_lite0 take trained weights that lie in DIR; mobilenetv2, resnet50, gpt2_small and smollm2 have seeded
random weights and are there for their shapes.
"""
from __future__ import annotations

import dataclasses
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

warnings.filterwarnings("ignore")
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional as F

from decoder_models import GPT2, Llama, seeded_decoder

OPSET = 18


def conv(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)


# ---- ResNet-50 ----------------------------------------------------------------------------------------------------

class Bottleneck(nn.Module):
    def __init__(self, cin: int, width: int, stride: int):
        super().__init__()
        cout = 4 * width
        self.body = nn.Sequential(conv(cin, width, 1), nn.BatchNorm2d(width), nn.ReLU(),
                                  conv(width, width, 3, stride), nn.BatchNorm2d(width), nn.ReLU(),
                                  conv(width, cout, 1), nn.BatchNorm2d(cout))
        self.shortcut = nn.Sequential(conv(cin, cout, 1, stride), nn.BatchNorm2d(cout)) if cin != cout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.shortcut(x))


class ResNet50(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(conv(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
        stages, cin = [], 64
        for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for i in range(count):
                stages.append(Bottleneck(cin, width, stride if i == 0 else 1))
                cin = 4 * width
        self.stages, self.head = nn.Sequential(*stages), nn.Linear(cin, 1000)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(image)).mean((2, 3)))


# ---- MobileNetV2 --------------------------------------------------------------------------------------------------

class InvertedResidual(nn.Module):
    def __init__(self, cin: int, cout: int, stride: int, expand: int):
        super().__init__()
        width = cin * expand
        widen = [conv(cin, width, 1), nn.BatchNorm2d(width), nn.ReLU6()] if expand > 1 else []
        self.body = nn.Sequential(*widen, conv(width, width, 3, stride, width), nn.BatchNorm2d(width), nn.ReLU6(),
                                  conv(width, cout, 1), nn.BatchNorm2d(cout))
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.residual else self.body(x)


class MobileNetV2(nn.Module):
    def __init__(self):
        super().__init__()
        layers, cin = [conv(3, 32, 3, 2), nn.BatchNorm2d(32), nn.ReLU6()], 32
        for expand, cout, count, stride in ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)):
            for i in range(count):
                layers.append(InvertedResidual(cin, cout, stride if i == 0 else 1, expand))
                cin = cout
        self.features = nn.Sequential(*layers, conv(cin, 1280, 1), nn.BatchNorm2d(1280), nn.ReLU6())
        self.head = nn.Linear(1280, 1000)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.features(image).mean((2, 3)))


# ---- EfficientNet-Lite0: attribute names are those of the checkpoint -------------------------------------------------

def same_padding(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's SAME rule: the odd pixel goes to the bottom right."""
    size = x.shape[-1]
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return F.pad(x, (total // 2, total - total // 2) * 2)


def norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class MBConv(nn.Module):
    def __init__(self, cin: int, cout: int, kernel: int, stride: int, expand: int):
        super().__init__()
        width, self.kernel, self.stride, self.expand = cin * expand, kernel, stride, expand
        if expand > 1:
            self._expand_conv, self._bn0 = conv(cin, width, 1), norm(width)
        self._depthwise_conv = nn.Conv2d(width, width, kernel, stride, groups=width, bias=False)
        self._bn1 = norm(width)
        self._project_conv, self._bn2 = conv(width, cout, 1), norm(cout)
        self.residual = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expand > 1 else x
        y = F.relu6(self._bn1(self._depthwise_conv(same_padding(y, self.kernel, self.stride))))
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = nn.Conv2d(3, 32, 3, 2, bias=False), norm(32)
        blocks, cin = [], 32
        for count, kernel, stride, expand, cout in (
                (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)):
            for i in range(count):
                blocks.append(MBConv(cin, cout, kernel, stride if i == 0 else 1, expand))
                cin = cout
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1, self._fc = conv(cin, 1280, 1), norm(1280), nn.Linear(1280, 1000)

    def forward(self, image: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(same_padding(image, 3, 2))))
        for block in self._blocks:
            x = block(x)
        return self._fc(F.relu6(self._bn1(self._conv_head(x))).mean((2, 3)))


# ---- MiniLM: a BERT encoder with mean pooling -------------------------------------------------------------------------

class EncoderLayer(nn.Module):
    def __init__(self, width: int, heads: int, inner: int):
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.attended = (nn.Linear(width, width) for _ in range(4))
        self.grow, self.shrink = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm_attention, self.norm_output = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        q, k, v = (part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value))
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(-2)
        x = self.norm_attention(x + self.attended(y))
        return self.norm_output(x + self.shrink(F.gelu(self.grow(x))))


class MiniLM(nn.Module):
    """all-MiniLM-L6-v2: token ids and mask to a mean-pooled embedding of length one."""

    def __init__(self, width: int = 384, layers: int = 6):
        super().__init__()
        self.words, self.positions, self.types = nn.Embedding(30522, width), nn.Embedding(512, width), nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(EncoderLayer(width, 12, 4 * width) for _ in range(layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask.to(self.norm.weight.dtype)
        places = torch.arange(input_ids.shape[1])
        x = self.norm(self.words(input_ids) + self.positions(places)[None] + self.types.weight[0])
        bias = ((1.0 - mask) * -1e9)[:, None, None, :]
        for layer in self.layers:
            x = layer(x, bias)
        weight = mask[..., None]
        return F.normalize((x * weight).sum(1) / weight.sum(1).clamp(min=1e-9), dim=-1)


# Names of the checkpoint, as (pattern, replacement) to this module's.
MINILM_NAMES = [(r"^embeddings\.word_embeddings", "words"), (r"^embeddings\.position_embeddings", "positions"), (r"^embeddings\.token_type_embeddings", "types"),
                (r"^embeddings\.LayerNorm", "norm"), (r"^encoder\.layer\.", "layers."), (r"attention\.self\.", ""), (r"attention\.output\.dense", "attended"),
                (r"attention\.output\.LayerNorm", "norm_attention"), (r"intermediate\.dense", "grow"), (r"output\.dense", "shrink"), (r"output\.LayerNorm", "norm_output")]


def load_minilm(directory: Path) -> nn.Module:
    from safetensors.torch import load_file
    model, state = MiniLM(), {}
    for name, tensor in load_file(directory / "minilm.safetensors").items():
        for pattern, replacement in MINILM_NAMES:
            name = re.sub(pattern, replacement, name)
        state[name] = tensor
    wanted = model.state_dict().keys()
    model.load_state_dict({name: tensor for name, tensor in state.items() if name in wanted}, strict=True)
    return model


def load_efficientnet(directory: Path) -> nn.Module:
    model = EfficientNetLite0()
    model.load_state_dict(torch.load(directory / "efficientnet_lite0.pth", weights_only=True), strict=True)
    return model


def seeded(model: nn.Module) -> nn.Module:
    """Weights that carry the picture through to the answer, and statistics that make folding a BatchNorm visible."""
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in ((module.running_mean, -0.2, 0.2), (module.running_var, 0.5, 1.5), (module.weight.data, 0.5, 1.0), (module.bias.data, -0.2, 0.2)):
                tensor.uniform_(low, high)
    return model


# ---- export -----------------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Export:
    load: Callable[[Path], nn.Module]
    example: Callable[[], tuple[Tensor, ...]]
    inputs: dict[str, dict[int, Dim]]
    outputs: tuple[str, ...]


def image_export(load: Callable[[Path], nn.Module]) -> Export:
    return Export(load, lambda: (torch.randn(2, 3, 224, 224),), {"image": {0: Dim("batch", min=1, max=256)}}, ("logits",))


def decoder_export(make: Callable[[], nn.Module], cache: tuple[int, int, int]) -> Export:
    layers, heads, depth = cache

    def example() -> tuple[Tensor, ...]:
        past = torch.zeros(layers, 1, heads, 5, depth)
        return torch.randint(0, 1000, (1, 7)), past, past.clone()

    tokens, past = Dim("tokens", min=1, max=512), Dim("past", min=0, max=512)
    return Export(lambda _: seeded_decoder(make()), example, {"ids": {1: tokens}, "past_k": {3: past}, "past_v": {3: past}}, ("logits", "k", "v"))


BATCH_SEQUENCE = {0: Dim("batch", min=1, max=256), 1: Dim("sequence", min=2, max=512)}
EXPORTS = {
    "resnet50": image_export(lambda _: seeded(ResNet50())),
    "mobilenetv2": image_export(lambda _: seeded(MobileNetV2())),
    "efficientnet_lite0": image_export(load_efficientnet),
    "minilm": Export(load_minilm, lambda: (torch.randint(0, 30522, (2, 16)), torch.ones(2, 16, dtype=torch.int64)),
                     {"input_ids": BATCH_SEQUENCE, "attention_mask": BATCH_SEQUENCE}, ("sentence_embedding",)),
    "gpt2_small": decoder_export(GPT2, (12, 12, 64)),
    "smollm2": decoder_export(Llama, (30, 3, 64)),
}


def load(directory: Path, name: str) -> nn.Module:
    """The module that NAME.onnx is exported from, with the same weights."""
    torch.manual_seed(0)
    return EXPORTS[name].load(directory).eval()


def main() -> None:
    directory, name = Path(sys.argv[1]), sys.argv[2]
    export, scratch = EXPORTS[name], directory / f"{name}.partial.onnx"
    with torch.no_grad():
        torch.onnx.export(load(directory, name), export.example(), scratch, dynamo=True, opset_version=OPSET, external_data=False,
                          input_names=list(export.inputs), output_names=list(export.outputs), dynamic_shapes=tuple(export.inputs.values()), verbose=False)
    scratch.replace(directory / f"{name}.onnx")


if __name__ == "__main__":
    main()
