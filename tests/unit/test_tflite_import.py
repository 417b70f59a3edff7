"""TFLite in: every operator computes in ONNX what LiteRT does; what is malformed or foreign is refused."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import convkit
from convkit.diagnostics import ConvkitError
from convkit.dialects.tflite.graph import Graph, Op, Quantization, Tensor
from convkit.dialects.tflite.reader import read_graphs
from convkit.dialects.tflite.writer import serialize
from convkit.frontends import load_any
from convkit.ir.origin import origin_of
from convkit.verify.runners import Reference, run_tflite
from tests.round_trip import assert_second_is_first

F = np.dtype(np.float32)
I8 = np.dtype(np.int8)
rng = np.random.default_rng(0)


def constant(array: Any, dtype: Any = np.float32, quantization: Quantization | None = None) -> Tensor:
    array = np.asarray(array, dtype)
    return Tensor(f"c{rng.integers(1 << 60)}", array.shape, array.dtype, array, quantization)


def weights(*shape: int) -> Tensor:
    return constant(rng.normal(0, 0.5, shape))


def ints(*values: int) -> Tensor:
    return constant(values, np.int32)


def single(
    code: str, feeds: Sequence[tuple[int, ...]], constants: Sequence[Tensor | None], out: Any,
    order: Sequence[int] | None = None, dtype: Any = np.float32, version: int = 1, **options: Any,
) -> Graph:  # fmt: skip
    """A graph of one operator: its inputs are the feeds, then the constants, or as `order` says."""
    inputs = [Tensor(f"x{i}", tuple(shape), F) for i, shape in enumerate(feeds)]
    every: list[Tensor | None] = [*inputs, *constants]
    shapes = out if isinstance(out, list) else [out]
    types = dtype if isinstance(dtype, list) else [dtype] * len(shapes)
    outputs = [Tensor(f"y{i}", tuple(s), np.dtype(d)) for i, (s, d) in enumerate(zip(shapes, types))]
    op = Op(code, [every[i] for i in order] if order else every, outputs, options, version=version)
    return Graph(inputs, outputs, [op], [t.name for t in inputs], [t.name for t in outputs])


def both(graph: Graph, low: float | None = None) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The outputs in LiteRT and of the imported model."""
    data = bytes(serialize(graph))
    feeds = []
    for tensor in graph.inputs:
        if tensor.dtype.kind == "f":
            values = (
                rng.normal(0, 2, tensor.shape) if low is None else rng.uniform(low, low + 2, tensor.shape)
            )
        else:
            values = rng.integers(-128, 128, tensor.shape)
        feeds.append(values.astype(tensor.dtype))
    model = convkit.load(data)
    run = Reference(ir.to_proto(model).SerializeToString()).run
    found = run({value.name: feed for value, feed in zip(graph.inputs, feeds, strict=True)})
    return run_tflite(data, feeds), list(found.values())


def assert_same(graph: Graph, low: float | None = None) -> None:
    for expected, found in zip(*both(graph, low), strict=True):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


WINDOW = {"padding": "SAME", "stride_w": 2, "stride_h": 2}
DILATIONS = {"dilation_w_factor": 1, "dilation_h_factor": 1}
POOL = {**WINDOW, "filter_width": 3, "filter_height": 2}
X = (1, 5, 7, 4)
ONE_MORE = constant([[1, 1], [0, 2]], np.int32)
EDGES = constant([[1, 0], [2, 1]], np.int32)

