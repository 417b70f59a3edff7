"""Q/DQ quantization of ONNX models: schemes, shared grids, and onnxruntime's integers."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch
from torch import nn

from convkit.diagnostics import ConvkitError
from convkit.ir.facts import constant
from convkit.quantize import Settings
from convkit.quantize.onnx import provisional_model, quantize_model
from convkit.quantize.onnx_simulate import value_errors
from convkit.targets.scheme import QdqScheme
from convkit.verify.runners import Reference
from tests.quantization import MobileNet, normal_form

U8, S8, U16 = (np.dtype(t) for t in (np.uint8, np.int8, np.uint16))
SCHEMES = {
    "uint8": QdqScheme("int8", U8),
    "per-tensor": QdqScheme("int8", U8, per_channel=frozenset()),
    "symmetric": QdqScheme("int8", S8, symmetric=True, bias="float32", results=False),
    "uint16": QdqScheme("int16x8", U16),
}
Arrays = list[list[np.ndarray]]


def _samples(model: ir.Model, count: int, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    shapes = [tuple(v.shape) for v in model.graph.inputs]  # type: ignore[arg-type]
    return [[rng.standard_normal(shape, np.float32) for shape in shapes] for _ in range(count)]


def _run(model: ir.Model, samples: Arrays, optimized: bool = False) -> np.ndarray:
    reference = Reference(ir.to_proto(model).SerializeToString(), optimized)
    names = [v.name or "" for v in model.graph.inputs]
    return np.stack([next(iter(reference.run(dict(zip(names, s, strict=True))).values())) for s in samples])


def _sqnr(want: np.ndarray, got: np.ndarray) -> float:
    return float(10 * np.log10(np.square(want).sum() / np.square(want - got).sum()))


@pytest.fixture(scope="module")
def net() -> ir.Model:
    torch.manual_seed(0)
    made = MobileNet()
    made.scale_badly()
    return normal_form(made, 1, 3, 32, 32)


def _codes(model: ir.Model) -> Counter[str]:
    return Counter(node.op_type for node in model.graph)


@pytest.mark.parametrize(
    ("name", "least"), [("uint8", 45), ("per-tensor", 35), ("symmetric", 45), ("uint16", 75)]
)
def test_loss_by_scheme_and_onnxruntime_agrees(net: ir.Model, name: str, least: float) -> None:
    found = quantize_model(net, Settings(), SCHEMES[name], _samples(net, 8))
    onnx.checker.check_model(ir.to_proto(found.model), full_check=True)
    assert found.equalized == 9
    assert not found.left_float
    fresh = _samples(net, 8, seed=1)
    want = _run(net, fresh)
    assert _sqnr(want, _run(found.model, fresh)) > least
    assert _sqnr(want, _run(found.model, fresh, optimized=True)) > least - 1
    inputs = {net.graph.inputs[0].name or "": fresh[0][0]}
    errors = value_errors(found.model, inputs)
    assert len(errors) == _codes(found.model)["QuantizeLinear"]
    assert max(e.steps for e in errors) <= 1


def test_a_symmetric_scheme_has_no_zero_points_and_float_biases(net: ir.Model) -> None:
    model = quantize_model(net, Settings(), SCHEMES["symmetric"], _samples(net, 2)).model
    zeros = [n.inputs[2] for n in model.graph if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert all(z is not None and z.dtype == ir.DataType.INT8 and not np.any(constant(z)) for z in zeros)
    biases = [n.inputs[2] for n in model.graph if n.op_type == "Conv"]
    assert all(b is not None and b.dtype == ir.DataType.FLOAT and b.producer() is None for b in biases)
    assert _codes(model)["Relu"] == 10  # fused by the target: rounded behind it, not before


def test_weights_are_int8_per_channel_and_biases_on_the_products_grid(net: ir.Model) -> None:
    model = quantize_model(net, Settings(), SCHEMES["uint8"], _samples(net, 2)).model
    for node in model.graph:
        if node.op_type != "Conv":
            continue
        x, w, b = (_grid(v) for v in node.inputs)
        assert w.shape == (node.outputs[0].shape[1],)  # type: ignore[index]
        np.testing.assert_array_equal(b, (w.astype(np.float64) * float(x)).astype(np.float32))


def _grid(value: ir.Value | None) -> np.ndarray:
    """The scale of the DequantizeLinear that makes a value."""
    node = value.producer() if value is not None else None
    assert node is not None
    scale = constant(node.inputs[1])
    assert scale is not None
    return scale


def test_saturation_takes_the_place_of_an_activation(net: ir.Model) -> None:
    model = quantize_model(net, Settings(), SCHEMES["uint8"], _samples(net, 2)).model
    assert _codes(model)["Relu"] == 0


def test_an_integer_interface(net: ir.Model) -> None:
    model = quantize_model(net, Settings(io="int"), SCHEMES["uint8"], _samples(net, 4)).model
    assert [v.dtype for v in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.UINT8] * 2
    assert [v.name for v in model.graph.outputs] == [v.name for v in net.graph.outputs]
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


class _Forked(nn.Module):
    """Branches of unlike ranges that are joined, an activation without bounds, and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        self.slope, self.up = nn.PReLU(4), nn.ConvTranspose2d(8, 8, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.cat([torch.relu(self.one(x)), 5 * self.slope(self.two(x))], 1)
        return torch.sigmoid(self.up(y + y.tanh()))


@pytest.mark.parametrize("name", SCHEMES)
def test_joined_branches_share_a_grid(name: str) -> None:
    torch.manual_seed(1)
    model = normal_form(_Forked(), 1, 3, 8, 8)
    found = quantize_model(model, Settings(), SCHEMES[name], _samples(model, 4)).model
    onnx.checker.check_model(ir.to_proto(found), full_check=True)
    (concat,) = (n for n in found.graph if n.op_type == "Concat")
    grids = {
        tuple(float(constant(p.inputs[at])) for at in (1, 2))  # type: ignore[arg-type]
        for v in concat.inputs
        if v is not None and (p := v.producer()) is not None and p.op_type == "DequantizeLinear"
    }
    assert len(grids) == 1
    fresh = _samples(model, 4, seed=1)
    assert _sqnr(_run(model, fresh), _run(found, fresh)) > (50 if name == "uint16" else 30)
    steps = [e.steps for e in value_errors(found, {model.graph.inputs[0].name or "": fresh[0][0]})]
    assert max(steps) <= 1


def test_what_is_judged_has_the_operators_of_the_final(net: ir.Model) -> None:
    final = quantize_model(net, Settings(equalize=False), SCHEMES["symmetric"], _samples(net, 2)).model
    early = provisional_model(net, Settings(), SCHEMES["symmetric"])
    assert [n.op_type for n in early.graph] == [n.op_type for n in final.graph]


def test_the_model_stays_as_it_is_and_bytes_are_the_same(net: ir.Model) -> None:
    before = ir.to_proto(net).SerializeToString()
    one, two = (
        ir.to_proto(
            quantize_model(net, Settings(), SCHEMES["uint8"], _samples(net, 2)).model
        ).SerializeToString()
        for _ in range(2)
    )
    assert one == two
    assert ir.to_proto(net).SerializeToString() == before


def test_what_cannot_be_integer_only_is_refused_before_any_run(net: ir.Model) -> None:
    scheme = QdqScheme("int8", U8, operators=frozenset({"Conv"}))
    with pytest.raises(ConvkitError, match=r"2 x Add, .*1 x ReduceMean would stay in float under int8"):
        quantize_model(net, Settings(integer_only=True), scheme, _samples(net, 1))
    with pytest.raises(ConvkitError, match="int8 needs sample data"):
        quantize_model(net, Settings(), scheme, [])
    kept = quantize_model(net, Settings(), scheme, _samples(net, 2))
    assert Counter(op.code for op in kept.left_float) == {"Add": 2, "Gemm": 1, "ReduceMean": 1}
