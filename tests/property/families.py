"""One small random network for each family of operators, to be put alone or between other operators.

Numbers are whole and small, so that convolutions of them are exact and comparisons do not hang on rounding.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper

Shape = tuple[int, ...]


class Net:
    """Nodes and constants of a network that is being written, and the choices that hypothesis makes."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 9)))
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}

    def __call__(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """A node; its first output (the others are called y0:1, y0:2, ...)."""
        name = f"y{len(self.nodes)}"
        names = [name, *(f"{name}:{i}" for i in range(1, outputs))]
        self.nodes.append(helper.make_node(op_type, list(inputs), names, **attributes))
        return name

    def const(self, array: Any, dtype: Any = np.float32) -> str:
        """A constant."""
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def whole(self, *shape: int, low: int = -3, high: int = 3) -> np.ndarray:
        """Whole numbers in float32."""
        return self.rng.integers(low, high, shape, endpoint=True).astype(np.float32)

    def weights(self, *shape: int) -> str:
        """A constant of whole numbers."""
        return self.const(self.whole(*shape))

    def pick(self, *choices: Any) -> Any:
        """One of these."""
        return self.draw(st.sampled_from(choices))

    def number(self, low: int, high: int) -> int:
        """A number between these, both included."""
        return self.draw(st.integers(low, high))

    def axis(self, shape: Shape) -> int:
        """An axis of a value, also counted from the end."""
        return self.number(-len(shape), len(shape) - 1)

    def axes(self, shape: Shape) -> list[int]:
        """Some of the axes of a value."""
        return sorted(self.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1)))

    def conv(self, x: str, channels: int, outputs: int) -> str:
        """A convolution that keeps the spatial size."""
        size = self.pick(1, 3)
        w = self.weights(outputs, channels, size, size)
        return self("Conv", x, w, self.weights(outputs), pads=[size // 2] * 4)


def unary(net: Net, x: str, shape: Shape) -> str:
    """Functions of one number."""
    name = net.pick(
        *("Relu", "LeakyRelu", "Elu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Softplus", "Softsign"),
        *("Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Erf", "Gelu", "Mish", "Selu", "Celu", "Shrink"),
        *("ThresholdedRelu", "Sin", "Cos", "Atan", "Identity"),
    )
    return net(name, x)


def positive(net: Net, x: str, shape: Shape) -> str:
    """Functions of positive numbers."""
    name = net.pick("Sqrt", "Log", "Reciprocal", "Pow")
    size = net("Add", net("Abs", x), net.const(1))
    return net("Pow", size, net.const(net.pick(0.5, 2, 3, -1))) if name == "Pow" else net(name, size)


def binary(net: Net, x: str, shape: Shape) -> str:
    """Arithmetic with a constant, itself or another value, in every broadcast."""
    kept = [d if net.draw(st.booleans()) else 1 for d in shape][net.number(0, len(shape)) :]
    name = net.pick("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu")
    other = net.const(net.whole(*kept, low=1, high=4))
    if name == "PRelu":
        return net(name, x, other)
    if net.draw(st.booleans()):
        other = net("Relu", x) if name != "Div" else net("Exp", net("Tanh", x))
    return net(name, *net.pick((x, other), (other, x))) if name != "Div" else net(name, x, other)


def choice(net: Net, x: str, shape: Shape) -> str:
    """Comparisons, logic and selection."""
    name = net.pick("Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal")
    condition = net(name, x, net.const(net.whole(*net.pick((), (1,), shape[1:], shape))))
    if net.draw(st.booleans()):
        condition = net(net.pick("And", "Or", "Xor"), condition, net("Not", net("Equal", x, net.const(0))))
    return net("Where", condition, x, net.const(net.whole(*net.pick((), shape[-1:], shape))))


def clip(net: Net, x: str, shape: Shape) -> str:
    """Limits."""
    low, high = net.pick((0, 6), (-1, 1), (0, 1), (-2, 5), (None, 3), (0, None))
    return net("Clip", x, "" if low is None else net.const(low), "" if high is None else net.const(high))


def integers(net: Net, x: str, shape: Shape) -> str:
    """Arithmetic, remainders, bits and shifts of integers."""
    dtype = net.pick(np.int32, np.int64)
    y = net("Cast", x, to=int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype))))
    other = net.const(net.whole(*net.pick((), shape[2:], shape), low=1, high=7), dtype)
    name = net.pick(
        "Add", "Mul", "Div", "Mod", "fmod", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Pow", "BitShift"
    )
    if name == "fmod":
        y = net("Mod", y, other, fmod=1)
    elif name == "Pow":
        y = net("Pow", y, net.const(net.number(0, 3), dtype))
    elif name == "BitShift":
        y = net("Cast", net("Abs", y), to=TensorProto.UINT32)
        y = net("BitShift", y, net.const(net.number(0, 3), np.uint32), direction=net.pick("LEFT", "RIGHT"))
    else:
        y = net(name, y, other)
    return net("Cast", y, to=TensorProto.FLOAT)


