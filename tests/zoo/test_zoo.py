"""Architectures of the field, torch to mali-gpu: each agrees with eager torch; its fallbacks are named."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import convkit
from convkit.diagnostics import ConvkitError

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from tests.zoo import recognition as see  # noqa: E402
from tests.zoo import restoration as make  # noqa: E402

IMAGE = ((1, 3, 32, 32),)
ZOO: dict[str, tuple[Callable[[], torch.nn.Module], tuple[tuple[int, ...], ...]]] = {
    "unet": (make.UNet, IMAGE),
    "unet-bilinear": (lambda: make.UNet(bilinear=True), IMAGE),
    "edsr": (make.EDSR, IMAGE),
    "imdn": (make.IMDN, IMAGE),
    "rfdn": (make.RFDN, IMAGE),
    "rlfn": (make.RLFN, IMAGE),
    "abpn": (make.ABPN, IMAGE),
    "elsr": (make.ELSR, IMAGE),
    "swrn": (make.SWRN, (*IMAGE * 3, (1, 8, 32, 32))),
    "vapsr": (make.VapSR, IMAGE),
    "partial-conv": (make.PartialConv, IMAGE),
    "blueprint": (make.BSRN, IMAGE),
    "zero-dce": (make.ZeroDCE, IMAGE),
    "mobilenet-v1": (see.mobilenet_v1, IMAGE),
    "mobilenet-v2": (see.mobilenet_v2, IMAGE),
    "mobilenet-v3": (see.mobilenet_v3, IMAGE),
    "mobilenet-v4": (see.mobilenet_v4, IMAGE),
    "efficientnet": (see.efficientnet, IMAGE),
    "shufflenet": (see.ShuffleNet, IMAGE),
    "repvgg": (see.RepVGG, IMAGE),
    "convnext": (see.ConvNeXt, IMAGE),
    "vit": (see.ViT, IMAGE),
    "swin": (see.Swin, IMAGE),
    "blazeface": (see.BlazeFace, IMAGE),
    "face-mesh": (see.face_mesh, IMAGE),
    "ds-cnn": (see.ds_cnn, ((1, 1, 49, 10),)),
    "gru": (lambda: see.Recurrent(torch.nn.GRU), ((1, 6, 8),)),
    "lstm": (lambda: see.Recurrent(torch.nn.LSTM), ((1, 6, 8),)),
    "correlation": (see.Correlation, (*IMAGE * 2, (1, 2, 16, 16))),
}
FALLBACKS: dict[str, set[str]] = {}
"""What the delegate does not take; all others are whole."""


@pytest.mark.parametrize("name", ZOO)
def test_it_computes_what_torch_does(name: str) -> None:
    network, shapes = ZOO[name]
    torch.manual_seed(0)
    module = network()
    report = convkit.compile(module, "mali-gpu", example_inputs=tuple(torch.randn(s) for s in shapes)).report
    assert report.verification is not None
    assert report.verification.passed
    assert {op.op for op in report.left_behind} == FALLBACKS.get(name, set())
    told = [op for op in report.left_behind if op.origin.sources]
    assert len(told) >= 0.95 * len(report.left_behind)


def test_control_flow_that_depends_on_the_data_is_refused_at_its_line() -> None:
    with pytest.raises(ConvkitError, match="depends on the values of a tensor") as caught:
        convkit.load(see.Halting(), example_inputs=torch.randn(1, 4))
    location = caught.value.diagnostics[0].location
    assert location is not None
    assert location.file == see.__file__
