"""Networks that make images from images, small and with random weights, written from their papers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


def conv(i: int, o: int, k: int = 3, **options: object) -> nn.Conv2d:
    """A convolution that keeps the size."""
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


class UNet(nn.Module):
    """Encoder and decoder with skips; up by a transposed convolution or bilinearly (Ronneberger 2015)."""

    def __init__(self, bilinear: bool = False) -> None:
        super().__init__()
        self.bilinear = bilinear
        self.down = nn.ModuleList([conv(3, 8), conv(8, 16), conv(16, 16)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(8, 8, 4, 2, 1)])
        self.mix = nn.ModuleList([conv(32, 8), conv(16, 8)])
        self.out = conv(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        skips, y = [], x
        for i, layer in enumerate(self.down):
            y = F.relu(layer(y))
            if i < 2:
                skips.append(y)
                y = F.max_pool2d(y, 2)
        for up, mix, skip in zip(self.up, self.mix, reversed(skips), strict=True):
            y = F.interpolate(y, scale_factor=2, mode="bilinear") if self.bilinear else up(y)
            y = F.relu(mix(torch.cat([y, skip], 1)))
        return x + self.out(y)


class EDSR(nn.Module):
    """Residual blocks without norms, pixel shuffle (Lim 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.tail = conv(3, 16), nn.Sequential(conv(16, 48), nn.PixelShuffle(4))
        self.body = nn.ModuleList(nn.Sequential(conv(16, 16), nn.ReLU(), conv(16, 16)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        for block in self.body:
            y = y + 0.1 * block(y)
        return self.tail(y)


class ContrastAttention(nn.Module):
    """Channels weighed by their mean and standard deviation (Hui 2019)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(conv(c, 4, 1), nn.ReLU(), conv(4, c, 1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)
        deviation = ((x - mean) ** 2).mean((2, 3), keepdim=True).sqrt()
        return x * self.gate(mean + deviation)


class IMDN(nn.Module):
    """Information distillation: part of the channels is kept at each step (Hui 2019)."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.last = conv(3, 16), conv(4, 4)
        self.steps = nn.ModuleList([conv(16, 16), conv(12, 16), conv(12, 16)])
        self.attention, self.fuse = ContrastAttention(16), conv(16, 16, 1)
        self.tail = nn.Sequential(conv(16, 12), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        rest = start = self.head(x)
        kept = []
        for i, step in enumerate(self.steps):
            kept_now, rest = torch.split(F.leaky_relu(step(rest), 0.05), (4, 12), 1)
            kept.append(kept_now)
            if i == 2:
                kept.append(self.last(rest[:, :4]))
        return self.tail(start + self.fuse(self.attention(torch.cat(kept, 1))))


class SpatialAttention(nn.Module):
    """ESA: a gate from a strided, pooled view of the features (Liu 2020)."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.enter, self.leave, self.skip = conv(c, 4, 1), conv(4, c, 1), conv(4, 4, 1)
        self.stride, self.deep = nn.Conv2d(4, 4, 3, 2), conv(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.enter(x)
        small = self.deep(F.max_pool2d(self.stride(y), 5, 2))
        small = F.interpolate(small, x.shape[2:], mode="bilinear", align_corners=False)
        return x * torch.sigmoid(self.leave(small + self.skip(y)))


class RFDN(nn.Module):
    """Residual feature distillation with 1x1 branches (Liu 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.fuse, self.attention = conv(3, 16), conv(24, 16, 1), SpatialAttention(16)
        self.keep = nn.ModuleList(conv(16, 8, 1) for _ in range(3))
        self.work = nn.ModuleList(conv(16, 16) for _ in range(2))
        self.tail = nn.Sequential(conv(16, 12), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        start = y = self.head(x)
        kept = []
        for keep, work in zip(self.keep, self.work, strict=False):
            kept.append(F.leaky_relu(keep(y), 0.05))
            y = F.leaky_relu(work(y) + y, 0.05)
        kept.append(self.keep[2](y))
        return self.tail(start + self.attention(self.fuse(torch.cat(kept, 1))))


class RLFN(nn.Module):
    """Residual local features: three convolutions and ESA (Kong 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.attention = conv(3, 16), SpatialAttention(16)
        self.body = nn.Sequential(*(m for _ in range(3) for m in (conv(16, 16), nn.LeakyReLU(0.05))))
        self.tail = nn.Sequential(conv(16, 12), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        return self.tail(y + self.attention(y + self.body(y)))


class ABPN(nn.Module):
    """The anchor: the input repeated for each place of the pixel shuffle, clipped (Du 2021)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 16), nn.ReLU(), conv(16, 16), nn.ReLU(), conv(16, 27))

    def forward(self, x: Tensor) -> Tensor:
        anchor = torch.repeat_interleave(x, 9, 1)
        return F.pixel_shuffle(self.body(x) + anchor, 3).clamp(0, 255)


class ELSR(nn.Module):
    """A few convolutions with PReLU for video (Xu 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 6), conv(6, 6), conv(6, 48)
        self.act = nn.PReLU(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return F.pixel_shuffle(self.c(self.act(self.b(y)) + y), 4)


class SWRN(nn.Module):
    """A sliding window of frames with a state that goes on (Lian 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = conv(9 + 8, 8)
        self.body, self.out = nn.Sequential(conv(8, 8), nn.ReLU(), conv(8, 8)), conv(8, 48)

    def forward(self, before: Tensor, now: Tensor, after: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        y = F.relu(self.enter(torch.cat([before, now, after, state], 1)))
        y = y + self.body(y)
        up = F.interpolate(now, scale_factor=4, mode="bilinear", align_corners=False)
        return up + F.pixel_shuffle(self.out(y), 4), y


class VapSR(nn.Module):
    """Large-kernel attention and pixel norm between permutes (Zhou 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.norm, self.tail = conv(3, 16), nn.LayerNorm(16), conv(16, 12)
        self.enter, self.leave = conv(16, 16, 1), conv(16, 16, 1)
        self.near = conv(16, 16, 5, groups=16)
        self.far = nn.Conv2d(16, 16, 5, padding=6, groups=16, dilation=3)

    def forward(self, x: Tensor) -> Tensor:
        y = start = self.head(x)
        y = F.gelu(self.enter(y))
        y = self.leave(y * self.far(self.near(y))) + start
        y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return F.pixel_shuffle(self.tail(y), 2)


class PartialConv(nn.Module):
    """A convolution on a quarter of the channels (Chen 2023)."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.part = conv(3, 16), conv(4, 4)
        self.mlp = nn.Sequential(conv(16, 32, 1), nn.BatchNorm2d(32), nn.ReLU(), conv(32, 16, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x)
        worked, kept = torch.split(y, (4, 12), 1)
        return y + self.mlp(torch.cat([self.part(worked), kept], 1))


class BSRN(nn.Module):
    """Blueprint separable convolutions: 1x1, then depthwise (Li 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(conv(3, 16, 1), conv(16, 16, groups=16))
        self.body = nn.Sequential(conv(16, 16, 1, bias=False), conv(16, 16, groups=16), nn.GELU())
        self.tail = nn.Sequential(conv(16, 12), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.head(x.repeat(1, 1, 1, 1))
        return self.tail(y + self.body(y))


class ZeroDCE(nn.Module):
    """Curves per pixel, applied again and again (Guo 2020)."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(3, 8), conv(8, 8), conv(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.a(x))
        curves = torch.tanh(self.c(torch.cat([y, F.relu(self.b(y))], 1)))
        for r in torch.split(curves, 3, 1):
            x = x + r * (x * x - x)
        return x