def reduction(net: Net, x: str, shape: Shape) -> str:
    """Reductions over any axes."""
    name = net.pick("Sum", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp")
    return net(f"Reduce{name}", x, net.const(net.axes(shape), np.int64), keepdims=net.number(0, 1))


def extreme(net: Net, x: str, shape: Shape) -> str:
    """Indices of extremes, and what is made of them."""
    axis = net.axis(shape)
    index = net(net.pick("ArgMax", "ArgMin"), x, axis=axis, keepdims=1, select_last_index=net.number(0, 1))
    if net.draw(st.booleans()):
        return net("GatherElements", x, index, axis=axis)
    return net("Cast", index, to=TensorProto.FLOAT)


def largest(net: Net, x: str, shape: Shape) -> str:
    """The k largest or smallest, all different."""
    axis = net.axis(shape)
    apart = net("Add", x, net.const(np.arange(np.prod(shape)).reshape(shape) / 1024))
    k = net.const([net.number(1, shape[axis])], np.int64)
    return net("TopK", apart, k, outputs=2, axis=axis, largest=net.number(0, 1))


def running(net: Net, x: str, shape: Shape) -> str:
    """Running sums."""
    axis = net.const(net.axis(shape), np.int64)
    return net("CumSum", x, axis, exclusive=net.number(0, 1), reverse=net.number(0, 1))


def softmax(net: Net, x: str, shape: Shape) -> str:
    """Shares along an axis."""
    return net(net.pick("Softmax", "LogSoftmax", "Hardmax"), x, axis=net.axis(shape))


def norm(net: Net, x: str, shape: Shape) -> str:
    """Normalizations."""
    channels, name = shape[1], net.pick("Layer", "Instance", "Batch", "LRN", "Lp")
    if name == "Layer":
        axis = net.number(1, len(shape) - 1)
        return net("LayerNormalization", x, net.weights(*shape[axis:]), net.weights(*shape[axis:]), axis=axis)
    if name == "LRN":
        return net("LRN", x, size=net.pick(1, 3))
    if name == "Lp":
        return net("LpNormalization", net("Add", x, net.const(0.5)), axis=net.axis(shape), p=net.pick(1, 2))
    scale, bias = net.weights(channels), net.weights(channels)
    if name == "Instance":
        return net("InstanceNormalization", x, scale, bias)
    return net("BatchNormalization", x, scale, bias, net.weights(channels), net.const(np.ones(channels)))


def pool(net: Net, x: str, shape: Shape) -> str:
    """Poolings, global ones too."""
    name = net.pick("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool")
    if name.startswith("Global"):
        return net(name, x)
    kernel = [net.number(1, min(d, 3)) for d in shape[2:]]
    pads = [net.number(0, k - 1) for k in kernel * 2]
    options: dict[str, Any] = {} if name == "LpPool" else {"ceil_mode": net.number(0, 1)}
    if name == "AveragePool":
        options["count_include_pad"] = net.number(0, 1)
    return net(name, x, kernel_shape=kernel, strides=[net.number(1, 2)] * 2, pads=pads, **options)


def resize(net: Net, x: str, shape: Shape) -> str:
    """Resizing of the image."""
    mode = net.pick("nearest", "linear", "cubic")
    coordinates = net.pick("half_pixel", "asymmetric", "pytorch_half_pixel")
    scales = net.const([1, 1, net.pick(0.5, 1, 2, 3), net.pick(1, 2)])
    return net("Resize", x, "", scales, mode=mode, coordinate_transformation_mode=coordinates)


def reorder(net: Net, x: str, shape: Shape) -> str:
    """Permutations and reshapes."""
    perm = net.draw(st.permutations(range(4)))
    y = net("Transpose", x, perm=perm) if net.draw(st.booleans()) else x
    shape = tuple(shape[p] for p in perm) if y != x else shape
    n, c, h, w = shape
    target = net.pick(None, (n, c, h * w), (n * c, h, w), (n, h * w, c), (w, h, c, n), (n, c, 1, h, w))
    y = y if target is None else net("Reshape", y, net.const(target, np.int64))
    rank = 4 if target is None else len(target)
    return net("Transpose", y, perm=net.draw(st.permutations(range(rank)))) if net.draw(st.booleans()) else y


def piece(net: Net, x: str, shape: Shape) -> str:
    """Slices with steps, of either sign."""
    axes = net.axes(shape)
    rows = []
    for axis in axes:
        low, high = sorted((net.number(0, shape[axis] - 1), net.number(0, shape[axis] - 1)))
        step = net.number(1, 2)
        rows.append(
            (low, high + 1, step) if net.draw(st.booleans()) else (high, low - 1 - 99 * (low == 0), -step)
        )
    starts, ends, steps = (net.const(v, np.int64) for v in zip(*rows, strict=True))
    return net("Slice", x, starts, ends, net.const(axes, np.int64), steps)


def parts(net: Net, x: str, shape: Shape) -> str:
    """Splits, and concatenations of what is split."""
    axis = net.axis(shape)
    first = net.number(0, shape[axis] - 1)
    if not first:
        return net("Concat", x, net("Neg", x), net.const(net.whole(*shape)), axis=axis)
    sizes = net.const([first, shape[axis] - first], np.int64)
    one = net("Split", x, sizes, outputs=2, axis=axis)
    return net("Concat", f"{one}:1", net("Relu", one), axis=axis)


def border(net: Net, x: str, shape: Shape) -> str:
    """Borders of every kind."""
    mode = net.pick("constant", "edge", "reflect", "wrap")
    most = [2 if mode in ("constant", "edge") else min(d - 1, 2) for d in shape] * 2
    pads = net.const([net.number(0, m) for m in most], np.int64)
    return (
        net("Pad", x, pads, net.const(net.pick(0, 2)), mode=mode)
        if mode == "constant"
        else net("Pad", x, pads, mode=mode)
    )


def repeat(net: Net, x: str, shape: Shape) -> str:
    """Repetitions."""
    if net.draw(st.booleans()):
        return net("Tile", x, net.const([net.number(1, 2) for _ in shape], np.int64))
    mean = net("ReduceMax", x, net.const([net.pick(1, 2, 3)], np.int64), keepdims=1)
    return net("Expand", mean, net.const(shape, np.int64))


def gather(net: Net, x: str, shape: Shape) -> str:
    """Picks by known and by computed indices."""
    axis = net.axis(shape)
    size = shape[axis]
    indices = net.rng.integers(-size, size, net.pick((), (2,), (2, 3)))
    if net.draw(st.booleans()):
        return net("Gather", x, net.const(indices, np.int64), axis=axis)
    found = net("ReduceMax", net("ArgMax", x, axis=axis, keepdims=0), keepdims=0)
    moved = net("Sub", found, net.const(np.abs(indices) % size, np.int64))
    return net("Gather", x, net("Mod", moved, net.const(size, np.int64)), axis=axis)


def scatter(net: Net, x: str, shape: Shape) -> str:
    """Elements written over a value, or added to it."""
    axis = net.number(0, 3)
    count = net.number(1, shape[axis])
    places = np.stack([net.rng.permutation(shape[axis])[:count]])
    spread = [count if i == axis else d for i, d in enumerate(shape)]
    index = np.broadcast_to(places.reshape([count if i == axis else 1 for i in range(4)]), spread)
    updates = net.weights(*spread)
    reduction = net.pick("none", "add", "max")
    return net("ScatterElements", x, net.const(index, np.int64), updates, axis=axis, reduction=reduction)


def blocks(net: Net, x: str, shape: Shape) -> str:
    """Depth to space and back."""
    if net.draw(st.booleans()):
        deep = net("Concat", x, net("Neg", x), net("Relu", x), net("Abs", x), axis=1)
        return net("DepthToSpace", deep, blocksize=2, mode=net.pick("DCR", "CRD"))
    even = net("Concat", net("Concat", x, x, axis=2), net("Concat", x, x, axis=2), axis=3)
    return net("SpaceToDepth", even, blocksize=2)


def product(net: Net, x: str, shape: Shape) -> str:
    """Matrix products with constants and with itself."""
    kind = net.pick("right", "left", "self", "gemm", "einsum")
    if kind == "right":
        return net("MatMul", x, net.weights(shape[3], net.number(1, 4)))
    if kind == "left":
        return net("MatMul", net.weights(net.number(1, 3), shape[2]), x)
    if kind == "self":
        return net("MatMul", x, net("Transpose", x, perm=[0, 1, 3, 2]))
    if kind == "einsum":
        return net("Einsum", x, net.weights(shape[1], 3), equation="bchw,cd->bdhw")
    flat = net("Flatten", x)
    return net("Gemm", flat, net.weights(3, int(np.prod(shape))), net.weights(3), transB=1)


def transposed(net: Net, x: str, shape: Shape) -> str:
    """Transposed convolutions."""
    kernel, step = net.number(1, 4), net.number(1, 3)
    group = net.pick(*(g for g in range(1, shape[1] + 1) if shape[1] % g == 0))
    pads = [net.number(0, min(kernel, 2) - 1)] * 4
    weights = net.weights(shape[1], 2, kernel, kernel)
    extra = [net.number(0, step - 1)] * 2
    return net("ConvTranspose", x, weights, group=group, strides=[step] * 2, pads=pads, output_padding=extra)


def recurrent(net: Net, x: str, shape: Shape) -> str:
    """Recurrent layers over the rows of an image."""
    kind = net.pick("RNN", "GRU", "LSTM")
    gates, hidden = {"RNN": 1, "GRU": 3, "LSTM": 4}[kind], 3
    steps = net("Reshape", x, net.const((shape[2], shape[0] * shape[1], shape[3]), np.int64))
    w = net.const(net.whole(1, gates * hidden, shape[3]) / 8)
    r = net.const(net.whole(1, gates * hidden, hidden) / 4)
    return net(kind, steps, w, r, hidden_size=hidden)


def sampled(net: Net, x: str, shape: Shape) -> str:
    """Pixels at given places."""
    grid = net.const(net.rng.random((shape[0], 3, 4, 2)) * 2.4 - 1.2)
    padding = net.pick("zeros", "border", "reflection")
    return net("GridSample", x, grid, mode=net.pick("linear", "cubic"), padding_mode=padding)


def pattern(net: Net, x: str, shape: Shape) -> str:
    """Triangles, one-hot rows, reversed sequences."""
    kind = net.pick("Trilu", "OneHot", "ReverseSequence")
    if kind == "Trilu":
        return net("Trilu", x, net.const(net.number(-2, 2), np.int64), upper=net.number(0, 1))
    if kind == "OneHot":
        index = net("ArgMax", x, axis=1, keepdims=0)
        return net("OneHot", index, net.const([shape[1]], np.int64), net.const([-1, 2]), axis=net.pick(-1, 1))
    rows = net("Reshape", x, net.const((shape[1], shape[2], shape[3]), np.int64))
    lengths = net.const(net.rng.integers(1, shape[2] + 1, shape[1]), np.int64)
    return net("ReverseSequence", rows, lengths, time_axis=1, batch_axis=0)


def quantized(net: Net, x: str, shape: Shape) -> str:
    """Numbers quantized and dequantized, per tensor and per channel."""
    dtype = net.pick(np.int8, np.uint8)
    per_channel = net.draw(st.booleans())
    size = (shape[1],) if per_channel else ()
    scale, zero = net.const(np.full(size, 0.5)), net.const(np.full(size, 3), dtype)
    axis = {"axis": 1} if per_channel else {}
    return net("DequantizeLinear", net("QuantizeLinear", x, scale, zero, **axis), scale, zero, **axis)


def unpooled(net: Net, x: str, shape: Shape) -> str:
    """Maxima with their places, put back."""
    pads = net.const([0] * 6 + [d % 2 for d in shape[2:]], np.int64)
    apart = net("Add", x, net.const(np.arange(np.prod(shape)).reshape(shape) / 1024))
    best = net("MaxPool", net("Pad", apart, pads), outputs=2, kernel_shape=[2, 2], strides=[2, 2])
    if net.draw(st.booleans()):
        return net("Cast", f"{best}:1", to=TensorProto.FLOAT)
    return net("MaxUnpool", best, f"{best}:1", kernel_shape=[2, 2], strides=[2, 2])


def moved(net: Net, x: str, shape: Shape) -> str:
    """Values of other element types, moved about."""
    kind = net.pick("INT8", "UINT8", "INT32", "INT64", "BOOL", "FLOAT16")
    y = net("Cast", net("Abs", x) if kind == "UINT8" else x, to=TensorProto.DataType.Value(kind))
    move = net.pick("reorder", "piece", "Tile", "Split", "Gather", "Expand")
    if move in ("reorder", "piece"):
        y = {"reorder": reorder, "piece": piece}[move](net, y, shape)
    elif move == "Tile":
        y = net("Tile", y, net.const([net.number(1, 2) for _ in shape], np.int64))
    elif move == "Split":
        axis, first = net.number(1, 3), 1
        if shape[axis] > 1:
            sizes = net.const([first, shape[axis] - first], np.int64)
            y = net("Split", y, sizes, outputs=2, axis=axis)
            y = net("Concat", f"{y}:1", y, axis=axis)
    elif move == "Gather":
        axis = net.number(1, 3)
        y = net("Gather", y, net.const(net.rng.integers(0, shape[axis], (2, 2)), np.int64), axis=axis)
    else:
        y = net("Expand", net("Unsqueeze", y, net.const([2], np.int64)), net.const([1, 1, 3, 1, 1], np.int64))
    return net("Cast", y, to=TensorProto.FLOAT)


FAMILIES: dict[str, Callable[[Net, str, Shape], str]] = {
    family.__name__: family
    for family in (
        *(unary, positive, binary, choice, clip, integers, reduction, extreme, largest, running, softmax),
        *(norm, pool, resize, reorder, piece, parts, border, repeat, gather, scatter, blocks, product),
        *(transposed, recurrent, sampled, pattern, quantized, unpooled, moved),
    )
}
"""A network of each family over a float value of rank 4."""
