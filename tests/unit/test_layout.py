"""Layout assignment on graphs whose answer is known."""

from __future__ import annotations

import time

import numpy as np
import pytest

from convkit.dialects.tflite.graph import Graph
from convkit.dialects.tflite.layout import LayoutStats, assign_layout
from convkit.dialects.tflite.mincut import INFINITE, FlowNetwork
from convkit.dialects.tflite.simplify import simplify
from convkit.dialects.tflite.storage import carried, settle
from tests.tflite_graphs import NaiveGraph, check_sound, count, random_feeds, run


def optimise(graph: Graph, io_layout: str = "keep") -> tuple[Graph, LayoutStats]:
    """The optimised graph, which must compute what `graph` does."""
    result, stats = assign_layout(graph, io_layout)  # type: ignore[arg-type]
    check_sound(result)
    feeds = random_feeds(graph)
    given = [
        f.transpose(0, 2, 3, 1) if name in stats.nhwc_inputs else f
        for f, name in zip(feeds, graph.signature_inputs, strict=True)
    ]
    found = run(result, given)
    for name, want, got in zip(graph.signature_outputs, run(graph, feeds), found, strict=True):
        if name in stats.nhwc_outputs:
            got = got.transpose(0, 3, 1, 2)
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5 * max(1e-6, np.abs(want).max()))
    return result, stats


def cnn() -> NaiveGraph:
    g = NaiveGraph()
    x = g.feed(1, 3, 8, 8)
    a = g.unary("RELU", g.conv(x, 8, 3))
    b = g.binary("ADD", g.conv(a, 8), a)
    c = g.concat([b, g.binary("MUL", a, g.weights(1, 8, 1, 1))], 1)
    g.result = g.conv(g.pool(c), 5)  # type: ignore[attr-defined]
    return g


def test_a_cnn_keeps_only_the_interface_transposes() -> None:
    g = cnn()
    result, stats = optimise(g.finish(g.result))  # type: ignore[attr-defined]
    assert [op.code for op in result.ops].count("TRANSPOSE") == 2
    assert result.ops[0].code == result.ops[-1].code == "TRANSPOSE"
    assert stats.bytes_after == 4 * (3 * 64 + 5 * 16)
    assert stats.transposes_after == 2
    assert stats.transposes_before == 8
    assert count(result, "RESHAPE") == 0


def test_nhwc_interface_needs_no_transpose() -> None:
    g = cnn()
    result, stats = optimise(g.finish(g.result), "nhwc")  # type: ignore[attr-defined]
    assert count(result, "TRANSPOSE") == 0
    assert stats.nhwc_inputs == ("input",)
    assert stats.nhwc_outputs == ("result_0",)
    assert result.inputs[0].shape == (1, 8, 8, 3)
    assert result.inputs[0].name == "input"


def test_nhwc_interface_is_left_alone_where_nothing_is_saved() -> None:
    g = NaiveGraph()
    x = g.feed(1, 8, 8, 3)  # channels last already
    y = g.nhwc(g.conv(g.nchw(x), 4))
    result, stats = optimise(g.finish(y), "nhwc")
    assert count(result, "TRANSPOSE") == 0
    assert stats.nhwc_inputs == stats.nhwc_outputs == ()


def test_the_smaller_side_of_a_chain_is_transposed() -> None:
    g = NaiveGraph()
    x = g.feed(1, 3, 16, 16)
    y = g.slice(g.unary("TANH", x), (0, 0, 4, 4), (1, 3, 8, 8))
    result, stats = optimise(g.finish(g.reduce("MEAN", g.conv(y, 4), (1,), False)))
    assert stats.bytes_after == 4 * 3 * 64
    assert [op.code for op in result.ops] == ["TANH", "SLICE", "TRANSPOSE", "CONV_2D", "MEAN"]


def test_squeeze_and_excite_has_no_transpose_inside() -> None:
    g = NaiveGraph()
    a = g.conv(g.feed(1, 4, 6, 6), 8)
    pooled = g.reduce("MEAN", a, (2, 3), True)
    gate = g.unary("LOGISTIC", g.conv(g.unary("RELU", g.conv(pooled, 2)), 8))
    result, stats = optimise(g.finish(g.conv(g.binary("MUL", a, gate), 3)), "nhwc")
    assert count(result, "TRANSPOSE") == count(result, "RESHAPE") == 0
    assert stats.bytes_after == 0


def test_global_pooling_then_flatten_has_no_transpose() -> None:
    g = NaiveGraph()
    a = g.reduce("MEAN", g.conv(g.feed(1, 4, 6, 6), 8), (2, 3), True)
    result, _ = optimise(g.finish(g.dense(g.reshape(a, (1, 8)), 3)), "nhwc")
    assert [op.code for op in result.ops] == ["CONV_2D", "MEAN", "RESHAPE", "FULLY_CONNECTED"]


