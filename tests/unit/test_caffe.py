"""The Caffe dialect: what is written for a small network, and how it is judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from onnx import numpy_helper, parser

from convkit.dialects.caffe import lower, write
from convkit.dialects.caffe.lowering.movement import kernel_of
from convkit.dialects.caffe.schema import LAYERS
from convkit.ir.normal import normalize
from convkit.targets import judge, load_target

NETWORK = """
<ir_version: 10, opset_import: ["" : 20]>
network (float[1,3,5,4] x) => (float[1,2,2,2] y, float[1,1,5,4] z)
<int64[2] parts = {1, 2}>
{
  c = Conv<pads=[1,1,0,1], strides=[2,2]>(x, w, b)
  y = LeakyRelu<alpha=0.25>(c)
  z, rest = Split<axis=1>(x, parts)
}
"""
PROTOTXT = """\
name: "model"
layer {
  name: "x"
  type: "Input"
  top: "x"
  input_param {
    shape {
      dim: 1
      dim: 3
      dim: 5
      dim: 4
    }
  }
}
layer {
  name: "c"
  type: "Convolution"
  bottom: "x"
  top: "c"
  convolution_param {
    num_output: 2
    pad_h: 1
    pad_w: 1
    kernel_h: 4
    kernel_w: 3
    stride_h: 2
    stride_w: 2
  }
}
layer {
  name: "y"
  type: "ReLU"
  bottom: "c"
  top: "y"
  relu_param {
    negative_slope: 0.25
  }
}
layer {
  name: "z"
  type: "Slice"
  bottom: "x"
  top: "z"
  top: "rest"
  slice_param {
    slice_point: 1
  }
}
layer {
  name: "rest_unused"
  type: "Silence"
  bottom: "rest"
}
"""
W = np.arange(54, dtype=np.float32).reshape(2, 3, 3, 3)


def model(text: str, **constants: np.ndarray) -> ir.Model:
    proto = parser.parse_model(text)
    proto.graph.initializer.extend(numpy_helper.from_array(a, name) for name, a in constants.items())
    found = ir.from_proto(proto)
    normalize(found)
    return found


def caffe_message() -> Any:
    """NetParameter with the parts of it that are read here, from the published numbers."""
    file = descriptor_pb2.FileDescriptorProto(name="net.proto", package="t", syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    messages: dict[str, list[tuple[str, int, int, bool, str]]] = {
        "Shape": [("dim", 1, kinds.TYPE_INT64, True, "")],
        "Blob": [("data", 5, kinds.TYPE_FLOAT, True, ""), ("shape", 7, kinds.TYPE_MESSAGE, False, "Shape")],
        "Conv": [
            ("num_output", 1, kinds.TYPE_UINT32, False, ""),
            ("kernel_h", 11, kinds.TYPE_UINT32, False, ""),
        ],
        "Relu": [("negative_slope", 1, kinds.TYPE_FLOAT, False, "")],
        "Layer": [
            ("name", 1, kinds.TYPE_STRING, False, ""),
            ("type", 2, kinds.TYPE_STRING, False, ""),
            ("bottom", 3, kinds.TYPE_STRING, True, ""),
            ("top", 4, kinds.TYPE_STRING, True, ""),
            ("blobs", 7, kinds.TYPE_MESSAGE, True, "Blob"),
            ("conv", 106, kinds.TYPE_MESSAGE, False, "Conv"),
            ("relu", 123, kinds.TYPE_MESSAGE, False, "Relu"),
        ],
        "Net": [("name", 1, kinds.TYPE_STRING, False, ""), ("layer", 100, kinds.TYPE_MESSAGE, True, "Layer")],
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, kind, many, of in fields:
            made = message.field.add(name=field, number=number, type=kind, label=3 if many else 1)
            if of:
                made.type_name = f".t.{of}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.Net"))()


def test_a_network_is_written_as_text_and_with_its_weights() -> None:
    graph = lower(model(NETWORK, w=W, b=np.float32([1, -1])))
    prototxt, caffemodel = write(graph)
    assert prototxt == PROTOTXT
    net = caffe_message()
    net.ParseFromString(caffemodel)
    assert [layer.type for layer in net.layer] == ["Input", "Convolution", "ReLU", "Slice", "Silence"]
    conv, relu = net.layer[1], net.layer[2]
    assert (conv.conv.num_output, conv.conv.kernel_h, relu.relu.negative_slope) == (2, 4, 0.25)
    weights, bias = conv.blobs
    assert list(weights.shape.dim) == [2, 3, 4, 3]
    # more padding above than below: a row of zeros below the kernel, and as much padding on both sides
    wanted = np.pad(W, ((0, 0), (0, 0), (0, 1), (0, 0)))
    assert np.array_equal(np.float32(weights.data).reshape(wanted.shape), wanted)
    assert list(bias.data) == [1, -1]
    assert write(graph) == (prototxt, caffemodel)


def test_what_has_no_layer_is_judged_all_the_same() -> None:
    text = """<ir_version: 10, opset_import: ["" : 20]>
    network (float[1,4] x) => (float[1,4] y) { e = Erf(x)  y = Relu(e) }"""
    graph = lower(model(text))
    verdict = judge(graph, load_target("hisilicon-nnie"))
    assert [op.code for op in graph.ops] == ["Custom", "ReLU"]
    assert [op.status.value for op in verdict.ops] == ["fallback", "accelerated"]
    assert verdict.ops[0].reasons[0].message == "Caffe 1.0 has no layer for Erf"


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (0, 3, 1, 2)])
def test_of_permutations_only_that_to_channels_last_is_taken(order: tuple[int, ...]) -> None:
    perm = ",".join(map(str, order))
    text = f"""<ir_version: 10, opset_import: ["" : 20]>
    network (float[1,4,5,6] x) => (float[a,b,c,d] y) {{ y = Transpose<perm=[{perm}]>(x) }}"""
    verdict = judge(lower(model(text)), load_target("hisilicon-nnie"))
    taken = order == (0, 2, 3, 1)
    assert verdict.summary == ("accelerated" if taken else "cpu")
    if not taken:
        assert verdict.ops[0].reasons[0].message == "only (0, 2, 3, 1) is taken, this is P0312"


def test_a_spread_of_even_steps_is_one_kernel() -> None:
    nearest = np.repeat(np.eye(4), 3, axis=0)
    found = kernel_of(nearest)
    assert found is not None
    kernel, step, crop, edge = found
    assert (kernel.tolist(), step, crop, edge) == ([1, 1, 1], 3, (0, 0), 0)
    uneven = np.eye(4)[[0, 0, 1, 1, 1, 2, 3, 3]]
    assert kernel_of(uneven) is None


def test_no_two_fields_of_a_layer_share_a_number() -> None:
    for name, layer in LAYERS.items():
        numbers = [declared.number for declared in layer.fields.values()]
        assert len(numbers) == len(set(numbers)), name