GRAPHS = {
    "conv": single("CONV_2D", [X], [weights(6, 3, 3, 4), weights(6)], (1, 3, 4, 6), **WINDOW, **DILATIONS,
                   fused_activation_function="RELU6"),
    "conv-dilated": single("CONV_2D", [X], [weights(6, 3, 3, 4), weights(6)], (1, 5, 7, 6), padding="SAME",
                           stride_w=1, stride_h=1, dilation_w_factor=2, dilation_h_factor=2, version=1),
    "depthwise": single("DEPTHWISE_CONV_2D", [X], [weights(1, 3, 3, 8), weights(8)], (1, 3, 4, 8), **WINDOW,
                        **DILATIONS, depth_multiplier=2),
    "transposed": single("TRANSPOSE_CONV", [X], [ints(1, 10, 14, 3), weights(3, 3, 3, 4)], (1, 10, 14, 3),
                         order=(1, 2, 0), **WINDOW),
    "transposed-valid": single("TRANSPOSE_CONV", [X], [ints(1, 11, 15, 3), weights(3, 3, 3, 4)],
                               (1, 11, 15, 3),
                               order=(1, 2, 0), padding="VALID", stride_w=2, stride_h=2),
    "average-pool": single("AVERAGE_POOL_2D", [X], [], (1, 3, 4, 4), **POOL),
    "max-pool": single("MAX_POOL_2D", [X], [], (1, 3, 4, 4), **POOL),
    "bilinear": single("RESIZE_BILINEAR", [X], [ints(9, 11)], (1, 9, 11, 4), half_pixel_centers=True),
    "bilinear-corners": single("RESIZE_BILINEAR", [X], [ints(9, 11)], (1, 9, 11, 4), align_corners=True),
    "bilinear-plain": single("RESIZE_BILINEAR", [X], [ints(9, 11)], (1, 9, 11, 4)),
    "nearest": single("RESIZE_NEAREST_NEIGHBOR", [X], [ints(9, 11)], (1, 9, 11, 4)),
    "nearest-centres": single("RESIZE_NEAREST_NEIGHBOR", [X], [ints(9, 11)], (1, 9, 11, 4),
                              half_pixel_centers=True),
    "depth-to-space": single("DEPTH_TO_SPACE", [X], [], (1, 10, 14, 1), block_size=2),
    "space-to-depth": single("SPACE_TO_DEPTH", [(1, 4, 6, 3)], [], (1, 2, 3, 12), block_size=2),
    "space-to-batch": single("SPACE_TO_BATCH_ND", [(1, 4, 6, 3)], [ints(2, 2), ONE_MORE],
                             (4, 3, 4, 3)),
    "batch-to-space": single("BATCH_TO_SPACE_ND", [(4, 3, 4, 3)], [ints(2, 2), ONE_MORE],
                             (1, 4, 6, 3)),
    "fully-connected": single("FULLY_CONNECTED", [(2, 3, 4)], [weights(5, 4), weights(5)], (2, 3, 5),
                              keep_num_dims=True, fused_activation_function="RELU", version=5),
    "fully-connected-flat": single("FULLY_CONNECTED", [(2, 3, 4)], [weights(5, 4), weights(5)], (6, 5)),
    "batch-matmul": single("BATCH_MATMUL", [(2, 3, 4), (2, 5, 4)], [], (2, 3, 5), adj_y=True),
    "leaky": single("LEAKY_RELU", [X], [], X, alpha=0.2),
    "prelu": single("PRELU", [X], [weights(1, 1, 4)], X),
    "gelu": single("GELU", [X], [], X, approximate=True),
    "softmax": single("SOFTMAX", [X], [], X, beta=0.5),
    "l2": single("L2_NORMALIZATION", [X], [], X),
    "squared-difference": single("SQUARED_DIFFERENCE", [X, X], [], X),
    "rsqrt": single("RSQRT", [X], [], X),
    "floor-mod": single("FLOOR_MOD", [X, X], [], X),
    "pad": single("PADV2", [(2, 3)], [EDGES, constant(1.5)], (3, 6)),
    "mirror-symmetric": single("MIRROR_PAD", [(2, 3)], [EDGES], (3, 6),
                               mode="SYMMETRIC"),
    "mirror-reflect": single("MIRROR_PAD", [(2, 3)], [EDGES], (3, 6), mode="REFLECT"),
    "strided-slice": single("STRIDED_SLICE", [X], [ints(0, -1, 1, 3), ints(1, 0, 6, 0), ints(1, -1, 2, -1)],
                            (4, 3, 4), begin_mask=1, end_mask=8, shrink_axis_mask=1),
    "strided-slice-new": single("STRIDED_SLICE", [(3, 4)], [ints(0, 1), ints(0, 3), ints(1, 1)], (1, 2, 4),
                                new_axis_mask=1),
    "slice": single("SLICE", [X], [ints(0, 1, 2, 0), ints(1, 3, -1, 2)], (1, 3, 5, 2)),
    "gather": single("GATHER", [X], [ints(3, 0, 1)], (1, 5, 3, 4), axis=2),
    "gather-by-batch": single("GATHER", [(2, 5, 4)], [constant([[3, 0, 4], [1, 1, 2]], np.int32)], (2, 3, 4),
                              axis=1, batch_dims=1),
    "gather-by-batch-behind": single("GATHER", [(2, 3, 5)], [constant([[3, 0], [4, 1]], np.int32)],
                                     (2, 3, 2), axis=2, batch_dims=1),
    "pack": single("PACK", [(2, 3), (2, 3)], [], (2, 2, 3), values_count=2, axis=1),
    "unpack": single("UNPACK", [(2, 3)], [], [(2,), (2,), (2,)], num=3, axis=1),
    "split": single("SPLIT", [(2, 6)], [constant(1, np.int32)],
                    [(2, 3), (2, 3)], order=(1, 0), num_splits=2),
    "reverse": single("REVERSE_V2", [(2, 3)], [ints(1)], (2, 3)),
    "tile": single("TILE", [(2, 3)], [ints(2, 1)], (4, 3)),
    "mean": single("MEAN", [X], [ints(1, 2)], (1, 4), keep_dims=False),
    "top-k": single("TOPK_V2", [(2, 6)], [constant(3, np.int32)], [(2, 3), (2, 3)],
                    dtype=[np.float32, np.int32]),
    "cumsum": single("CUMSUM", [(2, 6)], [constant(1, np.int32)], (2, 6), exclusive=True, reverse=True),
    "cast": single("CAST", [X], [], X, dtype=np.int32, in_data_type="FLOAT32", out_data_type="INT32"),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_an_operator_computes_what_litert_does(name: str) -> None:
    assert_same(GRAPHS[name], 0.1 if name == "rsqrt" else None)


def quantized_conv(per_channel: bool) -> Graph:
    scale = rng.uniform(0.01, 0.03, 6 if per_channel else 1).astype(np.float32)
    w = constant(rng.integers(-127, 128, (6, 3, 3, 4)), np.int8, Quantization(scale, np.zeros(scale.size), 0))
    bias = constant(rng.integers(-500, 500, 6), np.int32, Quantization(scale * 0.05, np.zeros(scale.size), 0))
    x = Tensor("x", (1, 5, 7, 4), I8, None, Quantization(np.float32([0.05]), np.array([3])))
    y = Tensor("y", (1, 3, 4, 6), I8, None, Quantization(np.float32([0.3]), np.array([-5])))
    op = Op("CONV_2D", [x, w, bias], [y], {**WINDOW, **DILATIONS}, version=3)
    return Graph([x], [y], [op], ["x"], ["y"])


@pytest.mark.parametrize("per_channel", [True, False])
def test_quantization_is_kept(per_channel: bool) -> None:
    graph = quantized_conv(per_channel)
    (expected,), (found,) = both(graph)
    assert found.dtype == np.int8
    assert np.abs(expected.astype(int) - found.astype(int)).max() <= 1
    assert np.mean(expected != found) < 0.02
    ops = [node.op_type for node in load_any(bytes(serialize(graph))).model.graph]
    assert ops.count("DequantizeLinear") == 3
    assert ops.count("QuantizeLinear") == 1


def test_names_and_origins_come_from_the_file() -> None:
    imported = load_any(bytes(serialize(GRAPHS["conv"])))
    assert imported.format == "tflite"
    assert [v.name for v in imported.model.graph.inputs] == ["x0"]
    assert [v.name for v in imported.model.graph.outputs] == ["y0"]
    assert {origin_of(node).nodes for node in imported.model.graph if node.op_type != "Identity"} == {("y0",)}


def test_the_reference_is_litert_itself() -> None:
    graph = GRAPHS["prelu"]
    report = convkit.compile(bytes(serialize(graph)), "mali-gpu").report
    assert report.model.format == "tflite"
    assert report.verification is not None
    assert report.verification.reference.startswith("LiteRT")


def test_every_operator_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    x = Tensor("x", (1, 4), F)
    y, z = Tensor("y", (1, 4), F), Tensor("z", (1, 4), F)
    unique = Op("UNIQUE", [x], [y], {})
    lookup = Op("HASHTABLE_LOOKUP", [y], [z], {})
    data = bytes(serialize(Graph([x], [z], [unique, lookup], ["x"], ["z"])))
    with pytest.raises(ConvkitError) as caught:
        load_any(data)
    assert [d.code for d in caught.value.diagnostics] == ["unsupported-op"] * 2
    assert "UNIQUE" in str(caught.value)
    assert "HASHTABLE_LOOKUP" in str(caught.value)
    path = tmp_path / "m.tflite"
    path.write_bytes(data)
    with pytest.raises(ConvkitError) as caught:
        load_any(path)
    assert all(d.location is not None and d.location.file == str(path) for d in caught.value.diagnostics)


def test_malformed_files_are_refused_not_crashed_on() -> None:
    data = bytes(serialize(GRAPHS["conv"]))
    for cut in range(8, len(data), 61):
        _refused_or_read(data[:cut])
    noise = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(data)
        for position in noise.integers(8, len(data), 3):
            broken[position] = noise.integers(0, 256)
        _refused_or_read(bytes(broken))


def _refused_or_read(data: bytes) -> None:
    with suppress(ConvkitError):
        load_any(data)


def test_a_vector_longer_than_the_file_is_refused() -> None:
    data = bytearray(serialize(GRAPHS["conv"]))
    root = struct.unpack_from("<I", data, 0)[0]
    assert len(read_graphs(bytes(data))) == 1
    vtable = root - struct.unpack_from("<i", data, root)[0]
    field = struct.unpack_from("<H", data, vtable + 8)[0]  # subgraphs
    vector = root + field + struct.unpack_from("<I", data, root + field)[0]
    struct.pack_into("<I", data, vector, 0x7FFFFFFF)
    with pytest.raises(ConvkitError, match="more objects than it has bytes for"):
        read_graphs(bytes(data))


@pytest.mark.parametrize("name", ["inverted-residual", "window-attention", "pixel-shuffle"])
def test_a_round_trip_is_stable(name: str) -> None:
    pytest.importorskip("torch")
    from tests.models import exported

    assert_second_is_first(convkit.compile(exported(name), "mali-gpu", verify=False))
