"""Activations and arithmetic. Caffe broadcasts in Scale alone: a blob, or a second input, over named axes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from convkit.dialects.caffe.lowering.builder import Builder, constant_of, lowers
from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.unsupported import UnsupportedError
from convkit.ir.facts import attr, constant, input_at, scalar, shape_of

_PLAIN = {
    "Relu": "ReLU",
    "Sigmoid": "Sigmoid",
    "Tanh": "TanH",
    "Softplus": "BNLL",
    "Abs": "AbsVal",
    "Exp": "Exp",
    "Log": "Log",
}


@lowers(*_PLAIN)
def plain(b: Builder, node: ir.Node) -> Tensor:
    """One layer without parameters."""
    return b.unary(_PLAIN[node.op_type], b.input(node))


@lowers("LeakyRelu")
def leaky_relu(b: Builder, node: ir.Node) -> Tensor:
    """ReLU with a slope."""
    return b.unary("ReLU", b.input(node), negative_slope=float(attr(node, "alpha", 0.01)))


@lowers("Elu")
def elu(b: Builder, node: ir.Node) -> Tensor:
    """ELU."""
    return b.unary("ELU", b.input(node), alpha=float(attr(node, "alpha", 1.0)))


@lowers("PRelu")
def prelu(b: Builder, node: ir.Node) -> Tensor:
    """PReLU with one slope, or one for each channel."""
    x, slope = b.input(node), constant_of(node, 1)
    wanted = (x.shape[1],) + (1,) * (x.rank - 2)
    if slope.size == 1:
        return b.emit("PReLU", [x, b.const(slope.reshape(1))], x.shape, channel_shared=True)
    if (1,) * (x.rank - slope.ndim) + slope.shape != (1, *wanted):
        raise UnsupportedError(f"its slopes have the shape {list(slope.shape)}, not one for each channel")
    return b.emit("PReLU", [x, b.const(slope.reshape(-1))], x.shape)


@lowers("Identity")
def identity(b: Builder, node: ir.Node) -> Tensor:
    """The input itself."""
    return b.input(node)


@lowers("Cast")
def cast(b: Builder, node: ir.Node) -> Tensor:
    """Nothing, between types of floats."""
    if attr(node, "to") not in (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
        raise UnsupportedError("Caffe's blobs hold floats")
    return b.input(node)


def _powers(op_type: str) -> tuple[float, float]:
    return {"Sqrt": (0.5, 1.0), "Reciprocal": (-1.0, 1.0), "Neg": (1.0, -1.0)}[op_type]


@lowers("Sqrt", "Reciprocal", "Neg")
def powers(b: Builder, node: ir.Node) -> Tensor:
    """Power."""
    power, scale = _powers(node.op_type)
    return b.power(b.input(node), power, scale)


@lowers("Pow")
def pow_(b: Builder, node: ir.Node) -> Tensor:
    """Power with a constant exponent."""
    exponent = scalar(input_at(node, 1))
    if exponent is None:
        raise UnsupportedError("its exponent is not one constant")
    return b.power(b.input(node), exponent)


def clipped(b: Builder, x: Tensor, low: float, high: float) -> Tensor:
    """x between two bounds, by ReLU: low + relu(x - low) - relu(x - high)."""
    if not math.isfinite(high):
        return b.power(b.unary("ReLU", b.power(x, shift=-low)), shift=low)
    if not math.isfinite(low):
        return b.power(b.unary("ReLU", b.power(x, scale=-1, shift=high)), scale=-1, shift=high)
    above = b.unary("ReLU", b.power(x, shift=-low))
    over = b.unary("ReLU", b.power(x, shift=-high))
    return b.power(b.eltwise("SUM", above, over, coeff=(1.0, -1.0)), shift=low)


@lowers("Clip")
def clip(b: Builder, node: ir.Node) -> Tensor:
    """Clip between constants."""
    bounds = [
        math.inf * sign if input_at(node, at) is None else scalar(input_at(node, at))
        for at, sign in ((1, -1), (2, 1))
    ]
    low, high = bounds
    if low is None or high is None:
        raise UnsupportedError("its bounds are not constant")
    x = b.input(node)
    return x if (low, high) == (-math.inf, math.inf) else clipped(b, x, low, high)


@lowers("HardSigmoid")
def hard_sigmoid(b: Builder, node: ir.Node) -> Tensor:
    """clip(alpha * x + beta, 0, 1)."""
    x = b.power(b.input(node), scale=attr(node, "alpha", 0.2), shift=attr(node, "beta", 0.5))
    return clipped(b, x, 0, 1)


@lowers("HardSwish")
def hard_swish(b: Builder, node: ir.Node) -> Tensor:
    """x * clip(x / 6 + 1/2, 0, 1)."""
    x = b.input(node)
    return b.eltwise("PROD", x, clipped(b, b.power(x, scale=1 / 6, shift=0.5), 0, 1))


@lowers("Swish")
def swish(b: Builder, node: ir.Node) -> Tensor:
    """x * sigmoid(alpha * x)."""
    x = b.input(node)
    return b.eltwise("PROD", x, b.unary("Sigmoid", b.power(x, scale=attr(node, "alpha", 1.0))))


@lowers("Mish")
def mish(b: Builder, node: ir.Node) -> Tensor:
    """x * tanh(softplus(x))."""
    x = b.input(node)
    return b.eltwise("PROD", x, b.unary("TanH", b.unary("BNLL", x)))


@lowers("Gelu")
def gelu(b: Builder, node: ir.Node) -> Tensor:
    """The tanh form only: Caffe has no error function."""
    if attr(node, "approximate", "none") != "tanh":
        raise UnsupportedError("Caffe has no error function")
    x = b.input(node)
    cube = b.eltwise("PROD", x, b.eltwise("PROD", x, x))
    inner = b.eltwise("SUM", x, cube, coeff=(math.sqrt(2 / math.pi), 0.044715 * math.sqrt(2 / math.pi)))
    return b.eltwise("PROD", x, b.power(b.unary("TanH", inner), scale=0.5, shift=0.5))


# -- two operands --------------------------------------------------------------------------------


def spanned(shape: tuple[int, ...], result: tuple[int, ...]) -> tuple[int, int] | None:
    """The dimensions (axis, count) of `result` that an operand really has; None if not in a row."""
    full = (1,) * (len(result) - len(shape)) + shape
    real = [i for i, size in enumerate(full) if size != 1]
    if not real:
        return 0, 0
    axis, count = real[0], real[-1] - real[0] + 1
    return (axis, count) if full[axis : axis + count] == result[axis : axis + count] else None


def _span(shape: tuple[int, ...], result: tuple[int, ...]) -> tuple[int, int]:
    found = spanned(shape, result)
    if found is None:
        raise UnsupportedError(f"{list(shape)} is broadcast to {list(result)} over dimensions not in a row")
    return found


def scaled(b: Builder, x: Tensor, factor: np.ndarray, offset: np.ndarray) -> Tensor:
    """x * factor + offset by constants of one shape, broadcast to x."""
    axis, count = _span(factor.shape, x.shape)
    if count == 0:
        return b.power(x, scale=factor.item(), shift=offset.item())
    shape = x.shape[axis : axis + count]
    options = {"axis": axis, "num_axes": count, "bias_term": bool(np.any(offset))}
    blobs = [b.const(factor.reshape(shape)), b.const(offset.reshape(shape)) if np.any(offset) else None]
    return b.emit("Scale", [x, *blobs], x.shape, **options)


def times(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """x * y, where y may be broadcast over dimensions of x in front or behind."""
    if x.shape == y.shape:
        return b.eltwise("PROD", x, y)
    axis, count = _span(y.shape, x.shape)
    # Scale's second input starts at `axis` of the first; a leading 1 would not be broadcast.
    shape = x.shape[axis : axis + count] if count else (1,) * (x.rank and 1)
    y = b.reshape(y, shape)
    return b.emit("Scale", [x, y], x.shape, axis=axis)


def expanded(b: Builder, y: Tensor, like: Tensor) -> Tensor:
    """y broadcast to the shape of `like`: times ones."""
    return y if y.shape == like.shape else times(b, b.power(like, scale=0, shift=1), y)


def _larger(b: Builder, x: Tensor, y: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor, bool]:
    """The operand that has the result's shape, the other one, and whether they changed places."""
    if x.shape == shape:
        return x, y, False
    if y.shape == shape:
        return y, x, True
    full = [b.reshape(t, (1,) * (len(shape) - t.rank) + t.shape) for t in (x, y)]
    if full[0].shape == shape:
        return full[0], y, False
    if full[1].shape == shape:
        return full[1], x, True
    raise UnsupportedError(f"{list(x.shape)} and {list(y.shape)} are both broadcast")


