"""Small networks in the forms that trip converters, as torch modules with random weights.

Each is a few thousand parameters; `exported` gives the ONNX model in normal form.
"""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
import torch
from torch import nn
from torch.nn import functional

from convkit.ir.normal import normalize


class TransformerBlock(nn.Module):
    """Attention with one qkv projection reshaped to rank 5, spelled out, and an MLP."""

    def __init__(self, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, c = x.shape
        qkv = self.qkv(self.norms[0](x)).reshape(b, n, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q @ k.transpose(-2, -1)) * (c // self.heads) ** -0.5
        y = (scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c)
        x = x + self.out(y)
        return x + self.mlp(self.norms[1](x))


class WindowAttention(nn.Module):
    """Shifted windows: roll, partition, attention with a bias per offset and a mask, and back."""

    def __init__(self, width: int = 8, heads: int = 2, window: int = 4, size: int = 8) -> None:
        super().__init__()
        self.heads, self.window, self.size = heads, window, size
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )
        area = window * window
        self.table = nn.Parameter(torch.randn((2 * window - 1) ** 2, heads))
        self.register_buffer("offsets", torch.randint(0, (2 * window - 1) ** 2, (area, area)))
        self.register_buffer("mask", -10.0 * torch.randint(0, 2, ((size // window) ** 2, area, area)).float())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, h, w, c = x.shape
        m, a = self.window, self.window**2
        y = torch.roll(self.norm(x), (-2, -2), (1, 2))
        y = y.view(b, h // m, m, w // m, m, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, a, c)
        q, k, v = self.qkv(y).reshape(-1, a, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        scores = (q * (c // self.heads) ** -0.5) @ k.transpose(-2, -1)
        bias = self.table[self.offsets.view(-1)].view(a, a, -1).permute(2, 0, 1)
        scores = scores + bias.unsqueeze(0)
        windows = self.mask.shape[0]
        scores = scores.view(-1, windows, self.heads, a, a) + self.mask.unsqueeze(1).unsqueeze(0)
        y = scores.view(-1, self.heads, a, a).softmax(-1) @ v
        y = self.out(y.transpose(1, 2).reshape(-1, a, c))
        y = y.view(b, h // m, w // m, m, m, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, c)
        return x + torch.roll(y, (2, 2), (1, 2))


class PatchMerging(nn.Module):
    """Four strided slices side by side, a norm, a projection."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norm, self.reduce = nn.LayerNorm(4 * width), nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x[:, i::2, j::2, :] for j in (0, 1) for i in (0, 1)]
        return self.reduce(self.norm(torch.cat(parts, -1)))


class ChannelShuffle(nn.Module):
    """Half the channels go through convolutions; all are shuffled in rank 5."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        half = width // 2
        self.branch = nn.Sequential(
            nn.Conv2d(half, half, 1), nn.ReLU(), nn.Conv2d(half, half, 3, 1, 1, groups=half)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(2):
            keep, work = x.chunk(2, 1)
            x = torch.cat([keep, self.branch(work)], 1)
            b, c, h, w = x.shape
            x = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)
        return x


class PixelShuffle(nn.Module):
    """Unshuffled to depth, convolved, shuffled back to twice the size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 48, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.pixel_shuffle(torch.tanh(self.conv(functional.pixel_unshuffle(x, 2))), 4)


class InvertedResidual(nn.Module):
    """Expand, depthwise, squeeze and excite, project, with hard swish and hard sigmoid."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(width, 16, 1, bias=False), nn.BatchNorm2d(16), nn.Hardswish())
        self.depth = nn.Conv2d(16, 16, 5, padding=2, groups=16)
        self.squeeze = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.Hardsigmoid()
        )
        self.project = nn.Conv2d(16, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.hardswish(self.depth(self.expand(x)))
        return x + self.project(y * self.squeeze(y))


class PoolingMixer(nn.Module):
    """Average pooling as the token mixer, group norm of one group, a scale per channel."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(1, width), nn.GroupNorm(1, width)])
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
        self.mlp = nn.Sequential(nn.Conv2d(width, 16, 1), nn.GELU(), nn.Conv2d(16, width, 1))
        self.scale = nn.Parameter(torch.rand(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[0](x)
        x = x + self.scale[:, None, None] * (self.pool(y) - y)
        return x + self.mlp(self.norms[1](x))


class UnfoldBlock(nn.Module):
    """Patches unfolded so that attention runs between equal places of all patches, then folded back."""

    def __init__(self, width: int = 8, patch: int = 2) -> None:
        super().__init__()
        self.patch = patch
        self.attention = TransformerBlock(width, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        p, rows, columns = self.patch, h // self.patch, w // self.patch
        y = x.reshape(b * c * rows, p, columns, p).transpose(1, 2).reshape(b, c, rows * columns, p * p)
        y = self.attention(y.transpose(1, 3).reshape(b * p * p, rows * columns, c))
        y = y.view(b, p * p, rows * columns, c).transpose(1, 3)
        return y.reshape(b * c * rows, columns, p, p).transpose(1, 2).reshape(b, c, h, w)


class ConvNextBlock(nn.Module):
    """A depthwise convolution, then a norm and an MLP over the channels between permutes."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.depth, self.norm = nn.Conv2d(width, width, 7, padding=3, groups=width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 32), nn.GELU(), nn.Linear(32, width))
        self.scale = nn.Parameter(torch.rand(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.depth(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.mlp(y)).permute(0, 3, 1, 2)


MODELS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "transformer": (TransformerBlock, (1, 9, 16)),
    "window-attention": (WindowAttention, (1, 8, 8, 8)),
    "patch-merging": (PatchMerging, (1, 8, 8, 8)),
    "channel-shuffle": (ChannelShuffle, (1, 16, 6, 6)),
    "pixel-shuffle": (PixelShuffle, (1, 3, 8, 10)),
    "inverted-residual": (InvertedResidual, (1, 8, 7, 7)),
    "pooling-mixer": (PoolingMixer, (1, 8, 6, 6)),
    "unfold": (UnfoldBlock, (1, 8, 6, 4)),
    "convnext": (ConvNextBlock, (1, 8, 9, 9)),
}


def exported(name: str, **options: Any) -> ir.Model:
    """One of MODELS through torch.onnx.export(dynamo=True), in normal form."""
    make, shape = MODELS[name]
    torch.manual_seed(0)
    program = torch.onnx.export(make().eval(), (torch.randn(shape),), dynamo=True, verbose=False, **options)
    assert program is not None
    model = program.model
    normalize(model)
    return model
