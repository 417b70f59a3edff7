"""LiteRT's GPU accelerator itself: what it says of small graphs, and what it computes."""

from __future__ import annotations

import numpy as np
import pytest

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.verify import litert_gpu
from tests.probes import all_probes
from tests.probes.answers import ask_probes, read_golden

F32 = np.dtype(np.float32)


@pytest.fixture(scope="session")
def gpu() -> None:
    setup = litert_gpu.availability()
    if isinstance(setup, str):
        pytest.skip(f"oracle litert-gpu: {setup}")


def _graph() -> Graph:
    x = Tensor("x", (4,), F32)
    a, b, c, d = (Tensor(n, (2, 2), F32) for n in "abcd")
    indices = Tensor("i", (2, 2), np.dtype(np.int32), np.array([[0, 1], [3, 2]], np.int32))
    ops = [
        Op("GATHER", [x, indices], [a]),
        Op("RELU_0_TO_1", [a], [b]),
        Op("TANH", [b], [c]),
        Op("NEG", [c], [d]),
    ]
    return Graph([x], [d], ops, ["x"], ["d"])


@pytest.mark.usefixtures("gpu")
def test_refused_operators_are_named_and_the_rest_runs() -> None:
    values = np.array([0.25, -1, 0.5, 3], np.float32)
    answer = litert_gpu.ask(_graph(), {"x": values})
    assert not answer.fully_accelerated
    assert sorted(answer.refused) == ["GATHER", "RELU_0_TO_1"]
    assert (answer.ops_on_gpu, answer.ops_on_cpu) == (2, 2)
    assert answer.outputs is not None
    expected = -np.tanh(np.clip(values[[[0, 1], [3, 2]]], 0, 1))
    np.testing.assert_allclose(answer.outputs["d"], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("gpu")
def test_each_operator_gets_its_own_answer() -> None:
    taken = [answer.fully_accelerated for answer in litert_gpu.ask_each(_graph())]
    assert taken == [False, False, True, True]


@pytest.mark.usefixtures("gpu")
def test_a_model_it_cannot_read_does_not_take_the_others_down() -> None:
    good = litert_gpu.GpuQuestion(litert_gpu.serialize(_graph()), 4)
    bad = litert_gpu.GpuQuestion(b"TFL3 not a model", 1)
    answers = litert_gpu.ask_many([good, bad, good])
    assert [a.error is None for a in answers] == [True, False, True]


@pytest.mark.usefixtures("gpu")
def test_it_refuses_the_probes_it_is_recorded_to_refuse() -> None:
    golden = read_golden("litert-gpu")
    answers = ask_probes(all_probes(), compute_too=False)
    differ = {n: w for n, w in answers.items() if (w == "refused") != (golden[n] == "refused")}
    assert differ == {}


@pytest.mark.usefixtures("gpu")
def test_it_computes_the_probes_as_recorded() -> None:
    golden = read_golden("litert-gpu")
    answers = ask_probes(all_probes()[::10])
    assert {n: w for n, w in answers.items() if w != golden[n]} == {}
