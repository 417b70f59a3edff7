"""Small torch modules in the forms that published networks use, with random weights."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import onnx
import torch
from torch import nn
from torch.nn import functional

from tests.models import MODELS


@dataclass(frozen=True)
class Made:
    """A module and its input shapes for batch 1."""

    make: Callable[[], nn.Module]
    shapes: tuple[tuple[int, ...], ...]
    dynamo: bool = True

    def export(self, shapes: Sequence[tuple[int, ...]]) -> onnx.ModelProto:
        """The module as ONNX for inputs of these shapes."""
        torch.manual_seed(0)
        module = self.make().eval()
        for layer in module.modules():
            if isinstance(layer, (nn.BatchNorm2d, nn.BatchNorm1d)):
                nn.init.normal_(layer.running_mean, 0, 0.1)
                nn.init.uniform_(layer.running_var, 0.5, 1.5)
        given = tuple(torch.randn(s) for s in shapes)
        if self.dynamo:
            program = torch.onnx.export(module, given, dynamo=True, verbose=False)
            return program.model_proto
        buffer = io.BytesIO()
        torch.onnx.export(module, given, buffer, dynamo=False, opset_version=17)
        return onnx.load_from_string(buffer.getvalue())


class Fn(nn.Module):
    """A function of some layers and the inputs."""

    def __init__(self, function: Callable[..., torch.Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *x: torch.Tensor) -> torch.Tensor:
        return self.function(self, *x)


def conv(
    i: int, o: int, k: int = 3, s: int = 1, g: int = 1, act: nn.Module | None = None, bn: bool = False
) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=not bn)]
    if bn:
        layers.append(nn.BatchNorm2d(o))
    if act is not None:
        layers.append(act)
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Down, up by `up`, skips."""

    def __init__(self, up: str, act: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.a, self.b, self.c = (
            conv(3, 8, act=act()),
            conv(8, 12, s=2, act=act()),
            conv(12, 16, s=2, act=act()),
        )
        self.up1, self.up2 = self._up(16, 12, up, act), self._up(24, 8, up, act)
        self.d, self.out = conv(16, 8, act=act()), nn.Conv2d(8, 3, 1)

    @staticmethod
    def _up(i: int, o: int, up: str, act: Callable[[], nn.Module]) -> nn.Module:
        if up.startswith("t"):
            k, s, p, q = {"t2": (2, 2, 0, 0), "t4": (4, 2, 1, 0), "t3": (3, 2, 1, 1)}[up]
            return nn.Sequential(nn.ConvTranspose2d(i, o, k, s, p, q), act())
        if up == "shuffle":
            return nn.Sequential(nn.Conv2d(i, 4 * o, 3, 1, 1), nn.PixelShuffle(2), act())
        return nn.Sequential(nn.Upsample(scale_factor=2, mode=up), nn.Conv2d(i, o, 3, 1, 1), act())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.a(x)
        b = self.b(a)
        y = torch.cat([self.up1(self.c(b)), b], 1)
        return self.out(self.d(torch.cat([self.up2(y), a], 1)))


class SuperResolution(nn.Module):
    """Residual blocks, a global skip by repetition or interpolation, pixel shuffle."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.head, self.body = (
            nn.Conv2d(3, 12, 3, 1, 1),
            nn.ModuleList([nn.Conv2d(12, 12, 3, 1, 1) for _ in range(4)]),
        )
        self.tail, self.fuse = nn.Conv2d(12, 27, 3, 1, 1), nn.Conv2d(48, 12, 1)
        self.act = nn.LeakyReLU(0.05) if kind == "distill" else nn.PReLU(12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = h = self.head(x)
        if self.kind == "distill":
            parts = []
            for layer in self.body:
                y = self.act(layer(y))
                keep, _ = torch.split(y, [6, 6], 1)
                parts += [keep, keep * 0.5]
            y = self.fuse(torch.cat(parts, 1)) + h
        elif self.kind == "anchor":
            for layer in self.body:
                y = functional.relu(layer(y))
            return functional.pixel_shuffle(self.tail(y) + torch.repeat_interleave(x, 9, 1), 3).clamp(0, 1)
        else:
            for layer in self.body[:2]:
                y = y + self.act(layer(y)) * 0.1
            y = y + h
        up = functional.pixel_shuffle(self.tail(y), 3)
        return up + functional.interpolate(x, scale_factor=3.0, mode="bilinear", align_corners=False)


class RepBlock(nn.Module):
    """Three parallel branches with batch norms."""

    def __init__(self, i: int, o: int, s: int = 1, branches: int = 1) -> None:
        super().__init__()
        self.three = nn.ModuleList([conv(i, o, 3, s, bn=True) for _ in range(branches)])
        self.one = conv(i, o, 1, s, bn=True)
        self.skip = nn.BatchNorm2d(i) if i == o and s == 1 else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        for branch in self.three:
            y = y + branch(x)
        return functional.relu(y + self.skip(x) if self.skip is not None else y)


class Branches(nn.Module):
    """Four convolutions, one of kernel 1 and the value itself, each with a batch norm, summed."""

    def __init__(self, i: int, o: int, k: int, g: int = 1) -> None:
        super().__init__()
        self.many = nn.ModuleList([conv(i, o, k, 1, g, bn=True) for _ in range(4)])
        self.one = conv(i, o, 1, 1, g, bn=True)
        self.skip = nn.BatchNorm2d(i) if i == o else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.one(x)
        for branch in self.many:
            y = y + branch(x)
        return functional.relu(y if self.skip is None else y + self.skip(x))


def branched(blocks: int, width: int = 8) -> nn.Module:
    """Depthwise and pointwise convolutions of many branches, in turns."""
    parts = [Branches(3, width, 3)]
    for _ in range(blocks):
        parts += [Branches(width, width, 3, width), Branches(width, width, 1)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def repeated(blocks: int, width: int = 8) -> nn.Module:
    """Plain convolutions of three branches, and a head."""
    parts = [RepBlock(3 if i == 0 else width, width, 2 if i in (0, 8) else 1) for i in range(blocks)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


class Squeeze(nn.Module):
    """Squeeze and excite; `kind` is how the pooled numbers are shaped."""

    def __init__(self, c: int, kind: str = "conv") -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = (
            (nn.Conv2d(c, 4, 1), nn.Conv2d(4, c, 1)) if kind == "conv" else (nn.Linear(c, 4), nn.Linear(4, c))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.kind == "conv":
            return x * torch.sigmoid(self.b(functional.silu(self.a(x.mean((2, 3), keepdim=True)))))
        if self.kind == "linear":
            return x * torch.sigmoid(self.b(functional.relu(self.a(x.mean((2, 3)))))).view(
                x.shape[0], -1, 1, 1
            )
        y = functional.hardsigmoid(
            self.b(functional.relu(self.a(functional.adaptive_avg_pool2d(x, 1).flatten(1))))
        )
        return x * y[:, :, None, None].expand_as(x)


class Attention(nn.Module):
    """Attention; `kind` is how q, k, v are parted and the product is written."""

    def __init__(self, kind: str, width: int = 16, heads: int = 4) -> None:
        super().__init__()
        self.kind, self.heads = kind, heads
        self.norm, self.qkv, self.out = (
            nn.LayerNorm(width),
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, n, c = x.shape
        y = self.qkv(self.norm(x))
        if self.kind == "gather":
            z = y.reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            q, k, v = z[0], z[1], z[2]
        elif self.kind == "chunk":
            q, k, v = (t.reshape(b, n, self.heads, -1).transpose(1, 2) for t in y.chunk(3, -1))
        elif self.kind == "select":
            z = y.reshape(b, n, 3, self.heads, c // self.heads)
            q, k, v = (z.select(2, i).transpose(1, 2) for i in range(3))
        else:
            q, k, v = (
                y.reshape(b, n, 3, c)[:, :, i].reshape(b, n, self.heads, -1).transpose(1, 2) for i in range(3)
            )
        if self.kind == "sdpa":
            z = functional.scaled_dot_product_attention(q, k, v)
        elif self.kind == "einsum":
            a = torch.einsum("bhid,bhjd->bhij", q, k).mul((c // self.heads) ** -0.5).softmax(-1)
            z = torch.einsum("bhij,bhjd->bhid", a, v)
        else:
            z = ((q @ k.transpose(-1, -2)) / (c // self.heads) ** 0.5).softmax(-1) @ v
        return x + self.out(z.transpose(1, 2).reshape(b, n, c))


class ChannelAttention(nn.Module):
    """Attention over channels of a map, with normalised queries and keys and a learned temperature."""

    def __init__(self, c: int = 8, heads: int = 2) -> None:
        super().__init__()
        self.heads, self.scale = heads, nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv, self.dw, self.out = (
            nn.Conv2d(c, 3 * c, 1),
            nn.Conv2d(3 * c, 3 * c, 3, 1, 1, groups=3 * c),
            nn.Conv2d(c, c, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        q, k, v = (t.reshape(b, self.heads, c // self.heads, h * w) for t in self.dw(self.qkv(x)).chunk(3, 1))
        q, k = functional.normalize(q, dim=-1), functional.normalize(k, dim=-1)
        y = ((q @ k.transpose(-2, -1)) * self.scale).softmax(-1) @ v
        return x + self.out(y.reshape(b, c, h, w))


class RelativeWindow(nn.Module):
    """Windows with relative position bias in NCHW, shifted, with the mask computed in the graph."""

    def __init__(self, c: int = 8, heads: int = 2, m: int = 4, shift: int = 2) -> None:
        super().__init__()
        self.heads, self.m, self.shift = heads, m, shift
        self.qkv, self.out = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.table = nn.Parameter(torch.randn((2 * m - 1) ** 2, heads))
        y, x = torch.meshgrid(torch.arange(m), torch.arange(m), indexing="ij")
        p = torch.stack([y.flatten(), x.flatten()])
        d = p[:, :, None] - p[:, None] + m - 1
        self.register_buffer("index", d[0] * (2 * m - 1) + d[1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        m, s, a = self.m, self.shift, self.m**2
        y = x.permute(0, 2, 3, 1)
        if s:
            y = torch.roll(y, (-s, -s), (1, 2))
        y = y.reshape(b, h // m, m, w // m, m, c).transpose(2, 3).reshape(-1, a, c)
        q, k, v = self.qkv(y).reshape(-1, a, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        bias = self.table[self.index.reshape(-1)].reshape(a, a, self.heads).permute(2, 0, 1)
        score = q @ k.transpose(-2, -1) * 0.35 + bias[None]
        if s:
            image = torch.zeros(1, h, w, 1)
            count = 0
            for rows in (slice(0, -m), slice(-m, -s), slice(-s, None)):
                for columns in (slice(0, -m), slice(-m, -s), slice(-s, None)):
                    image[:, rows, columns] = count
                    count += 1
            parts = image.view(1, h // m, m, w // m, m, 1).transpose(2, 3).reshape(-1, a)
            mask = (parts[:, None] - parts[:, :, None] != 0).float() * -100.0
            n = mask.shape[0]
            score = (score.reshape(b, n, self.heads, a, a) + mask[None, :, None]).reshape(
                -1, self.heads, a, a
            )
        y = self.out((score.softmax(-1) @ v).transpose(1, 2).reshape(-1, a, c))
        y = y.reshape(b, h // m, w // m, m, m, c).transpose(2, 3).reshape(b, h, w, c)
        if s:
            y = torch.roll(y, (s, s), (1, 2))
        return x + y.permute(0, 3, 1, 2)


class UnfoldFold(nn.Module):
    """nn.Unfold, attention over patches, nn.Fold where `fold`."""

    def __init__(self, k: int = 2, s: int = 2, p: int = 0, fold: bool = True) -> None:
        super().__init__()
        self.k, self.s, self.p, self.fold = k, s, p, fold
        self.linear = nn.Linear(8 * k * k, 8 * k * k if fold else 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, w = x.shape[2:]
        y = functional.unfold(x, self.k, stride=self.s, padding=self.p).transpose(1, 2)
        y = functional.relu(self.linear(y)).transpose(1, 2)
        return functional.fold(y, (h, w), self.k, stride=self.s, padding=self.p) if self.fold else y


class SpelledNorm(nn.Module):
    """LayerNorm over channels of NCHW, spelled out, with and without permutes."""

    def __init__(self, kind: str, c: int = 8) -> None:
        super().__init__()
        self.kind, self.w, self.b = kind, nn.Parameter(torch.rand(c)), nn.Parameter(torch.rand(c))
        self.conv = nn.Conv2d(c, c, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        if self.kind == "permute":
            y = x.permute(0, 2, 3, 1)
            u = y.mean(-1, keepdim=True)
            v = ((y - u) ** 2).mean(-1, keepdim=True)
            return (self.w * (y - u) / torch.sqrt(v + 1e-6) + self.b).permute(0, 3, 1, 2)
        if self.kind == "first":
            u = x.mean(1, keepdim=True)
            v = (x - u).pow(2).mean(1, keepdim=True)
            return self.w[:, None, None] * ((x - u) / torch.sqrt(v + 1e-6)) + self.b[:, None, None]
        if self.kind == "flat":
            b, c, h, w = x.shape
            y = x.flatten(2).transpose(1, 2)
            return functional.layer_norm(y, (c,), self.w, self.b).transpose(1, 2).reshape(b, c, h, w)
        if self.kind == "pixel":
            return x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6) * self.w[None, :, None, None]
        return x * torch.rsqrt(x.var((1, 2, 3), keepdim=True) + 1e-5)


class ShapeArithmetic(nn.Module):
    """Sizes asked for in the graph: views, interpolation to another map's size, arange of a size."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        y = functional.interpolate(
            functional.avg_pool2d(x, 2), size=x.shape[-2:], mode="bilinear", align_corners=True
        )
        z = torch.arange(w, dtype=torch.float32).view(1, 1, 1, w) / w
        return (y + z).view(b, c * h, w).reshape(b, -1, h // 2, 2 * w) + x.reshape(b, c, h // 2, 2 * w)


class Recurrent(nn.Module):
    """A recurrent layer over a sequence."""

    def __init__(self, kind: type[nn.Module], **options: object) -> None:
        super().__init__()
        self.layer = kind(6, 5, batch_first=True, **options)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)[0]


