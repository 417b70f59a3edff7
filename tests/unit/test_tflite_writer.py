"""The TFLite schema access and writer: bytes, alignment, packing, round trip."""

from __future__ import annotations

import flatbuffers.util
import ml_dtypes
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from convkit.dialects.tflite.graph import Graph, Op, Quantization, Tensor
from convkit.dialects.tflite.schema import dtype_named, operator_codes, option_fields, pack_options, type_name
from convkit.dialects.tflite.writer import serialize
from tests.tflite_graphs import NaiveGraph, run


def constant(name: str, data: np.ndarray) -> Tensor:
    return Tensor(name, data.shape, data.dtype, data)


def small_graph(odd: int = 3) -> Graph:
    """Constants of odd sizes, so that alignment is not an accident."""
    g = NaiveGraph()
    x = g.feed(1, odd)
    y = g.binary("ADD", x, constant("a", np.arange(odd, dtype=np.float32)), fused_activation_function="RELU")
    return g.finish(g.binary("MUL", y, constant("b", np.full(odd, 2, np.float32))))


def read(graph: Graph) -> tuple[bytes, schema.Model]:
    data = bytes(serialize(graph))
    return data, schema.Model.GetRootAsModel(data, 0)


@pytest.mark.parametrize("odd", [1, 3, 5, 17, 1023])
def test_constants_are_aligned_to_16_bytes(odd: int) -> None:
    data, model = read(small_graph(odd))
    base = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    assert buffers[0].DataLength() == 0
    for buffer in buffers[1:]:
        assert (buffer.DataAsNumpy().__array_interface__["data"][0] - base) % 16 == 0


def test_file_identifier_version_and_signature() -> None:
    data, model = read(small_graph())
    assert flatbuffers.util.BufferHasIdentifier(data, 0, b"TFL3")
    assert model.Version() == 3
    assert model.SignatureDefs(0).SignatureKey() == b"serving_default"
    assert model.SignatureDefs(0).Inputs(0).Name() == b"input"
    assert model.Subgraphs(0).Operators(0).BuiltinOptionsType() == schema.BuiltinOptions.AddOptions


def test_equal_graphs_give_equal_bytes() -> None:
    assert read(small_graph())[0] == read(small_graph())[0]


def test_equal_constants_are_stored_once() -> None:
    def size(second: float) -> int:
        g = NaiveGraph()
        x = g.feed(1, 4096)
        for value in (1.0, second):
            x = g.binary("ADD", x, constant(f"c{value}", np.full(4096, value, np.float32)))
        return len(serialize(g.finish(x)))

    assert size(2.0) - size(1.0) >= 4 * 4096


def test_round_trip_through_the_interpreter() -> None:
    x = np.asarray([[-3, 0, 2]], np.float32)
    (y,) = run(small_graph(), [x])
    np.testing.assert_array_equal(y, [[0, 2, 8]])


def test_operator_above_the_old_code_range_runs() -> None:
    g = NaiveGraph()
    x = np.linspace(-2, 2, 7, dtype=np.float32)[None]
    (y,) = run(g.finish(g.unary("GELU", g.feed(1, 7), approximate=False)), [x])
    from math import erf

    np.testing.assert_allclose(y[0], [v / 2 * (1 + erf(v / 2**0.5)) for v in x[0].tolist()], atol=1e-6)
    assert operator_codes()["GELU"] > 127


@pytest.mark.parametrize("values", [[-8, 7, 1], [1, -2, 3, -4]])
def test_int4_is_packed_low_nibble_first(values: list[int]) -> None:
    weights = Tensor("w", (1, len(values)), np.dtype(ml_dtypes.int4), np.asarray([values], ml_dtypes.int4))
    weights.quantization = Quantization(np.ones(1, np.float32), np.zeros(1, np.int64))
    result = Tensor("y", weights.shape, np.dtype(np.float32))
    _, model = read(Graph([], [result], [Op("DEQUANTIZE", [weights], [result])], [], ["y"]))
    packed = model.Buffers(1).DataAsNumpy().tolist()
    nibbles = [n for byte in packed for n in (byte & 15, byte >> 4)][: len(values)]
    assert [n - 16 if n > 7 else n for n in nibbles] == values
    assert len(packed) == (len(values) + 1) // 2


def test_float16_weights_run() -> None:
    x = Tensor("x", (1, 3), np.dtype(np.float32))
    half = constant("w", np.asarray([1, 0.5, -2], np.float16))
    full, y = Tensor("f", (3,), x.dtype), Tensor("y", (1, 3), x.dtype)
    ops = [Op("DEQUANTIZE", [half], [full]), Op("MUL", [x, full], [y])]
    (found,) = run(Graph([x], [y], ops, ["x"], ["y"]), [np.ones((1, 3), np.float32)])
    np.testing.assert_array_equal(found, [[1, 0.5, -2]])


def test_an_unknown_option_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="CONV_2D has no option 'dilation'"):
        pack_options("CONV_2D", {"dilation": 1})
    with pytest.raises(KeyError, match="takes no options"):
        pack_options("LOGISTIC", {"alpha": 1})
    with pytest.raises(KeyError):
        pack_options("CONV_2D", {"padding": "AROUND"})


def test_an_unknown_operator_or_type_is_a_key_error() -> None:
    x, y = (Tensor(name, (1,), np.dtype(np.float32)) for name in "xy")
    with pytest.raises(KeyError):
        serialize(Graph([x], [y], [Op("CONVOLVE", [x], [y])], ["x"], ["y"]))
    with pytest.raises(KeyError):
        type_name(np.dtype("datetime64[s]"))


@pytest.mark.parametrize(
    ("code", "field"),
    [
        ("CONV_2D", "dilation_w_factor"),
        ("DEPTHWISE_CONV_2D", "dilation_h_factor"),
        ("MAX_POOL_2D", "filter_width"),
        ("BATCH_MATMUL", "adj_x"),
        ("FULLY_CONNECTED", "keep_num_dims"),
        ("STRIDED_SLICE", "shrink_axis_mask"),
        ("REDUCE_MAX", "keep_dims"),
        ("TRANSPOSE_CONV", "stride_h"),
        ("SPLIT_V", "num_splits"),
        ("MAXIMUM", None),
    ],
)
def test_option_fields_are_the_schemas(code: str, field: str | None) -> None:
    assert field is None or field in option_fields(code)


def test_every_dtype_has_one_name() -> None:
    for name in ("FLOAT32", "FLOAT16", "INT8", "INT4", "INT32", "INT64", "BOOL", "UINT8"):
        assert type_name(dtype_named(name)) == name
