"""A small network that doubles the size of pictures, trained on synthetic ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from convkit.dialects.tflite.graph import Graph
from convkit.quantize.run import Runner, Sample

SIZE = 24
_STEPS = 300


class DoubleSize(nn.Module):
    """Separable convolutions with normalization, a pixel shuffle, and the picture itself enlarged."""

    def __init__(self, width: int = 24) -> None:
        super().__init__()

        def separable() -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
                nn.Conv2d(width, width, 1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            )

        self.first = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.body = nn.Sequential(separable(), separable(), separable())
        self.last = nn.Conv2d(width, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        large = nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return large + self.shuffle(self.last(self.body(self.first(x))))


def pictures(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Small and large pictures in [0, 1]: waves and edges."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 2 * SIZE, 0 : 2 * SIZE] / SIZE
    large = np.empty((count, 3, 2 * SIZE, 2 * SIZE), np.float32)
    for picture in large:
        a, b, c, d = draw.uniform(-9, 9, 4)
        for channel in picture:
            e, f = draw.uniform(0, 0.4, 2)
            channel[:] = 0.5 + e * np.sin(a * x + b * y) + f * np.sign(c * (x - 1) + d * (y - 0.8))
    wanted = torch.from_numpy(large.clip(0, 1))
    return nn.functional.avg_pool2d(wanted, 2), wanted


def trained(cache: Path | None = None) -> DoubleSize:
    """The network after a minute of training; its weights are kept in `cache`."""
    torch.manual_seed(0)
    net = DoubleSize()
    if cache is not None and cache.is_file():
        net.load_state_dict(torch.load(cache, weights_only=True))
        return net.eval()
    small, large = pictures(64, 0)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _STEPS)
    for step in range(_STEPS):
        batch = slice(8 * (step % 8), 8 * (step % 8) + 8)
        loss = (net(small[batch]) - large[batch]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
    if cache is not None:
        torch.save(net.state_dict(), cache)
    return net.eval()


def samples_of(small: torch.Tensor) -> list[Sample]:
    """One picture a sample."""
    return [[picture[None].numpy()] for picture in small]


def psnr(graph: Graph, small: torch.Tensor, large: torch.Tensor) -> float:
    """Peak signal to noise of what a graph makes of `small` against the true pictures, in decibel."""
    found = np.concatenate([outputs[0] for outputs in Runner(graph).run(samples_of(small))])
    return float(-10 * np.log10(np.square(found.astype(np.float64) - large.numpy()).mean()))