Pairwise = Callable[[Builder, Tensor, Tensor], Tensor]


def _same(operation: str, coeff: tuple[float, ...] = ()) -> Pairwise:
    def apply(b: Builder, x: Tensor, y: Tensor) -> Tensor:
        return b.eltwise(operation, x, y, coeff=coeff)

    return apply


def _runtime(b: Builder, node: ir.Node, combine: Callable[[Tensor, Tensor, bool], Tensor]) -> Tensor:
    shape = shape_of(node.outputs[0])
    return combine(*_larger(b, b.input(node, 0), b.input(node, 1), shape))


def _array(node: ir.Node, index: int) -> np.ndarray | None:
    found = constant(input_at(node, index))
    return None if found is None else np.asarray(found, np.float32)


def _with_constant(b: Builder, node: ir.Node) -> tuple[Tensor, np.ndarray, bool] | None:
    """The computed operand in the result's rank, the constant, and whether the constant comes first."""
    for at in (0, 1):
        array = _array(node, at)
        if array is not None:
            x, shape = b.input(node, 1 - at), shape_of(node.outputs[0])
            x = b.reshape(x, (1,) * (len(shape) - x.rank) + x.shape)
            if x.shape != shape:
                raise UnsupportedError("a constant makes its operand larger")
            return x, array, at == 0
    return None