def test_patches_become_tokens_without_a_transpose() -> None:
    g = NaiveGraph()
    a = g.conv(g.feed(1, 3, 6, 4), 8)
    tokens = g.transpose(g.reshape(a, (1, 8, 24)), (0, 2, 1))
    result, _ = optimise(g.finish(g.dense(tokens, 5)), "nhwc")
    assert [op.code for op in result.ops] == ["CONV_2D", "RESHAPE", "FULLY_CONNECTED"]


def test_matmul_absorbs_a_transposed_operand() -> None:
    g = NaiveGraph()
    q, k = g.dense(g.feed(1, 2, 6, 8), 8), g.dense(g.feed(1, 2, 6, 8), 8)
    scores = g.softmax(g.matmul(q, g.transpose(k, (0, 1, 3, 2))), 3)
    result, stats = optimise(g.finish(scores))
    assert stats.bytes_after == 0
    (matmul,) = [op for op in result.ops if op.code == "BATCH_MATMUL"]
    assert (matmul.options["adj_x"], matmul.options["adj_y"]) == (False, True)


def test_channels_first_layer_norm_runs_channels_last() -> None:
    g = NaiveGraph()
    a = g.conv(g.feed(1, 3, 5, 5), 8)
    mean = g.reduce("MEAN", a, (1,), True)
    centred = g.binary("SUB", a, mean)
    square = g.reduce("MEAN", g.unary("SQUARE", centred), (1,), True)
    scale = g.unary("RSQRT", g.binary("ADD", square, g.scalar_like(square, 1e-5)))
    normal = g.binary("MUL", g.binary("MUL", centred, scale), g.weights(8, 1, 1))
    result, _ = optimise(g.finish(g.conv(normal, 2)), "nhwc")
    assert count(result, "TRANSPOSE") == count(result, "RESHAPE") == 0
    assert [op.inputs[1].shape for op in result.ops if op.code == "MUL"][1] == (8,)


def test_a_shared_value_is_transposed_once() -> None:
    g = NaiveGraph()
    x = g.feed(1, 3, 8, 8)
    result, _ = optimise(g.finish(*(g.conv(x, 2) for _ in range(3))), "keep")
    assert count(result, "TRANSPOSE") == 4


def test_lower_rank_runtime_operand_is_aligned() -> None:
    g = NaiveGraph()
    a, b = g.conv(g.feed(1, 3, 8, 6), 4), g.feed(4, 1, 6)
    result, stats = optimise(g.finish(g.conv(g.binary("MUL", a, b), 3)), "nhwc")
    assert stats.bytes_after == 4 * 4 * 6  # only the small operand moves
    assert count(result, "RESHAPE") <= 1


def test_transposed_output_of_constants_and_duplicates() -> None:
    g = NaiveGraph()
    x = g.feed(1, 3, 8, 8)
    perm = g.const((0, 2, 3, 1), np.int32)
    weights = g.emit("TRANSPOSE", [g.weights(1, 3, 8, 8), perm], (1, 8, 8, 3))
    y = g.binary("ADD", g.nhwc(x), weights)
    z = g.binary("ADD", g.nhwc(x), y)
    _, stats = optimise(g.finish(z, g.nchw(z)))
    assert stats.transposes_after == 1


def test_the_given_graph_is_not_changed() -> None:
    g = cnn()
    graph = g.finish(g.result)  # type: ignore[attr-defined]
    before = [
        (op.code, list(map(id, op.inputs)), list(map(id, op.outputs)), dict(op.options)) for op in graph.ops
    ]
    shapes = [t.shape for t in graph.tensors()]
    assign_layout(graph, "nhwc")
    assert before == [
        (op.code, list(map(id, op.inputs)), list(map(id, op.outputs)), dict(op.options)) for op in graph.ops
    ]
    assert shapes == [t.shape for t in graph.tensors()]


@pytest.mark.parametrize(
    ("perm", "source", "target", "want"),
    [
        ((0, 2, 3, 1), (1, 8, 6, 4), (1, 8, 24), (0, 2, 1)),
        ((0, 2, 3, 1), (1, 8, 6, 4), (1, 2, 4, 24), (0, 3, 1, 2)),
        ((0, 3, 2, 1), (1, 8, 6, 4), (1, 8, 24), None),
        ((0, 2, 3, 1), (1, 8, 6, 4), (1, 48, 4), None),
        ((0, 2, 3, 1), (1, 8, 1, 1), (1, 8), (0, 1)),
        ((0, 1, 2), (2, 3, 4), (6, 4), (0, 1)),
        ((1, 0), (6, 4), (2, 3, 4), (2, 0, 1)),
    ],
)
def test_reshape_carries_whole_groups(perm, source, target, want) -> None:  # type: ignore[no-untyped-def]
    assert carried(perm, source, target) == want
    if want is not None:
        x = np.arange(np.prod(source)).reshape(source)
        np.testing.assert_array_equal(
            x.transpose(perm).reshape(x.reshape(target).transpose(want).shape),
            x.reshape(target).transpose(want),
        )


