"""A small super-resolution UNet in PyTorch, written to an ONNX file: `make demo` compiles it.

    python examples/super_resolution_unet.py unet.onnx

It has what deployment to a phone's GPU usually stumbles over: transposed convolutions of two kinds,
PReLU, batch normalisation, and a pixel shuffle at the end. The weights are random, with a fixed seed.
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


def block(cin: int, cout: int) -> nn.Sequential:
    """Two 3x3 convolutions with batch normalisation and PReLU."""
    layers: list[nn.Module] = []
    for channels in (cin, cout):
        layers += [nn.Conv2d(channels, cout, 3, padding=1, bias=False), nn.BatchNorm2d(cout), nn.PReLU(cout)]
    return nn.Sequential(*layers)


class SuperResolutionUNet(nn.Module):
    """Upscale an RGB image by two: (1, 3, h, w) in [0, 1] -> (1, 3, 2h, 2w); h and w are multiples of 4."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.encoder1 = block(3, width)
        self.encoder2 = block(width, 2 * width)
        self.bottleneck = block(2 * width, 4 * width)
        self.pool = nn.MaxPool2d(2)
        self.up2 = nn.ConvTranspose2d(4 * width, 2 * width, 4, stride=2, padding=1)
        self.decoder2 = block(4 * width, 2 * width)
        self.up1 = nn.ConvTranspose2d(2 * width, width, 2, stride=2)
        self.decoder1 = block(2 * width, width)
        self.head = nn.Conv2d(width, 12, 3, padding=1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, image: Tensor) -> Tensor:
        fine = self.encoder1(image)
        coarse = self.encoder2(self.pool(fine))
        up = self.up2(self.bottleneck(self.pool(coarse)))
        up = self.up1(self.decoder2(torch.cat([up, coarse], 1)))
        detail = self.shuffle(self.head(self.decoder1(torch.cat([up, fine], 1))))
        return detail + nn.functional.interpolate(image, scale_factor=2.0, mode="bilinear")


def build(seed: int = 0) -> nn.Module:
    """The network in inference mode, with random weights and batch statistics that are not trivial."""
    torch.manual_seed(seed)
    network = SuperResolutionUNet()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.PReLU):
            nn.init.uniform_(module.weight, 0.05, 0.35)
    return network.eval()


def main(path: Path, size: int = 128) -> None:
    """Export the network for `size` x `size` images."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning)
    example = torch.rand(1, 3, size, size)
    torch.onnx.export(
        build(), (example,), path, input_names=["image"], output_names=["upscaled"],
        dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "unet.onnx"))
