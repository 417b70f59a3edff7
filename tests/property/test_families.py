"""Every family of operators, alone and between two convolutions, through the whole way to a TFLite file.

Between convolutions the layout pass runs the value channels last: the operators must follow it.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convkit.compiler.emit.tflite import lower_to_tflite
from convkit.ir.normal import normalize
from convkit.passes.pipeline import PassManager, default_pipeline
from tests.helpers import assert_close, model_of, run_onnx, run_tflite
from tests.property.families import FAMILIES, Net


def _type_of(net: Net, inputs: dict[str, np.ndarray], name: str) -> tuple[int, list[int]]:
    """The element type and shape of what was computed so far."""
    found = model_of(net.nodes, inputs, net.constants, [name]).graph.output[0].type.tensor_type
    return found.elem_type, [d.dim_value for d in found.shape.dim]


def _as_image(net: Net, inputs: dict[str, np.ndarray], y: str) -> tuple[str, int]:
    """A value of any type and rank as an image in float32, and its channels."""
    kind, shape = _type_of(net, inputs, y)
    if kind != onnx.TensorProto.FLOAT:
        y = net("Cast", y, to=onnx.TensorProto.FLOAT)
    if len(shape) != 4:
        rows = [1, 1, *shape] if len(shape) < 3 else shape
        shape = [1, int(np.prod(rows[:-2])), *rows[-2:]]
        y = net("Reshape", y, net.const(shape, np.int64))
    return y, shape[1]


@st.composite
def networks(draw: st.DrawFn, family: str) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """A network with one family in it, and its input."""
    net = Net(draw)
    shape = (1, net.number(1, 5), net.number(2, 6), net.number(2, 6))
    between = draw(st.booleans())
    x, inputs = "x", {"x": net.whole(*shape)}
    if between:
        channels = net.number(1, 5)
        x, shape = net.conv("x", shape[1], channels), (1, channels, *shape[2:])
    y = FAMILIES[family](net, x, shape)
    if between:
        y = net.conv(*_as_image(net, inputs, y), net.number(1, 4))
    return model_of(net.nodes, inputs, net.constants, [y]), inputs


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_family_alone_and_between_convolutions(family: str, data: st.DataObject) -> None:
    model, inputs = data.draw(networks(family))
    lowered = ir.from_proto(model)
    normalize(lowered)
    PassManager(default_pipeline()).run(lowered)
    graph = lower_to_tflite(lowered)[0]
    (expected,) = run_onnx(model, inputs)
    for delegate in (True, False):
        (found,) = run_tflite(graph, inputs, delegate=delegate)
        assert_close(found, expected, tolerance=2e-5)