def test_settle_leaves_ones_in_place() -> None:
    assert settle((2, 0), (5, 1, 4, 1)) == (2, 1, 0, 3)


def test_minimum_cut_of_a_known_network() -> None:
    network = FlowNetwork()
    a, b, c = (network.add_node() for _ in range(3))
    for edge in ((0, a, 5), (0, b, 4), (a, c, 3), (b, c, 2), (a, b, INFINITE), (c, 1, 9), (b, 1, 1)):
        network.add_edge(*edge)
    assert network.source_side() == [True, False, True, True, False]


def test_cost_is_linear_in_the_graph() -> None:
    def seconds(blocks: int) -> float:
        g = NaiveGraph()
        x = g.feed(1, 4, 8, 8)
        for _ in range(blocks):
            x = g.binary("ADD", g.conv(x, 4), x)
        graph = g.finish(x)
        start = time.process_time()
        _, stats = assign_layout(graph)
        assert stats.transposes_after == 2
        return time.process_time() - start

    # A tenfold graph; were the cost quadratic, the ratio would be 100.
    assert min(seconds(2000) for _ in range(2)) < 30 * min(seconds(200) for _ in range(3))


def test_dense_weights_follow_a_flattened_map() -> None:
    g = NaiveGraph()
    a = g.pool(g.unary("RELU", g.conv(g.feed(2, 3, 8, 4), 5)))
    flat = g.reshape(a, (2, 5 * 4 * 2))
    result, stats = optimise(g.finish(g.dense(flat, 3), g.dense(flat, 2)), "nhwc")
    assert stats.bytes_after == 0
    assert count(result, "TRANSPOSE") == 0


def test_a_flattened_map_that_others_read_is_transposed() -> None:
    g = NaiveGraph()
    flat = g.reshape(g.conv(g.feed(1, 3, 8, 4), 5), (1, 5 * 8 * 4))
    _, stats = optimise(g.finish(g.dense(flat, 3), g.unary("TANH", flat)), "nhwc")
    assert stats.bytes_after == 4 * 5 * 8 * 4


def test_no_padded_axis_comes_to_stand_first() -> None:
    g = NaiveGraph()
    x = g.feed(6, 1, 5, 4)
    y = g.transpose(g.pad(g.transpose(x, (1, 0, 2, 3)), ((0, 0), (1, 1), (0, 0), (0, 0))), (1, 0, 2, 3))
    result, stats = optimise(g.finish(g.binary("ADD", g.unary("TANH", y), y)))
    (pad,) = [op for op in result.ops if op.code == "PAD"]
    assert pad.output.shape == (1, 8, 5, 4)
    assert stats.bytes_after == 0


def test_outputs_that_show_an_input_or_each_other_are_copies() -> None:
    g = NaiveGraph()
    x = g.feed(2, 1, 1, 3)
    y = g.unary("TANH", x)
    alias = g.transpose(y, (0, 2, 1, 3))
    graph = g.finish(g.nchw(g.nhwc(x)), y, alias, g.transpose(y, (3, 0, 1, 2)), alias)
    result, _ = optimise(graph)
    assert [t.name for t in result.outputs] == [t.name for t in graph.outputs]
    assert [t.name for t in result.inputs] == [t.name for t in graph.inputs]
    assert [op.code for op in result.ops].count("RESHAPE") == 2


def test_reshapes_that_move_ones_are_orders_too() -> None:
    g = NaiveGraph()
    pooled = g.reduce("MEAN", g.conv(g.feed(1, 4, 6, 6), 8), (2, 3), True)
    hidden = g.unary("RELU", g.conv(pooled, 2))
    graph = g.finish(g.unary("LOGISTIC", g.conv(hidden, 8)), g.reshape(hidden, (1, 1, 2, 1)))
    result, _ = optimise(simplify(graph), "nhwc")  # where TRANSPOSEs of ones are RESHAPEs already
    assert [op.code for op in simplify(result).ops] == [
        "CONV_2D",
        "MEAN",
        "CONV_2D",
        "CONV_2D",
        "LOGISTIC",
        "RESHAPE",
    ]


def test_a_constant_before_the_value_has_no_order_of_its_own() -> None:
    g = NaiveGraph()
    x = g.conv(g.feed(1, 3, 8, 8), 8, 3)
    y = g.binary("MUL", g.weights(8, 1, 1), x)
    optimise(g.finish(g.binary("ADD", y, g.conv(y, 8))))