@lowers("Add", "Sub")
def add(b: Builder, node: ir.Node) -> Tensor:
    """Power or Scale with a constant, else Eltwise SUM."""
    minus = node.op_type == "Sub"
    found = _with_constant(b, node)
    if found is not None:
        x, array, first = found
        one = np.ones_like(array)
        return scaled(b, x, -one if minus and first else one, -array if minus and not first else array)

    def combine(x: Tensor, y: Tensor, swapped: bool) -> Tensor:
        signs = ((-1.0, 1.0) if swapped else (1.0, -1.0)) if minus else ()
        return b.eltwise("SUM", x, expanded(b, y, x), coeff=signs)

    return _runtime(b, node, combine)


@lowers("Mul")
def mul(b: Builder, node: ir.Node) -> Tensor:
    """Power or Scale with a constant, else Eltwise PROD or Scale of two inputs."""
    found = _with_constant(b, node)
    if found is not None:
        return scaled(b, found[0], found[1], np.zeros_like(found[1]))
    return _runtime(b, node, lambda x, y, swapped: times(b, x, y))


@lowers("Div")
def div(b: Builder, node: ir.Node) -> Tensor:
    """Times the reciprocal."""
    found = _with_constant(b, node)
    if found is not None:
        x, array, first = found
        if first:
            x, factor = b.power(x, power=-1), array
        else:
            factor = np.float32(1) / array
        return scaled(b, x, factor, np.zeros_like(factor))

    def combine(x: Tensor, y: Tensor, swapped: bool) -> Tensor:
        return times(b, b.power(x, power=-1), y) if swapped else times(b, x, b.power(y, power=-1))

    return _runtime(b, node, combine)


@lowers("Max", "Min")
def extreme(b: Builder, node: ir.Node) -> Tensor:
    """Eltwise MAX, or ReLU against a number; a minimum is the negative of a maximum."""
    sign = 1.0 if node.op_type == "Max" else -1.0
    if len(node.inputs) != 2:
        raise UnsupportedError("it has not two operands")
    found = _with_constant(b, node)
    if found is not None:
        x, array, _ = found
        if array.size != 1:
            raise UnsupportedError("its constant is no single number")
        bound = array.item()
        low, high = (bound, math.inf) if sign > 0 else (-math.inf, bound)
        return clipped(b, x, low, high)

    def combine(x: Tensor, y: Tensor, swapped: bool) -> Tensor:
        y = expanded(b, y, x)
        return b.power(b.eltwise("MAX", b.power(x, scale=sign), b.power(y, scale=sign)), scale=sign)

    return _runtime(b, node, combine)
