"""Networks that recognize, small and with random weights, written from their papers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


def cna(i: int, o: int, k: int = 3, s: int = 1, g: int = 1, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Convolution, norm, activation."""
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, groups=g, bias=False), nn.BatchNorm2d(o), act())


def head(c: int) -> nn.Sequential:
    """Pool and classify."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, 10))


class Gate(nn.Module):
    """Squeeze and excitation."""

    def __init__(self, c: int, act: type[nn.Module] = nn.Sigmoid) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(c, 4, 1), nn.ReLU(), nn.Conv2d(4, c, 1), act()
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.net(x)


class Residual(nn.Module):
    """x + f(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.net = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


def bottleneck(c: int, act: type[nn.Module], gate: nn.Module | None = None, k: int = 3) -> Residual:
    """Expand, depthwise, project."""
    gates = [gate] if gate else []
    return Residual(cna(c, 4 * c, 1, act=act), cna(4 * c, 4 * c, k, g=4 * c, act=act), *gates,
                    cna(4 * c, c, 1, act=nn.Identity))  # fmt: skip


def mobilenet_v1() -> nn.Module:
    """Depthwise separable convolutions (Howard 2017)."""
    return nn.Sequential(
        cna(3, 8, s=2), cna(8, 8, g=8), cna(8, 16, 1), cna(16, 16, s=2, g=16), cna(16, 16, 1), head(16)
    )


def mobilenet_v2() -> nn.Module:
    """Inverted residuals (Sandler 2018)."""
    return nn.Sequential(cna(3, 8, s=2, act=nn.ReLU6), bottleneck(8, nn.ReLU6), head(8))


def mobilenet_v3() -> nn.Module:
    """With hard swish and gates (Howard 2019)."""
    return nn.Sequential(
        cna(3, 8, s=2, act=nn.Hardswish), bottleneck(8, nn.Hardswish, Gate(32, nn.Hardsigmoid), 5), head(8)
    )


def mobilenet_v4() -> nn.Module:
    """A universal bottleneck with a depthwise convolution before it (Qin 2024)."""
    return nn.Sequential(cna(3, 8, s=2), cna(8, 8, 5, g=8, act=nn.Identity), bottleneck(8, nn.ReLU), head(8))


def efficientnet() -> nn.Module:
    """With SiLU and gates (Tan 2019)."""
    return nn.Sequential(cna(3, 8, s=2, act=nn.SiLU), bottleneck(8, nn.SiLU, Gate(32)), head(8))


class ShuffleNet(nn.Module):
    """Half of the channels work, then all are shuffled (Ma 2018)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = cna(3, 16, s=2), head(16)
        self.work = nn.Sequential(cna(8, 8, 1), cna(8, 8, g=8, act=nn.Identity), cna(8, 8, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        for _ in range(2):
            a, b = y.chunk(2, 1)
            y = torch.cat([a, self.work(b)], 1)
            n, c, h, w = y.shape
            y = y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(y)


class RepVGG(nn.Module):
    """Parallel 3x3, 1x1 and identity branches (Ding 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = cna(3, 8, s=2), head(8)
        self.three, self.one = cna(8, 8, act=nn.Identity), cna(8, 8, 1, act=nn.Identity)
        self.same = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.head(F.relu(self.three(y) + self.one(y) + self.same(y)))


class ConvNeXt(nn.Module):
    """Depthwise 7x7, LayerNorm over channels, MLP, layer scale (Liu 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 4, 4), head(8)
        self.near, self.norm = nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.LayerNorm(8)
        self.mlp, self.scale = (
            nn.Sequential(nn.Linear(8, 32), nn.GELU(), nn.Linear(32, 8)),
            nn.Parameter(torch.ones(8)),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        z = self.scale * self.mlp(self.norm(self.near(y).permute(0, 2, 3, 1)))
        return self.head(y + z.permute(0, 3, 1, 2))


class ViT(nn.Module):
    """Patches, a class token, pre-norm attention (Dosovitskiy 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.out = nn.Conv2d(3, 16, 8, 8), nn.Linear(16, 10)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 16)), nn.Parameter(torch.randn(1, 17, 16))
        self.layer = nn.TransformerEncoderLayer(
            16, 4, 32, batch_first=True, norm_first=True, activation="gelu"
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x).flatten(2).transpose(1, 2)
        y = torch.cat([self.token.expand(x.shape[0], -1, -1), y], 1) + self.place
        return self.out(self.layer(y)[:, 0])


class Swin(nn.Module):
    """Attention in windows, shifted (Liu 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.patch, self.norm, self.qkv = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 24)
        self.bias, self.head = nn.Parameter(torch.randn(1, 2, 16, 16)), head(8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.patch(x).permute(0, 2, 3, 1)
        n, h, w, c = y.shape
        z = torch.roll(self.norm(y), (-2, -2), (1, 2))
        z = z.view(n, h // 4, 4, w // 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, c)
        q, k, v = self.qkv(z).reshape(-1, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        z = ((q @ k.transpose(-2, -1)) * 0.5 + self.bias).softmax(-1) @ v
        z = z.transpose(1, 2).reshape(-1, 4, 4, c).view(n, h // 4, w // 4, 4, 4, c)
        z = torch.roll(z.permute(0, 1, 3, 2, 4, 5).reshape(n, h, w, c), (2, 2), (1, 2))
        return self.head((y + z).permute(0, 3, 1, 2))


class BlazeFace(nn.Module):
    """Wide depthwise blocks, the skip pooled and padded in channels; anchors flattened (Bazarevsky 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.near, self.mix = (
            cna(3, 8, 5, 2),
            nn.Conv2d(8, 8, 5, 2, 2, groups=8),
            nn.Conv2d(8, 16, 1),
        )
        self.score, self.box = nn.Conv2d(16, 2, 1), nn.Conv2d(16, 32, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.stem(x)
        skip = F.pad(F.max_pool2d(y, 2), (0, 0, 0, 0, 0, 8))
        y = F.relu(self.mix(self.near(y)) + skip)
        flat = [t.permute(0, 2, 3, 1) for t in (self.score(y), self.box(y))]
        return flat[0].reshape(x.shape[0], -1, 1), flat[1].reshape(x.shape[0], -1, 16)


def face_mesh() -> nn.Module:
    """A regressor of landmarks with PReLU (Kartynnik 2019)."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.PReLU(8),
        Residual(nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)), nn.PReLU(8),
        nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, 2, 1), nn.PReLU(8), nn.Flatten(), nn.Linear(128, 30),
    )  # fmt: skip


def ds_cnn() -> nn.Module:
    """Keyword spotting on spectrograms (Zhang 2017)."""
    return nn.Sequential(
        nn.Conv2d(1, 8, (10, 4), 2, (5, 1)),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        cna(8, 8, g=8),
        cna(8, 8, 1),
        head(8),
    )


class Recurrent(nn.Module):
    """A recurrent layer over a sequence and a classifier of its last step."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.layer, self.out = kind(8, 12, batch_first=True), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x)[0][:, -1])


class Correlation(nn.Module):
    """All pairs of two maps' features, looked up where the flow points (Teed 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, one: Tensor, two: Tensor, flow: Tensor) -> Tensor:
        a, b = self.features(one), self.features(two)
        n, c, h, w = a.shape
        volume = (a.flatten(2).transpose(1, 2) @ b.flatten(2)) / c**0.5
        grid = flow.permute(0, 2, 3, 1).reshape(h * w, 1, 1, 2)
        found = F.grid_sample(volume.reshape(h * w, 1, h, w), grid, align_corners=True)
        return found.reshape(n, 1, h, w)


class Halting(nn.Module):
    """Goes on until it is sure: control flow that depends on the data."""

    def __init__(self) -> None:
        super().__init__()
        self.step = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        while x.abs().max() > 1:
            x = torch.tanh(self.step(x))
        return x
