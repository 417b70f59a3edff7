"""What the GPU delegate must be given apart: parts of a SPLIT that meet, one value as two operands."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.simplify import simplify
from convkit.dialects.tflite.writer import serialize
from convkit.verify import litert_gpu
from tests.tflite_graphs import check_sound, random_feeds, run

_F32 = np.dtype(np.float32)


class _Spelling:
    """A graph on one value of 2 x 4 x 6 x 8, op by op."""

    def __init__(self) -> None:
        self.x = Tensor("x", (2, 4, 6, 8), _F32)
        self.ops: list[Op] = []

    def op(self, code: str, *inputs: Tensor, shape: tuple[int, ...] | None = None, **options: Any) -> Tensor:
        y = Tensor(f"y{len(self.ops)}", shape or inputs[0].shape, _F32)
        self.ops.append(Op(code, list(inputs), [y], options))
        return y

    def split(self) -> list[Tensor]:
        axis = Tensor("axis", (), np.dtype(np.int32), np.array(3, np.int32))
        parts = [Tensor(f"part{i}", (2, 4, 6, 4), _F32) for i in range(2)]
        self.ops.append(Op("SPLIT", [axis, self.x], parts, {"num_splits": 2}))
        return parts

    def graph(self, y: Tensor) -> Graph:
        return Graph([self.x], [y], self.ops, ["x"], ["y"])


def _sum(g: _Spelling) -> Tensor:
    return g.op("ADD", *g.split())


def _sum_of_a_function(g: _Spelling) -> Tensor:
    a, b = g.split()
    return g.op("SUB", g.op("TANH", a), b)


def _exchanged(g: _Spelling) -> Tensor:
    a, b = g.split()
    return g.op("CONCATENATION", b, a, shape=g.x.shape, axis=3)


def _product(g: _Spelling) -> Tensor:
    a, b = g.split()
    return g.op("BATCH_MATMUL", a, b, shape=(2, 4, 6, 6), adj_y=True)


def _gram(g: _Spelling) -> Tensor:
    return g.op("BATCH_MATMUL", g.x, g.x, shape=(2, 4, 6, 6), adj_y=True)


def _largest(g: _Spelling) -> Tensor:
    return g.op("MAXIMUM", g.x, g.x)


CASES = {
    _sum: {"SLICE": 2, "ADD": 1},
    _sum_of_a_function: {"SLICE": 2, "TANH": 1, "SUB": 1},
    _exchanged: {"SLICE": 2, "CONCATENATION": 1},
    _product: {"SPLIT": 1, "BATCH_MATMUL": 1},
    _gram: {"RESHAPE": 1, "BATCH_MATMUL": 1},
    _largest: {"RESHAPE": 1, "MAXIMUM": 1},
}


@pytest.mark.parametrize("make", CASES, ids=lambda f: f.__name__.strip("_"))
def test_they_come_apart_once_and_for_all(make: Any) -> None:
    g = _Spelling()
    graph = g.graph(make(g))
    feeds = random_feeds(graph)
    once = simplify(graph)
    check_sound(once)
    assert Counter(op.code for op in once.ops) == CASES[make]
    assert Counter(op.code for op in simplify(once).ops) == CASES[make]
    np.testing.assert_array_equal(run(once, feeds)[0], run(graph, feeds)[0])


@pytest.mark.skipif(isinstance(litert_gpu.availability(), str), reason="no GPU accelerator")
def test_the_accelerator_computes_them_right() -> None:
    graphs = []
    for make in CASES:
        g = _Spelling()
        graphs.append(simplify(g.graph(make(g))))
    feeds = [dict(zip(["x"], random_feeds(graph), strict=True)) for graph in graphs]
    questions = [
        litert_gpu.GpuQuestion(serialize(graph), len(graph.ops), feed)
        for graph, feed in zip(graphs, feeds, strict=True)
    ]
    for graph, feed, answer in zip(graphs, feeds, litert_gpu.ask_many(questions), strict=True):
        assert answer.fully_accelerated
        assert answer.outputs is not None
        np.testing.assert_allclose(answer.outputs["y"], run(graph, [feed["x"]])[0], rtol=1e-5, atol=1e-5)
