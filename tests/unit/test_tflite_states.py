"""What a file keeps from one run to the next is an input and an output of the imported model."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

import convkit
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.writer import serialize
from convkit.frontends import load_any

F = np.dtype(np.float32)


def streaming(graph: Graph, states: set[str]) -> bytes:
    """The file of `graph`, with the tensors named in `states` kept between runs."""
    import flatbuffers

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytes(serialize(graph))))
    for tensor in model.subgraphs[0].tensors:
        tensor.isVariable = tensor.name.decode() in states
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def weights(name: str, *shape: int) -> Tensor:
    array = np.random.default_rng(len(name)).normal(0, 0.5, shape).astype(np.float32)
    return Tensor(name, array.shape, array.dtype, array)


def svdf(rank: int) -> bytes:
    x, y, state = Tensor("x", (2, 5), F), Tensor("y", (2, 6 // rank), F), Tensor("state", (2, 6 * 4), F)
    inputs = [x, weights("features", 6, 5), weights("time", 6, 4), weights("bias", 6 // rank), state]
    op = Op("SVDF", inputs, [y], {"rank": rank, "fused_activation_function": "RELU"})
    return streaming(Graph([x], [y], [op], ["x"], ["y"]), {"state"})


def one_step() -> bytes:
    x, y = Tensor("x", (1, 1, 3), F), Tensor("y", (1, 1, 4), F)
    gates = [weights(f"w{i}", 4, 3) for i in range(4)] + [weights(f"u{i}", 4, 4) for i in range(4)]
    bias = [weights(f"b{i}", 4) for i in range(4)]
    states = [Tensor("hidden", (1, 4), F), Tensor("cell", (1, 4), F)]
    inputs = [x, *gates, None, None, None, *bias, None, None, *states, None, None, None, None]
    options = {"fused_activation_function": "TANH", "time_major": False}
    op = Op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], options)
    return streaming(Graph([x], [y], [op], ["x"], ["y"]), {"hidden", "cell"})


CASES = {
    "svdf": (svdf(1), ["state"]),
    "svdf-rank-2": (svdf(2), ["state"]),
    "lstm-step": (one_step(), ["hidden", "cell"]),
}


@pytest.mark.parametrize("name", CASES)
def test_states_go_in_and_come_out(name: str) -> None:
    data, states = CASES[name]
    model = convkit.load(data)
    assert [v.name for v in model.graph.inputs] == ["x", *states]
    assert [v.name for v in model.graph.outputs] == ["y", *(f"{state}_next" for state in states)]
    verification = convkit.compile(data, "mali-gpu").report.verification
    assert verification is not None
    assert verification.passed
    assert "4 runs of LiteRT" in verification.reference


def test_a_run_goes_on_from_the_state_of_the_one_before() -> None:
    run = load_any(svdf(1)).reference.run
    x = np.ones((2, 5), np.float32)
    first = run({"x": x, "state": np.zeros((2, 24), np.float32)})
    second = run({"x": x, "state": first["state_next"]})
    assert not np.array_equal(first["state_next"], second["state_next"])
    kept = second["state_next"].reshape(2, 6, 4)[:, :, 2]
    np.testing.assert_array_equal(kept, first["state_next"].reshape(2, 6, 4)[:, :, 3])
