"""XNNPACK inside LiteRT's interpreter: what it takes of a graph, and of the probes as recorded."""

from __future__ import annotations

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.verify import xnnpack
from tests.probes.answers import ask_xnnpack, probes_of, read_golden


def test_the_operators_of_every_partition_are_found() -> None:
    values = [Tensor(f"v{i}", (1, 3, 3, 4), np.dtype(np.float32)) for i in range(6)]
    codes = ["RELU", "RELU_0_TO_1", "TANH", "SQUARE", "SIGN"]
    ops = [Op(code, [values[i]], [values[i + 1]]) for i, code in enumerate(codes)]
    answer = xnnpack.ask(Graph([values[0]], [values[5]], ops, ["x"], ["y"]))
    assert answer.taken == (True, False, True, True, False)
    assert answer.error is None


def test_a_graph_that_the_interpreter_refuses_is_an_error() -> None:
    x, y = (Tensor(n, (1, 4), np.dtype(np.float32)) for n in "xy")
    answer = xnnpack.ask(Graph([x], [y], [Op("RELU", [x], [y], version=99)], ["x"], ["y"]))
    assert answer.taken == (False,)
    assert answer.error is not None
    assert "version '99'" in answer.error


def test_it_takes_the_probes_it_is_recorded_to_take() -> None:
    golden = read_golden("tflite-cpu")
    answers = ask_xnnpack(probes_of("tflite-cpu"))
    assert {n: w for n, w in answers.items() if w != golden[n]} == {}