class Sampler(nn.Module):
    """A flow added to the identity grid, sampled bilinearly."""

    def __init__(self, mode: str = "bilinear", padding: str = "zeros") -> None:
        super().__init__()
        self.mode, self.padding, self.flow = mode, padding, nn.Conv2d(4, 2, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h, w = x.shape[2:]
        y, z = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        grid = torch.stack([z, y], -1)[None] + 0.1 * self.flow(x).permute(0, 2, 3, 1)
        return functional.grid_sample(x, grid, mode=self.mode, padding_mode=self.padding, align_corners=False)


class Hybrid(nn.Module):
    """Convolution, tokens with a class token and positions, attention, head."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(1, 1, 16))
        self.pos = nn.Parameter(torch.randn(1, 17, 16))
        self.blocks = nn.Sequential(Attention("gather"), Attention("sdpa"))
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.cls.expand(x.shape[0], -1, -1), y], 1) + self.pos
        return self.head(self.norm(self.blocks(y))[:, 0])


class Shuffle(nn.Module):
    """Channel shuffle around grouped convolutions, with stride."""

    def __init__(self, groups: int, c: int = 12) -> None:
        super().__init__()
        self.g, self.a = groups, nn.Conv2d(c, c, 1, groups=groups)
        self.b, self.c = nn.Conv2d(c, c, 3, 1, 1, groups=c), nn.Conv2d(c, c, 1, groups=groups)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, c, h, w = x.shape
        y = (
            functional.relu(self.a(x))
            .view(b, self.g, c // self.g, h, w)
            .transpose(1, 2)
            .contiguous()
            .view(b, c, h, w)
        )
        return functional.relu(x + self.c(self.b(y)))


def _fn(
    function: Callable[..., torch.Tensor], *shapes: tuple[int, ...], **layers: Callable[[], nn.Module]
) -> Made:
    return Made(lambda: Fn(function, **{k: v() for k, v in layers.items()}), shapes or ((1, 8, 8, 8),))


def _image(make: Callable[[], nn.Module], c: int = 3, size: int = 16, **options: bool) -> Made:
    return Made(make, ((1, c, size, size),), **options)


def _seq(*layers: Callable[[], nn.Module], c: int = 8, size: int = 8) -> Made:
    return _image(lambda: nn.Sequential(*(layer() for layer in layers)), c, size)


_NARROW = ((1, 8, 6, 6),)
ZOO: dict[str, Made] = {
    **{f"tests-{name}": Made(make, (shape,)) for name, (make, shape) in MODELS.items()},
    **{
        f"unet-{up}": _image(lambda up=up: UNet(up))
        for up in ("t2", "t3", "t4", "bilinear", "nearest", "bicubic", "shuffle")
    },
    "unet-prelu": _image(lambda: UNet("t4", lambda: nn.PReLU())),
    "unet-elu": _image(lambda: UNet("bilinear", nn.ELU)),
    **{
        f"sr-{kind}": _image(lambda kind=kind: SuperResolution(kind), 3, 8)
        for kind in ("residual", "distill", "anchor")
    },
    "rep": _image(lambda: nn.Sequential(RepBlock(3, 8, 2), RepBlock(8, 8), RepBlock(8, 8, branches=3))),
    "rep-22": _image(lambda: repeated(22)),
    "rep-branches": _image(lambda: branched(21), size=8),
    **{
        f"squeeze-{kind}": _image(lambda kind=kind: Squeeze(8, kind), 8, 7)
        for kind in ("conv", "linear", "expand")
    },
    "mobile-v1": _seq(
        lambda: conv(8, 8, 3, 2, 8, nn.ReLU6(), True), lambda: conv(8, 16, 1, act=nn.ReLU6(), bn=True)
    ),
    "mobile-v3": _seq(
        lambda: conv(8, 16, 1, act=nn.Hardswish(), bn=True),
        lambda: conv(16, 16, 5, 2, 16, bn=True),
        lambda: Squeeze(16, "expand"),
        nn.Hardswish,
    ),
    **{
        f"attention-{kind}": Made(lambda kind=kind: Attention(kind), ((1, 9, 16),))
        for kind in ("gather", "chunk", "select", "slice", "sdpa", "einsum")
    },
    "attention-channels": _image(ChannelAttention, 8, 6),
    "windows": _image(lambda: RelativeWindow(shift=0), 8, 8),
    "windows-shifted": _image(RelativeWindow, 8, 8),
    "mha": _fn(
        lambda m, x: m.a(x, x, x, need_weights=False)[0],
        (1, 7, 8),
        a=lambda: nn.MultiheadAttention(8, 2, batch_first=True),
    ),
    "encoder-layer": Made(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), ((1, 5, 8),)),
    "unfold-fold": _image(UnfoldFold, 8, 8),
    "unfold-overlap": _image(lambda: UnfoldFold(3, 1, 1, False), 8, 6),
    "unfold-stride": _image(lambda: UnfoldFold(3, 2, 1, False), 8, 6),
    "fold-overlap": _image(lambda: UnfoldFold(4, 2, 1, True), 8, 8),
    **{
        f"norm-{kind}": _image(lambda kind=kind: SpelledNorm(kind), 8, 6)
        for kind in ("permute", "first", "flat", "pixel", "all")
    },
    "group-norm": _seq(lambda: nn.Conv2d(8, 8, 3), lambda: nn.GroupNorm(2, 8), nn.SiLU),
    "group-norm-4": _seq(lambda: nn.Conv2d(8, 8, 3), lambda: nn.GroupNorm(4, 8), nn.Mish),
    "instance-norm": _seq(
        lambda: nn.Conv2d(8, 8, 3), lambda: nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU
    ),
    "batch-norm-1d": Made(
        lambda: nn.Sequential(nn.Linear(8, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)), ((1, 8),)
    ),
    "conv-1d": Made(
        lambda: nn.Sequential(
            nn.Conv1d(4, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool1d(2),
            nn.Conv1d(8, 8, 3, 2, groups=8),
            nn.GELU(),
        ),
        ((1, 4, 16),),
    ),
    "conv-transpose-1d": Made(
        lambda: nn.Sequential(nn.Conv1d(4, 8, 3), nn.ConvTranspose1d(8, 4, 4, 2, 1), nn.Tanh()), ((1, 4, 12),)
    ),
    "conv-3d": Made(lambda: nn.Conv3d(2, 3, 3, padding=1), ((1, 2, 4, 6, 6),)),
    "shape-arithmetic": Made(ShapeArithmetic, _NARROW),
    "shape-arithmetic-script": Made(ShapeArithmetic, _NARROW, dynamo=False),
    **{
        f"{kind.__name__.lower()}{suffix}": Made(
            lambda kind=kind, options=options: Recurrent(kind, **options), ((1, 4, 6),)
        )
        for kind in (nn.GRU, nn.LSTM, nn.RNN)
        for suffix, options in (("", {}), ("-bi", {"bidirectional": True}))
    },
    **{
        f"grid-{mode}-{padding}": _image(lambda mode=mode, padding=padding: Sampler(mode, padding), 4, 6)
        for mode in ("bilinear", "nearest")
        for padding in ("zeros", "border")
    },
    "hybrid": _image(Hybrid),
    "hybrid-script": _image(Hybrid, dynamo=False),
    **{f"shuffle-{groups}": _image(lambda groups=groups: Shuffle(groups), 12, 6) for groups in (2, 3, 4)},
    "expand": _fn(
        lambda m, x: m.a(x) + m.a(x).mean((2, 3), keepdim=True).expand(-1, -1, 6, 6),
        (1, 8, 6, 6),
        a=lambda: nn.Conv2d(8, 8, 3, 1, 1),
    ),
    "expand-concat": _fn(
        lambda m, x: m.a(torch.cat([x, x.mean((2, 3), keepdim=True).expand_as(x)], 1)),
        a=lambda: nn.Conv2d(16, 8, 1),
    ),
    "expand-tokens": _fn(lambda m, x, y: torch.cat([y[:, None].expand(-1, 9, -1), x], -1), (1, 9, 8), (1, 4)),
    "transpose-prelu": _seq(
        lambda: nn.ConvTranspose2d(8, 6, 4, 2, 1),
        lambda: nn.PReLU(6),
        lambda: nn.ConvTranspose2d(6, 3, 3, 2, 1, 1),
        nn.PReLU,
    ),
    "transpose-groups": _seq(
        lambda: nn.ConvTranspose2d(8, 8, 4, 2, 1, groups=8),
        lambda: nn.ConvTranspose2d(8, 6, 5, 3, 2, 1),
        nn.Sigmoid,
    ),
    "transpose-dilated": _seq(lambda: nn.ConvTranspose2d(8, 4, 3, 2, 1, dilation=2), nn.ReLU),
    "pools": _seq(
        lambda: nn.AvgPool2d(3, 2, 1), lambda: nn.MaxPool2d(3, 2, 1), lambda: nn.AdaptiveAvgPool2d(1), size=16
    ),
    "pool-adaptive": _seq(lambda: nn.AdaptiveAvgPool2d((3, 2)), lambda: nn.Conv2d(8, 4, 1), size=7),
    "pool-ceil": _seq(
        lambda: nn.MaxPool2d(3, 2, ceil_mode=True), lambda: nn.AvgPool2d(2, 2, ceil_mode=True), size=11
    ),
    "pad-reflect": _seq(lambda: nn.ReflectionPad2d(2), lambda: nn.Conv2d(8, 4, 5)),
    "pad-replicate": _seq(lambda: nn.ReplicationPad2d(1), lambda: nn.Conv2d(8, 4, 3)),
    "pad-circular": _seq(lambda: nn.Conv2d(8, 4, 3, padding=1, padding_mode="circular")),
    "pad-constant": _fn(lambda m, x: functional.pad(x, (1, 2, 0, 1, 0, 2), value=0.5)),
    "pad-tokens": _fn(
        lambda m, x: m.a(functional.pad(x, (0, 0, 0, 3))), (1, 9, 8), a=lambda: nn.Linear(8, 8)
    ),
    "gelu": _seq(lambda: nn.Conv2d(8, 8, 1), nn.GELU, lambda: nn.Conv2d(8, 8, 1), lambda: nn.GELU("tanh")),
    "activations": _seq(
        nn.SiLU,
        nn.Mish,
        nn.Softplus,
        nn.SELU,
        nn.CELU,
        nn.Hardsigmoid,
        nn.Hardtanh,
        nn.Softsign,
        nn.LogSigmoid,
        nn.Tanhshrink,
        nn.Softshrink,
        nn.Hardshrink,
        lambda: nn.Threshold(0.1, 0.0),
        nn.ReLU6,
    ),
    "glu": _seq(lambda: nn.Conv2d(8, 16, 1), lambda: nn.GLU(1)),
    "trigonometry": _fn(
        lambda m, x: (
            torch.sin(x)
            + torch.cos(3 * x)
            + torch.tan(0.3 * x)
            + torch.atan(x)
            + torch.asinh(x)
            + torch.erf(x)
        )
    ),
    "exponentials": _fn(
        lambda m, x: (
            torch.expm1(x)
            + torch.log1p(x.abs())
            + torch.logsumexp(x, 1, keepdim=True)
            + torch.exp2(x)
            + x.abs().pow(1.5)
            + torch.cosh(x)
        )
    ),
    "log-softmax": _fn(lambda m, x: functional.log_softmax(m.a(x), 1), a=lambda: nn.Conv2d(8, 5, 1)),
    "softmax-axis": _fn(lambda m, x: x.softmax(1) + x.softmax(2) + x.softmax(3)),
    "normalize": _fn(
        lambda m, x: functional.normalize(x, dim=1) + functional.normalize(x.flatten(1), dim=-1).view_as(x)
    ),
    "reductions": _fn(
        lambda m, x: (
            x.amax(1, keepdim=True)
            + x.std((2, 3), keepdim=True)
            + x.prod(2, keepdim=True)
            + x.norm(dim=1, keepdim=True)
            + x.abs().sum(3, keepdim=True)
        )
    ),
    "arg-max": _fn(lambda m, x: x.argmax(1).float() + x.argmin(2).float().mean(1, keepdim=True)),
    "top-k": _fn(lambda m, x: x.topk(3, 1)[0].sum(1) + x.sort(1)[0][:, 0]),
    "cumsum": _fn(lambda m, x: x.cumsum(1) + x.cumsum(3).flip(3)),
    "flip": _fn(lambda m, x: torch.flip(x, (1,)) + torch.flip(x, (2, 3)), (1, 6, 5, 8)),
    "roll": _fn(lambda m, x: torch.roll(x, (1, -2, 3), (1, 2, 3))),
    "strided": _fn(
        lambda m, x: torch.cat([x[:, :, i::2, j::2] for i in (0, 1) for j in (0, 1)], 1) * x[:, :1, 1::2, ::2]
    ),
    "index-fixed": _fn(
        lambda m, x: x[:, [3, 1, 0]] + x[:, :3].index_select(2, torch.tensor([7, 6, 5, 4, 3, 2, 1, 0]))
    ),
    "index-pairs": _fn(lambda m, x: x[:, torch.tensor([[0, 1], [2, 3]])].sum(1)),
    "gather-elements": _fn(lambda m, x: torch.gather(x, 1, (x[:, :2] > 0).long())),
    "where": _fn(
        lambda m, x: (
            torch.where(x > 0, x, 0.1 * x[:, :1])
            + (x > x.mean()).float()
            + x.masked_fill(x < 0, -1e9).softmax(1)
        )
    ),
    "logic": _fn(lambda m, x: ((x > 0) & (x < 1) | (x == 2)).float() - (~(x > 0)).float()),
    "division": _fn(
        lambda m, x: (
            x // 0.3
            + torch.remainder(x, 0.7)
            + torch.fmod(x, 0.7)
            + torch.round(x)
            + torch.trunc(x)
            + torch.floor(x)
        )
    ),
    "broadcast": Made(lambda: Broadcast(), ((1, 8, 5, 6),)),
    "broadcast-sides": _fn(
        lambda m, x, y: x[:, :, None] * y[:, None] + x.mean(1)[:, None, None], (1, 5, 4), (1, 3, 4)
    ),
    "broadcast-rank-2": _fn(
        lambda m, x, y: m.a(x) * y + torch.arange(6.0) - torch.linspace(0, 1, 6),
        (1, 4),
        (1, 6),
        a=lambda: nn.Linear(4, 6),
    ),
    "mat-mul": _fn(
        lambda m, x, y: (x @ y.transpose(1, 2)).softmax(-1) @ y + x @ torch.ones(6, 6).triu(),
        (1, 5, 6),
        (1, 7, 6),
    ),
    "mat-mul-shared": _fn(
        lambda m, x: torch.ones(4, 8).tril() @ x @ torch.ones(8, 3) + m.a(x).mean(), a=lambda: nn.Linear(8, 2)
    ),
    "mat-mul-broadcast": _fn(
        lambda m, x, y: x[:, None] @ y[:, :, None].transpose(-1, -2), (1, 5, 6), (1, 3, 6)
    ),
    "bilinear-pair": _fn(
        lambda m, x, y: torch.einsum("bnc,bmc->bnm", x, y) + torch.einsum("bnc,bmc->bn", x, y)[..., None],
        (1, 5, 6),
        (1, 3, 6),
    ),
    "cosine": _fn(
        lambda m, x, y: (
            functional.cosine_similarity(x, y, 1)
            + functional.pairwise_distance(x.mean((2, 3)), y.mean((2, 3)))[:, None, None]
        ),
        (1, 8, 4, 4),
        (1, 8, 4, 4),
    ),
    "outer": _fn(
        lambda m, x: (m.a(x)[:, :, None] * m.a(x)[:, None]).flatten(1), (1, 6), a=lambda: nn.Linear(6, 4)
    ),
    "focus-mlp": _fn(lambda m, x: m.a(x.flatten(1)).view(x.shape[0], 2, 3), a=lambda: nn.Linear(512, 6)),
    "tokens-mlp": _fn(
        lambda m, x: x + m.a(x.transpose(1, 2)).transpose(1, 2),
        (1, 9, 8),
        a=lambda: nn.Sequential(nn.Linear(9, 18), nn.GELU(), nn.Linear(18, 9)),
    ),
    "stack-unbind": _fn(lambda m, x: torch.stack([t * i for i, t in enumerate(x.unbind(1))], 2)),
    "stack-pair": _fn(
        lambda m, x: (
            torch.stack([x, 2 * x], -1).flatten(-2) + torch.stack([x, -x], 3).reshape(x.shape[0], 8, 8, 16)
        )
    ),
    "rotary": _fn(
        lambda m, x: (
            x * torch.linspace(0, 1, 8) + torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape) * 0.5
        ),
        (1, 4, 5, 8),
    ),
    "dilated": _seq(
        lambda: nn.Conv2d(8, 8, 3, padding=2, dilation=2),
        lambda: nn.Conv2d(8, 8, 3, padding=4, dilation=4, groups=8),
    ),
    "asymmetric": _seq(
        lambda: nn.ZeroPad2d((0, 1, 0, 1)),
        lambda: nn.Conv2d(8, 6, 3, 2),
        lambda: nn.Conv2d(6, 6, (1, 5), padding=(0, 2)),
        size=9,
    ),
    "groups-odd": _seq(lambda: nn.Conv2d(9, 6, 3, groups=3), lambda: nn.Conv2d(6, 12, 3, groups=6), c=9),
    "large-kernel": _seq(
        lambda: conv(8, 8, 7, 1, 8),
        lambda: nn.Conv2d(8, 8, (1, 11), padding=(0, 5), groups=8),
        lambda: nn.Conv2d(8, 8, 1),
    ),
    "shuffle-down": _seq(
        lambda: nn.PixelUnshuffle(2), lambda: nn.Conv2d(32, 12, 3, 1, 1), lambda: nn.PixelShuffle(2)
    ),
    "resize-up": _fn(
        lambda m, x: (
            functional.interpolate(x, size=(13, 17), mode="bilinear")
            + functional.interpolate(x, size=(13, 17), mode="nearest")
            + functional.interpolate(x, size=(13, 17), mode="bilinear", align_corners=True)
        )
    ),
    "resize-down": _fn(
        lambda m, x: (
            functional.interpolate(x, size=(3, 5), mode="bilinear")
            + functional.interpolate(x, size=(3, 5), mode="area")
        )
    ),
    "resize-antialias": _fn(
        lambda m, x: functional.interpolate(x, size=(3, 5), mode="bilinear", antialias=True)
    ),
    "affine-grid": _fn(
        lambda m, x: functional.grid_sample(
            x,
            functional.affine_grid(m.a(x.mean((2, 3))).view(-1, 2, 3), list(x.shape), align_corners=False),
            align_corners=False,
        ),
        (1, 4, 6, 6),
        a=lambda: nn.Linear(4, 6),
    ),
    "embedding": _fn(lambda m, x: m.a((x > 0).long()).mean(-2), (1, 6), a=lambda: nn.Embedding(4, 8)),
    "detect-head": _fn(
        lambda m, x: torch.cat(
            [
                m.a(x)
                .view(x.shape[0], 2, 6, 8, 8)
                .permute(0, 1, 3, 4, 2)
                .reshape(x.shape[0], -1, 6)
                .sigmoid()[..., :2]
                * 2
                - 0.5
                + torch.arange(128.0).view(1, 128, 1),
                m.a(x).reshape(x.shape[0], -1, 6)[..., 2:].exp(),
            ],
            -1,
        ),
        a=lambda: nn.Conv2d(8, 12, 1),
    ),
    "integral": _fn(
        lambda m, x: (
            x.view(x.shape[0], 4, 16, 8).transpose(2, 1).softmax(1) * torch.arange(16.0).view(1, 16, 1, 1)
        ).sum(1),
        (1, 64, 8),
    ),
}


class Broadcast(nn.Module):
    """Constants of every rank and place against a map."""

    def __init__(self) -> None:
        super().__init__()
        for i, shape in enumerate(
            ((8, 5, 6), (5, 6), (6,), (8, 1, 1), (8, 5, 1), (1, 6), (5, 1), (1, 8, 5, 6), (8, 1, 6))
        ):
            self.register_buffer(f"c{i}", torch.randn(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i in range(9):
            c = getattr(self, f"c{i}")
            x = x + c if i % 3 == 0 else x * c if i % 3 == 1 else c - x
        y = x.flatten(1) * torch.linspace(0, 1, 240) + torch.arange(x.shape[0])[:, None]
        z = x[:, 0] * self.c1 + self.c2 + torch.arange(x.shape[0])[:, None, None]
        return y + z.flatten(1).repeat(1, 8)
