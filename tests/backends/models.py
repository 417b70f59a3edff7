"""A dozen small models that vendors' compilers differ on: each is an ONNX model of a few thousand weights."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Writes nodes one after another; weights are drawn from one seed, scaled to keep signals of size one."""

    def __init__(self, *shape: int) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.rng = np.random.default_rng(7)
        self.shape = shape

    def const(self, array: Any) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, *shape: int, fan: int = 1) -> str:
        return self.const((self.rng.standard_normal(shape) / np.sqrt(fan)).astype(np.float32))

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(op_type, list(inputs), [name], name=f"{op_type}_{name}", **attributes)
        )
        return name

    def conv(self, x: str, ins: int, outs: int, kernel: int = 3, group: int = 1, **attributes: Any) -> str:
        fan = ins // group * kernel * kernel
        w, b = self.weight(outs, ins // group, kernel, kernel, fan=fan), self.weight(outs)
        return self.op("Conv", x, w, b, pads=[kernel // 2] * 4, group=group, **attributes)

    def linear(self, x: str, ins: int, outs: int) -> str:
        return self.op("Add", self.op("MatMul", x, self.weight(ins, outs, fan=ins)), self.weight(outs))

    def reshape(self, x: str, *shape: int) -> str:
        return self.op("Reshape", x, self.const(np.array(shape, np.int64)))

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_empty_tensor_value_info(name) for name in outputs], self.weights,
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def cnn() -> onnx.ModelProto:
    """Convolution, batch norm, ReLU, pooling, a fully connected layer, softmax."""
    net = Net(1, 3, 32, 32)
    y = net.conv("x", 3, 16, strides=[2, 2])
    mean, variance = net.const(np.zeros(16, np.float32)), net.const(np.ones(16, np.float32))
    y = net.op("BatchNormalization", y, net.weight(16), net.weight(16), mean, variance)
    y = net.op("MaxPool", net.op("Relu", y), kernel_shape=[2, 2], strides=[2, 2])
    y = net.op("Relu", net.conv(y, 16, 32))
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    return net.model(net.op("Softmax", net.op("Gemm", y, net.weight(32, 10), net.weight(10)), axis=1))


def unet() -> onnx.ModelProto:
    """Down, up by transposed convolution, concatenated."""
    net = Net(1, 3, 32, 32)
    top = net.op("Relu", net.conv("x", 3, 8))
    low = net.op("Relu", net.conv(net.op("MaxPool", top, kernel_shape=[2, 2], strides=[2, 2]), 8, 16))
    up = net.op(
        "ConvTranspose", low, net.weight(16, 8, 4, 4, fan=64), net.weight(8), strides=[2, 2], pads=[1] * 4
    )  # fmt: skip
    return net.model(net.conv(net.op("Concat", up, top, axis=1), 16, 3))


def attention() -> onnx.ModelProto:
    """Four heads over sixteen tokens, with layer norm and a residual."""
    net, heads, tokens, width = Net(1, 16, 32), 4, 16, 32
    y = net.op("LayerNormalization", "x", net.weight(width), net.weight(width), axis=-1)
    parts = []
    for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]):
        part = net.reshape(net.linear(y, width, width), 1, tokens, heads, width // heads)
        parts.append(net.op("Transpose", part, perm=perm))
    scores = net.op("Mul", net.op("MatMul", parts[0], parts[1]), net.const(np.float32(0.35)))
    mixed = net.op("MatMul", net.op("Softmax", scores, axis=-1), parts[2])
    mixed = net.reshape(net.op("Transpose", mixed, perm=[0, 2, 1, 3]), 1, tokens, width)
    return net.model(net.op("Add", "x", net.linear(mixed, width, width)))


def prelu() -> onnx.ModelProto:
    """A slope for each channel."""
    net = Net(1, 3, 16, 16)
    y = net.op("PRelu", net.conv("x", 3, 8), net.weight(8, 1, 1))
    return net.model(net.op("PRelu", net.conv(y, 8, 4), net.weight(4, 1, 1)))


def resize() -> onnx.ModelProto:
    """Bilinear and nearest, to twice the size."""
    net = Net(1, 3, 12, 12)
    scales = net.const(np.array([1, 1, 2, 2], np.float32))
    y = net.op("Resize", net.conv("x", 3, 8), "", scales, mode="linear")
    y = net.op(
        "Resize", net.conv(y, 8, 4), "", scales, mode="nearest", nearest_mode="floor",
        coordinate_transformation_mode="asymmetric",
    )  # fmt: skip
    return net.model(y)


def lstm() -> onnx.ModelProto:
    """One direction, eight steps."""
    net, size, hidden = Net(8, 1, 10), 10, 12
    y = net.op(
        "LSTM", "x", net.weight(1, 4 * hidden, size, fan=size), net.weight(1, 4 * hidden, hidden, fan=hidden),
        net.weight(1, 8 * hidden), hidden_size=hidden,
    )  # fmt: skip
    return net.model(net.linear(net.op("Squeeze", y, net.const(np.array([1], np.int64))), hidden, 5))


def quantized() -> onnx.ModelProto:
    """A convolution between QuantizeLinear and DequantizeLinear pairs."""
    net = Net(1, 3, 16, 16)

    def pair(x: str, scale: float, kind: Any = np.int8) -> str:
        scale_, zero = net.const(np.float32(scale)), net.const(kind(0))
        return net.op("DequantizeLinear", net.op("QuantizeLinear", x, scale_, zero), scale_, zero)

    w = net.rng.integers(-127, 128, (8, 3, 3, 3)).astype(np.int8)
    weights = net.op("DequantizeLinear", net.const(w), net.const(np.float32(0.004)), net.const(np.int8(0)))
    y = net.op("Relu", net.op("Conv", pair("x", 0.03), weights, pads=[1, 1, 1, 1]))
    return net.model(pair(y, 0.05))


def mobile() -> onnx.ModelProto:
    """Inverted residual: depthwise, squeeze and excite, hard swish."""
    net = Net(1, 16, 14, 14)
    y = net.op("HardSwish", net.conv("x", 16, 32, 1))
    y = net.op("HardSwish", net.conv(y, 32, 32, 3, group=32))
    gate = net.conv(net.op("Relu", net.conv(net.op("GlobalAveragePool", y), 32, 8, 1)), 8, 32, 1)
    y = net.op("Mul", y, net.op("HardSigmoid", gate, alpha=1 / 6, beta=0.5))
    return net.model(net.op("Add", "x", net.conv(y, 32, 16, 1)))


def shuffle() -> onnx.ModelProto:
    """Pixel unshuffle, convolution, pixel shuffle (depth in the order that PyTorch has)."""
    net = Net(1, 3, 16, 16)
    y = net.op("SpaceToDepth", "x", blocksize=2)
    y = net.op("Relu", net.conv(y, 12, 12))
    return net.model(net.op("DepthToSpace", net.conv(y, 12, 12), blocksize=2, mode="CRD"))


def norms() -> onnx.ModelProto:
    """Instance norm and GELU by its definition, on maps."""
    net = Net(1, 8, 12, 12)
    y = net.op("InstanceNormalization", net.conv("x", 8, 8), net.weight(8), net.weight(8))
    half, root = net.const(np.float32(0.5)), net.const(np.float32(np.sqrt(2)))
    bell = net.op("Add", net.op("Erf", net.op("Div", y, root)), net.const(np.float32(1)))
    return net.model(net.conv(net.op("Mul", net.op("Mul", y, bell), half), 8, 8))


def branches() -> onnx.ModelProto:
    """Split, dilated and grouped convolutions, concatenation, two outputs."""
    net = Net(1, 8, 20, 20)
    net.nodes.append(helper.make_node("Split", ["x"], ["a", "b"], name="Split", axis=1, num_outputs=2))
    left = net.op("Conv", "a", net.weight(4, 4, 3, 3, fan=36), net.weight(4), pads=[2] * 4, dilations=[2, 2])
    right = net.conv("b", 4, 8, 3, group=2)
    y = net.op("Concat", net.op("LeakyRelu", left, alpha=0.1), net.op("Sigmoid", right), axis=1)
    return net.model(net.conv(y, 12, 4, 1), net.op("AveragePool", y, kernel_shape=[2, 2], strides=[2, 2]))


def detector() -> onnx.ModelProto:
    """Two scales decoded: reshape, transpose, concatenation, arithmetic on slices."""
    net = Net(1, 3, 32, 32)
    top = net.op("Relu", net.conv("x", 3, 8, strides=[2, 2]))
    low = net.op("Relu", net.conv(top, 8, 16, strides=[2, 2]))
    heads = [net.reshape(net.conv(y, c, 6, 1), 1, 6, n) for y, c, n in ((top, 8, 256), (low, 16, 64))]
    y = net.op("Transpose", net.op("Concat", *heads, axis=2), perm=[0, 2, 1])
    ends = [net.const(np.array([n], np.int64)) for n in (0, 2, 4, 6)]
    axis = net.const(np.array([2], np.int64))
    centre, size, score = (net.op("Slice", y, a, b, axis) for a, b in pairwise(ends))
    half = net.op("Mul", net.op("Exp", size), net.const(np.float32(0.5)))
    boxes = net.op("Concat", net.op("Sub", centre, half), net.op("Add", centre, half), axis=2)
    return net.model(boxes, net.op("Softmax", score, axis=2))


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    f.__name__: f
    for f in (
        cnn, unet, attention, prelu, resize, lstm, quantized, mobile, shuffle, norms, branches, detector,
    )
}  # fmt: skip
