"""Cost and text form."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from convkit.ir.cost import cost_of, total_cost
from convkit.ir.text import format_model
from tests.unit.normal_form import make_model, normal


def node(op: str, *inputs: str, **attributes: object):
    return helper.make_node(op, list(inputs), ["y"], name="n", **attributes)


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize(
    ("layer", "x", "constants", "macs", "params"),
    [
        (
            node("Conv", "x", "w", "b"),
            ones(1, 4, 8, 8),
            {"w": ones(6, 4, 3, 3), "b": ones(6)},
            6 * 36 * 36,
            222,
        ),
        (node("Conv", "x", "w", group=4), ones(1, 4, 8, 8), {"w": ones(4, 1, 3, 3)}, 4 * 36 * 9, 36),
        (
            node("ConvTranspose", "x", "w", strides=[2, 2]),
            ones(1, 4, 8, 8),
            {"w": ones(4, 5, 2, 2)},
            64 * 4 * 20,
            80,
        ),
        (node("MatMul", "x", "w"), ones(2, 3, 5), {"w": ones(5, 7)}, 2 * 3 * 7 * 5, 35),
        (node("Gemm", "x", "w", transA=1), ones(5, 3), {"w": ones(5, 7)}, 3 * 7 * 5, 35),
        (
            node("Einsum", "x", "w", equation="bij,jk->bik"),
            ones(2, 3, 5),
            {"w": ones(5, 7)},
            2 * 3 * 5 * 7,
            35,
        ),
        (
            node("LSTM", "x", "w", "r", hidden_size=4),
            ones(3, 2, 5),
            {"w": ones(1, 16, 5), "r": ones(1, 16, 4)},
            6 * 16 * 9,
            144,
        ),
        (node("Relu", "x"), ones(2, 3), {}, 0, 0),
    ],
    ids=lambda v: v.op_type if hasattr(v, "op_type") else "",
)
def test_cost(layer, x: np.ndarray, constants: dict[str, np.ndarray], macs: int, params: int) -> None:
    form = normal(make_model([layer], {"x": x}, constants))
    cost = cost_of(form.graph[0])
    assert (cost.macs, cost.params, cost.param_bytes) == (macs, params, 4 * params)
    assert cost.bytes_in == x.nbytes
    assert cost.bytes_out == 4 * np.prod([int(d) for d in form.graph[0].outputs[0].shape])


def test_a_shared_constant_counts_once() -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["t"]), helper.make_node("Add", ["t", "w"], ["y"])]
    form = normal(make_model(nodes, {"x": ones(2, 50)}, {"w": ones(50)}))
    assert total_cost(form.graph).params == 50


def test_text() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], name="stem", auto_pad="SAME_UPPER"),
        helper.make_node("Clip", ["t", "", "six"], ["y"], name="act"),
    ]
    constants = {"w": ones(2, 3, 3, 3), "six": np.array(6, np.float32)}
    form = normal(make_model(nodes, {"x": ones(1, 3, 4, 4)}, constants))
    assert format_model(form, origins=True) == (
        "graph g opset 24 (\n"
        "  %x: f32[1,3,4,4]\n"
        ") {\n"
        "  %t: f32[1,2,4,4] = Conv(%x, @w: f32[2,3,3,3]) {dilations=[1,1], group=1, kernel_shape=[3,3], "
        "pads=[1,1,1,1], strides=[1,1]}  # stem\n"
        "  %y: f32[1,2,4,4] = Clip(%t, _, f32[] 6)  # act\n"
        "  return %y\n"
        "}\n"
    )
