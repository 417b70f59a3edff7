"""Two views that most fusions share: a node that is linear in its input, and one that is affine per channel.

Arithmetic on weights is in float64 and rounded once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant, input_at, is_constant, rank_of, shape_of
from convkit.rewrite import NoMatch, Rewriter

Array = np.ndarray

LINEAR = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Linear:
    """y = w * x + b for Conv, ConvTranspose, Gemm and MatMul with constant weights.

    `weights` has the axes (group, outputs of a group, inputs of a group, *kernel): a view of the stored ones
    until they are `scaled`, float64 from then on. `bias` is per output channel in float64, or None; `axis` is
    the channel axis of the output.
    """

    node: ir.Node
    x: ir.Value
    weights: Array
    bias: Array | None
    axis: int
    scaled: bool = False

    @property
    def wide(self) -> Array:
        """The weights in float64."""
        return self.weights.astype(np.float64, copy=False)

    @property
    def channels(self) -> int:
        """Output channels."""
        return int(self.weights.shape[0] * self.weights.shape[1])

    @property
    def has_bias_input(self) -> bool:
        """Whether a bias can be added: a MatMul becomes a Gemm for it, which takes rank 2."""
        return self.node.op_type != "MatMul" or rank_of(self.x) == 2

    def then(self, scale: Array | None, shift: Array | None) -> Linear:
        """scale * y + shift, both per output channel."""
        weights, bias = self.weights, self.bias
        if scale is not None:
            per_output = scale.reshape(*weights.shape[:2], *(1,) * (weights.ndim - 2))
            weights = self.wide * per_output
            bias = None if bias is None else bias * scale
        if shift is not None:
            bias = shift if bias is None else bias + shift
        return replace(self, weights=weights, bias=bias, scaled=self.scaled or scale is not None)

    def after(self, x: ir.Value, scale: Array | None, shift: Array | None) -> Linear:
        """The same of scale * x + shift, both per input channel; a shift needs a window that never pads."""
        groups, _, inputs, *kernel = self.weights.shape
        weights, bias = self.weights, self.bias
        ones = (1,) * len(kernel)
        if shift is not None:
            moved = self.wide * shift.reshape(groups, 1, inputs, *ones)
            added = moved.sum(axis=tuple(range(2, weights.ndim))).reshape(-1)
            bias = added if bias is None else bias + added
        if scale is not None:
            weights = self.wide * scale.reshape(groups, 1, inputs, *ones)
        return replace(self, x=x, weights=weights, bias=bias, scaled=self.scaled or scale is not None)

    def fits(self) -> bool:
        """Whether all numbers that changed are finite in the type of the weights."""
        limit = float(np.finfo(_weights(self.node).dtype).max)
        arrays = ([self.weights] if self.scaled else []) + ([] if self.bias is None else [self.bias])
        return all(np.all(np.abs(a) <= limit) for a in arrays)

    def build(self, rw: Rewriter) -> ir.Value:
        """The node with these weights and this bias."""
        node, dtype = self.node, _weights(self.node).dtype
        stored = node.inputs[1]
        if self.scaled:
            stored = rw.const(_stored(self.weights, node).astype(dtype), "weight")
        bias = None if self.bias is None else rw.const(self.bias.astype(dtype), "bias")
        kept = {name: attr(node, name) for name in node.attributes}
        if node.op_type in ("Gemm", "MatMul"):
            transposed = {"transB": 1} if attr(node, "transB", 0) else {}
            linear = "MatMul" if bias is None else "Gemm"
            if linear == "MatMul" and transposed:
                return rw.op("Gemm", self.x, stored, **transposed)
            return rw.op(linear, self.x, stored, bias, **transposed)
        return rw.op(node.op_type, self.x, stored, bias, **kept)


def linear(node: ir.Node) -> Linear | NoMatch:
    """The linear view of `node`, or why it has none."""
    weights, bias = constant(input_at(node, 1)), constant(input_at(node, 2))
    if weights is None:
        return NoMatch("the weights are not constant", node)
    if weights.dtype.kind != "f":
        return NoMatch("the weights are not floating-point", node)
    if input_at(node, 2) is not None and bias is None:
        return NoMatch("the bias is not constant", node)
    x = node.inputs[0]
    assert x is not None
    scaled = False
    if node.op_type == "Conv":
        group = attr(node, "group", 1)
        weights = weights.reshape(group, -1, *weights.shape[1:])
    elif node.op_type == "ConvTranspose":
        group = attr(node, "group", 1)
        weights = np.swapaxes(weights.reshape(group, -1, *weights.shape[1:]), 1, 2)
    else:
        if weights.ndim != 2:
            return NoMatch("the weights are no matrix", node)
        if attr(node, "transA", 0):
            return NoMatch("the input is transposed", node)
        weights = (weights if attr(node, "transB", 0) else weights.T)[None]
        alpha = attr(node, "alpha", 1.0)
        if alpha != 1:
            weights, scaled = weights.astype(np.float64) * alpha, True
    channels = weights.shape[0] * weights.shape[1]
    if bias is not None:
        if bias.size != 1 and (bias.size != channels or bias.shape[-1] != channels):
            return NoMatch("the bias is not one number a channel", node)
        bias = np.broadcast_to(bias.astype(np.float64).reshape(-1), (channels,)) * attr(node, "beta", 1.0)
    axis = 1 if node.op_type in ("Conv", "ConvTranspose") else rank_of(node.outputs[0]) - 1
    return Linear(node, x, weights, bias, axis, scaled)


def _weights(node: ir.Node) -> Array:
    weights = constant(input_at(node, 1))
    assert weights is not None
    return weights


def _stored(weights: Array, node: ir.Node) -> Array:
    """The weights with the axes that the operator's second input has."""
    if node.op_type == "Conv":
        return weights.reshape(-1, *weights.shape[2:])
    if node.op_type == "ConvTranspose":
        swapped = np.swapaxes(weights, 1, 2)
        return swapped.reshape(-1, *swapped.shape[2:])
    return weights[0] if attr(node, "transB", 0) else np.ascontiguousarray(weights[0].T)


