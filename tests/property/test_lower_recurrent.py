"""LSTM, GRU and RNN layers equal onnxruntime's: directions, initial states, peepholes, reset order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.diagnostics import ConvkitError
from tests.helpers import check_lowering, normal, one_node

_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


def _layer(
    kind: str,
    steps: int,
    batch: int,
    *,
    direction: str = "forward",
    bias: bool = True,
    state: str = "none",
    peepholes: bool = False,
    computed: bool = False,
    **attributes: Any,
) -> tuple[Any, dict[str, np.ndarray]]:
    """A model of one layer of hidden size 3 on inputs of size 4, and its inputs."""
    rng = np.random.default_rng(0)
    ways, gates, hidden = 2 if direction == "bidirectional" else 1, _GATES[kind], 3
    inputs = {"x": normal(rng, steps, batch, 4)}
    constants = {"w": normal(rng, ways, gates * hidden, 4), "r": normal(rng, ways, gates * hidden, hidden)}
    order = ["x", "w", "r", "", ""]
    if bias:
        constants["b"] = normal(rng, ways, 2 * gates * hidden)
        order[3] = "b"
    if state != "none":
        for name in ["h", "c"] if kind == "LSTM" else ["h"]:
            order.append(name)
            (inputs if state == "runtime" else constants)[name] = normal(rng, ways, batch, hidden)
    if peepholes:
        order += [""] * (7 - len(order)) + ["p"]
        constants["p"] = normal(rng, ways, 3 * hidden)
    outputs = ["y", "y_h", "y_c"][: 3 if kind == "LSTM" else 2]
    if computed:
        inputs, constants = {**inputs, **constants}, {}
    model = one_node(
        kind,
        inputs,
        constants,
        order=order,
        outputs=outputs,
        hidden_size=hidden,
        direction=direction,
        **attributes,
    )
    return model, inputs


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["LSTM", "GRU", "RNN"]),
    st.integers(1, 4),
    st.integers(1, 2),
    st.sampled_from(["forward", "reverse", "bidirectional"]),
    st.booleans(),
    st.sampled_from(["none", "constant", "runtime"]),
    st.booleans(),
    st.booleans(),
)
def test_layers(
    kind: str, steps: int, batch: int, direction: str, bias: bool, state: str, option: bool, computed: bool
) -> None:
    attributes: dict[str, Any] = {}
    if kind == "GRU":
        attributes["linear_before_reset"] = int(option)
    if kind == "LSTM":
        attributes["peepholes"] = option
    model, inputs = _layer(
        kind, steps, batch, direction=direction, bias=bias, state=state, computed=computed, **attributes
    )
    check_lowering(model, inputs, tolerance=2e-6)


def test_other_activations() -> None:
    model, inputs = _layer("LSTM", 3, 1, activations=["Sigmoid", "Relu", "Tanh"])
    check_lowering(model, inputs)


@pytest.mark.parametrize("attributes", [{"clip": 1.0}, {"activations": ["Sigmoid", "Affine", "Tanh"]}])
def test_what_is_not_exact_is_refused(attributes: dict[str, Any]) -> None:
    model, inputs = _layer("LSTM", 3, 1, **attributes)
    with pytest.raises(ConvkitError, match="not supported"):
        check_lowering(model, inputs)


def test_the_number_of_steps_is_bounded() -> None:
    model, inputs = _layer("RNN", 5000, 1)
    with pytest.raises(ConvkitError, match="5000 steps"):
        check_lowering(model, inputs)
