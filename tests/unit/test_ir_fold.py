"""Folding gives what the runtime gives, or nothing."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from convkit.ir import fold
from convkit.ir.facts import make_attr
from convkit.ir.normal import constant_value

RANDOM = np.random.default_rng(11)
F = RANDOM.standard_normal((3, 4)).astype(np.float32)
I = RANDOM.integers(-9, 9, (3, 4))
B = RANDOM.integers(0, 2, (3, 4)).astype(bool)
POSITIVE = np.abs(F) + 0.5
DIVISOR = np.array([[3], [-2], [7]])


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def make_node(op: str, *arrays: np.ndarray | None, outputs: int = 1, **attributes: object) -> ir.Node:
    inputs = [None if a is None else constant_value(f"c{i}", a) for i, a in enumerate(arrays)]
    return ir.Node("", op, inputs, [make_attr(n, v) for n, v in attributes.items()], num_outputs=outputs)


CASES = [
    *(make_node(op, F, POSITIVE) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Less", "Greater")),
    *(make_node(op, I, DIVISOR) for op in ("Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Equal")),
    *(make_node(op, I, DIVISOR) for op in ("LessOrEqual", "GreaterOrEqual")),
    make_node("Mod", I, DIVISOR, fmod=1),
    make_node("Mod", F, POSITIVE, fmod=1),
    make_node("Div", I.astype(np.int32), DIVISOR.astype(np.int32)),
    make_node("Div", np.abs(I).astype(np.uint8), np.full((1,), 3, np.uint8)),
    make_node("Pow", POSITIVE, np.array(2, np.int64)),
    make_node("Pow", I, np.array(3, np.int64)),
    make_node("Pow", I.astype(np.int32), np.array(2.0, np.float32)),
    *(make_node(op, F) for op in ("Neg", "Abs", "Floor", "Ceil", "Reciprocal", "Identity")),
    make_node("Sqrt", POSITIVE),
    make_node("Not", B),
    *(make_node(op, B, B[:1]) for op in ("And", "Or", "Xor")),
    make_node("Where", B, F, np.zeros((), np.float32)),
    *(
        make_node("Cast", F * 100, to=int(t))
        for t in (ir.DataType.INT32, ir.DataType.FLOAT16, ir.DataType.BOOL)
    ),
    make_node("Cast", I, to=int(ir.DataType.FLOAT)),
    make_node("Cast", B, to=int(ir.DataType.INT64)),
    make_node("Concat", F, F, axis=-1),
    make_node("Reshape", F, i64(0, -1, 2)),
    make_node("Unsqueeze", F, i64(0, -1)),
    make_node("Squeeze", F[None, :, :, None], i64(0, -1)),
    make_node("Squeeze", F[None]),
    make_node("Transpose", F),
    make_node("Gather", F, i64(-1, 0), axis=1),
    make_node("Gather", F, np.array(2, np.int64)),
    make_node("Slice", F, i64(-1), i64(-99), i64(1), i64(-2)),
    make_node("Slice", F, i64(1, 0), i64(99, -1)),
    make_node("Slice", F, i64(99), i64(0), i64(0), i64(-1)),
    make_node("Split", F, i64(1, 3), outputs=2, axis=1),
    make_node("Split", F, outputs=2, axis=0, num_outputs=2),
    make_node("Range", *(np.array(v, np.int64) for v in (9, -2, -3))),
    make_node("Range", *(np.array(v, np.float32) for v in (0, 1, 0.3))),
    make_node("Expand", F, i64(2, 1, 4)),
    make_node("Tile", F, i64(2, 3)),
    *(make_node(f"Reduce{k}", F, i64(-1), keepdims=0) for k in ("Sum", "Prod", "Max", "Min")),
    *(make_node(f"Reduce{k}", I, keepdims=1) for k in ("Sum", "Max", "Min")),
]


@pytest.mark.parametrize("node", CASES, ids=lambda n: n.op_type)
def test_numpy_gives_what_the_runtime_gives(node: ir.Node) -> None:
    arrays = [fold._ABSENT if v is None else v.const_value.numpy() for v in node.inputs]
    found = fold.fold_node(node)
    wanted = fold._run(node, arrays)
    assert found is not None
    assert wanted is not None
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype
        if a.dtype.kind == "f":
            np.testing.assert_allclose(a, b, rtol=1e-6)
        else:
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("op", ["Erf", "Sigmoid", "Softmax", "CumSum", "Trilu", "NonZero", "HannWindow"])
def test_other_operators_run_in_the_runtime(op: str) -> None:
    arrays = {"CumSum": (F, np.array(0, np.int64)), "HannWindow": (np.array(8, np.int64),)}.get(op, (F,))
    found = fold.fold_node(make_node(op, *arrays))
    assert found is not None
    assert found[0].size


@pytest.mark.parametrize(
    "node",
    [
        make_node("Div", I, np.zeros(1, np.int64)),
        make_node("Mod", I, np.zeros(1, np.int64)),
        make_node("Cast", np.array([np.nan], np.float32), to=int(ir.DataType.INT32)),
        make_node("Cast", np.array([3e9], np.float32), to=int(ir.DataType.INT32)),
        make_node("Cast", np.array([-1.5], np.float32), to=int(ir.DataType.UINT8)),
        make_node("Reshape", F, i64(5, 5)),
        make_node("Gather", F, i64(9)),
        make_node("Concat", F, I, axis=0),
        make_node("Range", *(np.array(v, np.int64) for v in (0, 2**40, 1))),
        make_node("RandomNormalLike", F),
        make_node("Tile", F, i64(1 << 20, 1)),
        make_node("Add", np.zeros((1 << 20, 1), np.float32), np.zeros((1, 1 << 20), np.float32)),
        make_node("MatMul", np.zeros((1 << 20, 1), np.float32), np.zeros((1, 1 << 20), np.float32)),
        make_node("Slice", F, i64(0), i64(1), i64(0), i64(0)),
    ],
    ids=lambda n: n.op_type,
)
def test_what_has_no_defined_or_small_value_is_not_folded(node: ir.Node) -> None:
    assert fold.fold_node(node) is None


def test_only_constants_are_folded() -> None:
    node = ir.Node("", "Add", [constant_value("a", F), ir.Value(name="b")])
    assert fold.fold_node(node) is None


def test_shape_of_a_static_value_needs_no_constant() -> None:
    value = ir.Value(name="x", shape=ir.Shape([2, 3, 4]), type=ir.TensorType(ir.DataType.FLOAT))
    node = ir.Node("", "Shape", [value], [ir.AttrInt64("start", -2)])
    assert fold.fold_node(node)[0].tolist() == [3, 4]
    assert fold.fold_node(ir.Node("", "Size", [value]))[0].item() == 24


def test_a_repeated_element_stays_a_view() -> None:
    found = fold.fold_node(make_node("Expand", np.ones((1, 1), np.float32), i64(4096, 4096)))
    assert found is not None
    assert found[0].shape == (4096, 4096)
    assert not any(found[0].strides)
    again = fold.fold_node(make_node("Reshape", found[0], i64(-1)))
    assert again is not None
    assert again[0].strides == (0,)


def test_quantized_weights_are_folded_whatever_their_size() -> None:
    weight = np.ones((600, 1000), np.int8)
    scale, zero = np.full(600, 0.5, np.float32), np.zeros(600, np.int8)
    found = fold.fold_node(make_node("DequantizeLinear", weight, scale, zero, axis=0))
    assert found is not None
    assert found[0].nbytes == 4 * weight.nbytes
    np.testing.assert_array_equal(found[0], 0.5)
