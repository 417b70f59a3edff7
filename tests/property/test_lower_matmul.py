"""Gemm and MatMul of every shape equal onnxruntime's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.diagnostics import ConvkitError
from tests.helpers import check_lowering, normal, one_node


@settings(max_examples=60, deadline=None)
@given(st.data(), st.lists(st.integers(1, 3), max_size=4), st.booleans())
def test_matmul(data: st.DataObject, batch: list[int], constant: bool) -> None:
    def operand(rows: int, columns: int) -> list[int]:
        kept = batch[data.draw(st.integers(0, len(batch))) :]
        return [data.draw(st.sampled_from([1, n])) for n in kept] + [rows, columns]

    rng = np.random.default_rng(0)
    x, y = normal(rng, *operand(3, 4)), normal(rng, *operand(4, 5))
    if data.draw(st.booleans()) and x.ndim == 2:
        x = x[0]
    if data.draw(st.booleans()) and y.ndim == 2:
        y = y[:, 0]
    inputs = {"x": x} if constant else {"x": x, "y": y}
    model = one_node("MatMul", inputs, {"y": y} if constant else {}, order=["x", "y"], outputs=["z"])
    for op in check_lowering(model, inputs).ops:
        if op.code == "BATCH_MATMUL":  # no broadcasting, which the GPU delegate gets wrong
            assert op.inputs[0].shape[:-2] == op.inputs[1].shape[:-2]
            assert op.output.rank <= 4


@settings(max_examples=60, deadline=None)
@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, (), (1,), (5,), (1, 5), (3, 1), (3, 5)]),
    st.sampled_from([1.0, 0.5]),
    st.sampled_from([1.0, 0.0, 2.0]),
)
def test_gemm(
    trans_a: bool,
    trans_b: bool,
    constant_b: bool,
    constant_c: bool,
    c_shape: tuple[int, ...] | None,
    alpha: float,
    beta: float,
) -> None:
    rng = np.random.default_rng(0)
    values = {"a": normal(rng, 3, 4), "b": normal(rng, 4, 5)}
    if trans_a:
        values["a"] = np.ascontiguousarray(values["a"].T)
    if trans_b:
        values["b"] = np.ascontiguousarray(values["b"].T)
    if c_shape is not None:
        values["c"] = np.asarray(normal(rng, *c_shape), np.float32)
    constants = {
        k: values[k] for k, is_const in (("b", constant_b), ("c", constant_c)) if is_const and k in values
    }
    inputs = {k: v for k, v in values.items() if k not in constants}
    model = one_node(
        "Gemm",
        inputs,
        constants,
        order=list(values),
        transA=int(trans_a),
        transB=int(trans_b),
        alpha=alpha,
        beta=beta,
    )
    check_lowering(model, inputs)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
def test_determinants(size: int, batch: tuple[int, ...]) -> None:
    inputs = {"x": normal(np.random.default_rng(0), *batch, size, size)}
    check_lowering(one_node("Det", inputs), inputs)


def test_determinants_of_large_matrices_are_refused() -> None:
    inputs = {"x": normal(np.random.default_rng(0), 5, 5)}
    with pytest.raises(ConvkitError, match="pivoting"):
        check_lowering(one_node("Det", inputs), inputs)