@dataclass(frozen=True)
class Affine:
    """scale * x + shift, each one number per channel of `axis`, or None for 1 and 0."""

    x: ir.Value
    scale: Array | None
    shift: Array | None


def affine(node: ir.Node, axis: int) -> Affine | NoMatch:
    """BatchNormalization, or arithmetic with a constant, as an affine map per channel of `axis`."""
    if node.op_type == "BatchNormalization":
        return _batchnorm(node, axis)
    if node.op_type == "Neg":
        assert node.inputs[0] is not None
        return Affine(node.inputs[0], np.full(shape_of(node.outputs[0])[axis], -1.0), None)
    left, right = node.inputs
    assert left is not None
    assert right is not None
    flipped = is_constant(left)
    x, c = (right, left) if flipped else (left, right)
    if shape_of(x) != shape_of(node.outputs[0]):
        return NoMatch("the constant widens the other operand", node)
    number = per_channel(c, shape_of(x), axis)
    if number is None:
        return NoMatch("the other operand is not one constant a channel", node)
    with np.errstate(divide="ignore"):
        if node.op_type == "Add":
            return Affine(x, None, number)
        if node.op_type == "Mul":
            return Affine(x, number, None)
        if node.op_type == "Sub":
            return Affine(x, -np.ones_like(number), number) if flipped else Affine(x, None, -number)
        if node.op_type == "Div" and not flipped:
            return Affine(x, 1.0 / number, None)
    return NoMatch("the operator is not affine", node)


def _batchnorm(node: ir.Node, axis: int) -> Affine | NoMatch:
    x, *rest = node.inputs
    assert x is not None
    arrays = [constant(v) for v in rest]
    if axis != 1 or any(a is None for a in arrays):
        return NoMatch("the statistics are not constant or lie on another axis", node)
    gamma, beta, mean, var = (a.astype(np.float64) for a in arrays if a is not None)
    scale = gamma / np.sqrt(var + attr(node, "epsilon", 1e-5))
    return Affine(x, scale, beta - mean * scale)


def per_channel(value: ir.Value | None, shape: tuple[int, ...], axis: int) -> Array | None:
    """A constant that broadcasts to `shape` and varies along `axis` only, as a float64 vector."""
    array = constant(value)
    if array is None or array.dtype.kind != "f" or array.ndim > len(shape):
        return None
    full = array.reshape((1,) * (len(shape) - array.ndim) + array.shape)
    if any(n != 1 for i, n in enumerate(full.shape) if i != axis) or full.shape[axis] not in (1, shape[axis]):
        return None
    return np.broadcast_to(full.reshape(-1), (shape[axis],)).astype(np.float64)


def channel_shape(vector: Array, rank: int, axis: int) -> Array:
    """A vector as a constant that broadcasts along `axis` of a value of `rank`."""
    return vector.reshape([-1 if i == axis else 1 for i in range(rank)])


def linear_pattern(op: Any, x: Any, w: Any, b: Any) -> Any:
    """Any of the linear operators, bound as "linear"."""
    return op.any_of(
        op.Conv(x, w, b, name="linear"),
        op.MatMul(x, w, name="linear"),
        op.Gemm(x, w, b, name="linear"),
        op.ConvTranspose(x, w, b, name="linear"),
    )
