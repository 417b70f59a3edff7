"""Peephole rules on TFLite graphs, each compared in LiteRT's interpreter."""

from __future__ import annotations

import numpy as np
import pytest

from convkit.dialects.tflite.graph import Graph, Tensor
from convkit.dialects.tflite.layout import assign_layout
from convkit.dialects.tflite.simplify import simplify
from convkit.ir.origin import Origin
from tests.tflite_graphs import NaiveGraph, check_sound, count, random_feeds, run


def simplified(graph: Graph, exact: bool = False) -> Graph:
    """The simplified graph, which must compute what `graph` does under the same names."""
    result = simplify(graph)
    check_sound(result)
    assert [t.name for t in result.outputs] == [t.name for t in graph.outputs]
    feeds = random_feeds(graph)
    for want, got in zip(run(graph, feeds), run(result, feeds), strict=True):
        if exact:
            np.testing.assert_array_equal(got, want)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * np.abs(want).max())
    return result


def codes(graph: Graph) -> list[str]:
    return [op.code for op in graph.ops]


def conv(
    g: NaiveGraph, x: Tensor, channels: int, size: int = 1, stride: int = 1, padding: str = "SAME"
) -> Tensor:
    """A convolution on a channels-last value."""
    n, h, w, c = x.shape
    reach = size - 1 if padding == "VALID" else 0
    shape = (n, -(-(h - reach) // stride), -(-(w - reach) // stride), channels)
    filters, bias = g.weights(channels, size, size, c), g.weights(channels)
    return g.emit("CONV_2D", [x, filters, bias], shape, padding=padding, stride_w=stride, stride_h=stride)


@pytest.mark.parametrize("activation", ["RELU", "RELU6", "RELU_N1_TO_1"])
def test_activation_scale_and_bias_are_fused(activation: str) -> None:
    g = NaiveGraph()
    y = conv(g, g.feed(1, 6, 6, 3), 4, 3)
    y = g.binary("MUL", g.weights(1, 1, 4), y)
    y = g.binary("ADD", y, g.weights(4))
    y = g.binary("SUB", y, g.scalar_like(y, 0.25))
    result = simplified(g.finish(g.unary(activation, y)))
    assert codes(result) == ["CONV_2D"]
    assert result.ops[0].options["fused_activation_function"] == activation


def test_depthwise_and_dense_take_scale_and_bias() -> None:
    g = NaiveGraph()
    x = g.feed(1, 6, 6, 4)
    options = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "depth_multiplier": 1}
    y = g.emit("DEPTHWISE_CONV_2D", [x, g.weights(1, 3, 3, 4), g.weights(4)], x.shape, **options)
    y = g.binary("ADD", g.binary("MUL", y, g.weights(4)), g.weights(1, 1, 1, 4))
    z = g.binary("MUL", g.dense(y, 5), g.weights(5))
    assert codes(simplified(g.finish(z))) == ["DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]


def test_nothing_is_fused_into_a_value_that_others_read() -> None:
    g = NaiveGraph()
    y = conv(g, g.feed(1, 4, 4, 2), 3)
    result = simplified(g.finish(g.unary("RELU", y), g.binary("ADD", y, g.weights(3)), y))
    assert codes(result) == ["CONV_2D", "RELU", "ADD"]


def test_operators_that_do_not_fuse_are_left() -> None:
    g = NaiveGraph()
    y = conv(g, g.feed(1, 4, 4, 1), 1)
    grown = g.binary("ADD", y, g.weights(3))  # one channel becomes three
    spatial = g.binary("ADD", conv(g, grown, 3), g.weights(1, 1, 4, 1))
    tanh = g.unary("TANH", conv(g, spatial, 2))
    assert codes(simplified(g.finish(tanh))) == ["CONV_2D", "ADD", "CONV_2D", "ADD", "CONV_2D", "TANH"]


@pytest.mark.parametrize(
    ("size", "stride", "rows", "fused"),
    [
        (3, 1, ((1, 1), (1, 1)), True),
        (3, 2, ((0, 1), (0, 1)), True),  # what SAME does on an even size
        (3, 2, ((1, 1), (1, 1)), False),
        (3, 2, ((1, 0), (1, 0)), False),
        (1, 1, ((1, 1), (1, 1)), False),
    ],
)
def test_pad_is_merged_only_where_same_pads_as_much(size, stride, rows, fused) -> None:  # type: ignore[no-untyped-def]
    g = NaiveGraph()
    x = g.pad(g.feed(1, 6, 8, 2), ((0, 0), *rows, (0, 0)))
    result = simplified(g.finish(conv(g, x, 3, size, stride, "VALID")))
    assert codes(result) == (["CONV_2D"] if fused else ["PAD", "CONV_2D"])


def test_reshapes_and_transposes_are_merged() -> None:
    g = NaiveGraph()
    x = g.feed(2, 3, 4)
    y = g.reshape(g.reshape(g.transpose(g.transpose(x, (1, 0, 2)), (0, 2, 1)), (6, 4)), (3, 8))
    back = g.reshape(g.reshape(g.unary("TANH", x), (24,)), (2, 3, 4))
    result = simplified(g.finish(y, back), exact=True)
    assert codes(result) == ["TRANSPOSE", "RESHAPE", "TANH"]


def test_transpose_of_ones_is_a_reshape_and_chains_vanish() -> None:
    g = NaiveGraph()
    x = g.unary("ABS", g.feed(1, 8, 1, 1))
    y = g.unary("ABS", g.nchw(g.nhwc(x)))
    result = simplified(g.finish(g.nhwc(y), g.reshape(g.nhwc(x), (1, 8))), exact=True)
    assert codes(result) == ["ABS", "ABS", "RESHAPE", "RESHAPE"]


def test_equal_operators_are_shared_and_dead_ones_dropped() -> None:
    g = NaiveGraph()
    x = g.feed(1, 4)
    one, two = g.scalar_like(x, 1.5), g.scalar_like(x, 1.5)
    g.unary("EXP", x)
    y = g.binary("ADD", g.unary("TANH", g.binary("MUL", x, one)), g.unary("TANH", g.binary("MUL", x, two)))
    assert codes(simplified(g.finish(y), exact=True)) == ["MUL", "TANH", "ADD"]


def test_an_input_copied_to_an_output_stays_a_copy() -> None:
    g = NaiveGraph()
    x = g.feed(2, 3)
    copy = g.emit("RESHAPE", [x, g.const((2, 3))], (2, 3), new_shape=(2, 3))
    y = g.unary("NEG", x)
    renamed = g.emit("RESHAPE", [y, g.const((2, 3))], (2, 3), new_shape=(2, 3))
    result = simplified(g.finish(copy, renamed, g.unary("ABS", y)), exact=True)
    assert codes(result) == ["RESHAPE", "NEG", "ABS"]
    assert result.ops[1].output.name == renamed.name


def test_a_copied_output_is_kept_when_both_are_outputs() -> None:
    g = NaiveGraph()
    y = g.unary("NEG", g.feed(2, 3))
    copy = g.emit("RESHAPE", [y, g.const((2, 3))], (2, 3), new_shape=(2, 3))
    assert codes(simplified(g.finish(y, copy), exact=True)) == ["NEG", "RESHAPE"]


def test_origins_are_united() -> None:
    g = NaiveGraph()
    y = g.unary("RELU", conv(g, g.feed(1, 4, 4, 2), 3))
    graph = g.finish(y)
    for name, op in zip(("conv", "relu"), graph.ops, strict=True):
        op.origin = Origin(nodes=(name,))
    assert simplify(graph).ops[0].origin.nodes == ("conv", "relu")


def test_layout_then_simplify_leaves_a_cnn_bare() -> None:
    g = NaiveGraph()
    x = g.feed(1, 3, 8, 8)
    a = g.unary(
        "RELU", g.binary("ADD", g.binary("MUL", g.conv(x, 8, 3), g.weights(8, 1, 1)), g.weights(1, 8, 1, 1))
    )
    b = g.unary("RELU", g.binary("ADD", g.conv(a, 8), a))
    graph = g.finish(g.reshape(g.reduce("MEAN", b, (2, 3), True), (1, 8)))
    result = simplified(assign_layout(graph)[0])
    assert codes(result) == ["TRANSPOSE", "CONV_2D", "CONV_2D", "ADD", "MEAN", "RESHAPE"]
    assert count(result, "RELU") == 0


def test_slices_that_cover_a_value_become_a_split() -> None:
    g = NaiveGraph()
    x = g.unary("TANH", g.feed(1, 6, 4))
    parts = [g.slice(x, (0, begin, 0), (1, 2, 4)) for begin in (2, 0, 4)]
    result = simplified(g.finish(*parts), exact=True)
    assert codes(result) == ["TANH", "SPLIT"]


@pytest.mark.parametrize("cuts", [((0, 2), (2, 4)), ((0, 3), (2, 3)), ((0, 2), (2, 2), (2, 2))])
def test_slices_that_do_not_cover_evenly_are_left(cuts: tuple[tuple[int, int], ...]) -> None:
    g = NaiveGraph()
    x = g.feed(1, 6, 4)
    parts = [g.unary("NEG", g.slice(x, (0, begin, 0), (1, size, 4))) for begin, size in cuts[:2]]
    assert "SPLIT" not in codes(simplified(g.finish(*parts), exact=True))


def test_reshapes_move_before_split_transpose_and_dense() -> None:
    g = NaiveGraph()
    qkv = g.reshape(g.dense(g.feed(1, 5, 6), 18), (5, 3, 6))
    turned = g.transpose(qkv, (1, 0, 2))
    parts = [g.slice(turned, (k, 0, 0), (1, 5, 6)) for k in range(3)]
    q, k, v = (g.transpose(g.reshape(p, (5, 2, 3)), (1, 0, 2)) for p in parts)
    mixed = g.matmul(g.softmax(g.matmul(q, g.transpose(k, (0, 2, 1))), 2), v)
    flat = g.reshape(g.transpose(mixed, (1, 0, 2)), (5, 6))
    y = g.reshape(g.dense(flat, 4), (1, 5, 4))
    graph = g.finish(y)
    result = simplified(assign_layout(graph)[0])
    assert codes(result) == [
        "FULLY_CONNECTED",
        "TRANSPOSE",
        "RESHAPE",
        "SPLIT",
        "BATCH_MATMUL",
        "SOFTMAX",
        "BATCH_MATMUL",
        "TRANSPOSE",
        "RESHAPE",
        "FULLY_CONNECTED",
    ]


def test_a_reshape_that_joins_the_split_axis_is_left() -> None:
    g = NaiveGraph()
    x = g.feed(2, 4, 3)
    parts = [g.reshape(g.slice(x, (0, k, 0), (2, 2, 3)), (4, 3)) for k in (0, 2)]
    assert codes(simplified(g.finish(*parts), exact=True)) == ["SPLIT", "RESHAPE", "RESHAPE"]


def test_scales_of_both_operands_of_a_product_are_one() -> None:
    g = NaiveGraph()
    x, y = g.feed(2, 3, 4), g.feed(2, 4, 5)
    x, y = g.binary("MUL", x, g.scalar_like(x, 0.5)), g.binary("MUL", g.scalar_like(y, 0.25), y)
    assert codes(simplified(g.finish(g.matmul(x, y)))) == ["MUL", "BATCH_MATMUL"]


def test_the_batch_stays_in_front_of_a_transpose() -> None:
    g = NaiveGraph()
    x = g.unary("TANH", g.feed(1, 3, 5, 4))
    graph = g.finish(g.reshape(g.transpose(x, (2, 0, 1, 3)), (5, 12)))
    result = simplified(graph, exact=True)
    assert [op.output.shape for op in result.ops] == [(1, 3, 5, 4), (1, 5, 3, 4), (5, 12)]
