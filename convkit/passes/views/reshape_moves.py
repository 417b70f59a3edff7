"""Reshapes moved past operators that work along the last axis only, to where other views are."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant, input_at, is_constant, is_op, rank_of, shape_of, sole_user
from convkit.passes.views.block_steps import MAX_RANK
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewrite, Rewriter, register

_UNARY = ("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Gelu", "Swish", "HardSwish", "HardSigmoid", "Exp", "Sqrt")
_WITH_VECTOR = ("Add", "Sub", "Mul", "Div")
_ROWWISE = ("MatMul", "Gemm", "LayerNormalization", *_WITH_VECTOR, *_UNARY)
_FARTHEST = 6


def rowwise_input(node: ir.Node | None) -> ir.Value | None:
    """The operand whose rows (along the last axis) `node` treats each by itself and alike, or None."""
    if not is_op(node, *_ROWWISE):
        return None
    assert node is not None
    x = input_at(node, 0)
    if x is None or is_constant(x) or x.shape is None or rank_of(x) == 0:
        return None
    rank = rank_of(x)
    if node.op_type in _WITH_VECTOR:
        vector = input_at(node, 1)
        alike = is_constant(vector) and _is_vector(vector, shape_of(x)[-1])
        return x if alike and shape_of(x) == shape_of(node.outputs[0]) else None
    if node.op_type == "MatMul":
        w = input_at(node, 1)
        return x if w is not None and is_constant(w) and rank_of(w) == 2 else None
    if node.op_type == "Gemm":
        bias = input_at(node, 2)
        columns = shape_of(node.outputs[0])[-1]
        alike = bias is None or (is_constant(bias) and _is_vector(bias, columns))
        return x if alike and is_constant(input_at(node, 1)) and not attr(node, "transA", 0) else None
    if node.op_type == "LayerNormalization":
        return x if attr(node, "axis") == rank - 1 and len(node.outputs) == 1 else None
    return x


def _is_vector(value: ir.Value | None, size: int) -> bool:
    assert value is not None
    shape = shape_of(value)
    return all(n == 1 for n in shape[:-1]) and (not shape or shape[-1] in (1, size))


def _rebuilt(rw: Rewriter, node: ir.Node, x: ir.Value) -> ir.Value:
    """`node` done on `x`, which has the same rows in another arrangement."""
    attributes = {a.name: a.value for a in node.attributes.values() if isinstance(a, ir.Attr)}
    if node.op_type == "Gemm":
        w, bias = constant(node.inputs[1]), constant(input_at(node, 2))
        assert w is not None
        w = (w.T if attr(node, "transB", 0) else w) * w.dtype.type(attr(node, "alpha", 1.0))
        y = rw.op("MatMul", x, rw.const(np.ascontiguousarray(w)))
        if bias is None:
            return y
        return rw.op("Add", y, rw.const(bias.reshape(-1) * bias.dtype.type(attr(node, "beta", 1.0))))
    if node.op_type in _WITH_VECTOR:
        vector = constant(node.inputs[1])
        assert vector is not None
        return rw.op(node.op_type, x, rw.const(vector.reshape(-1) if vector.size > 1 else vector.reshape(())))
    if node.op_type == "LayerNormalization":
        attributes["axis"] = rank_of(x) - 1
    return rw.op(node.op_type, x, *node.inputs[1:], **attributes)


def _view_below(value: ir.Value) -> bool:
    """Whether row by row operators lead from `value` to a Reshape or Transpose, without other readers."""
    for _ in range(_FARTHEST):
        reader = sole_user(value)
        if is_op(reader, "Reshape", "Transpose"):
            return True
        if reader is None or rowwise_input(reader) is not value:
            return False
        value = reader.outputs[0]
    return False


def _view_above(value: ir.Value) -> bool:
    """Whether row by row operators lead from a Reshape or Transpose to `value`, without other readers."""
    for _ in range(_FARTHEST):
        node = value.producer()
        if sole_user(value) is None:
            return False
        if is_op(node, "Reshape", "Transpose"):
            return True
        x = rowwise_input(node)
        if x is None:
            return False
        value = x
    return False


@register
class ReshapeAfter(Rewrite):
    """A Reshape that keeps the last axis sinks below a row by row operator to merge with the next view."""

    id = "CK-VIEW-060"
    name = "reshape-after"
    law = "f(Reshape(x)) = Reshape(f(x)), f row by row"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any, shape: Any, a: Any = None, b: Any = None) -> Pattern:
        view = op.Reshape(x, shape, name="view")
        return op.any_of(*(getattr(op, kind)(view, a, b) for kind in _ROWWISE))

    def check(self, match: Match) -> Facts | NoMatch:
        x, y = match["x"], match.node("view").outputs[0]
        if rowwise_input(match.root) is not y:
            return NoMatch("it does not work row by row", match.root)
        if not 2 <= rank_of(x) <= MAX_RANK or shape_of(x)[-1] != shape_of(y)[-1] or is_constant(x):
            return NoMatch("the Reshape changes the last axis", match.node("view"))
        if not _view_below(match.root.outputs[0]):
            return NoMatch("no view follows that it could merge with", match.root)
        return {}

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        made = _rebuilt(rw, match.root, match["x"])
        return rw.op("Reshape", made, rw.ints(shape_of(match.root.outputs[0])))


@register
class ReshapeBefore(Rewrite):
    """A Reshape that keeps the last axis rises above a row by row operator to merge with the view there."""

    id = "CK-VIEW-061"
    name = "reshape-before"
    law = "Reshape(f(x)) = f(Reshape(x)), f row by row"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, shape: Any, x: Any, a: Any = None, b: Any = None) -> Pattern:
        rowwise = (getattr(op, kind)(x, a, b, name="f") for kind in _ROWWISE)
        return op.Reshape(op.any_of(*rowwise), shape)

    def check(self, match: Match) -> Facts | NoMatch:
        node, target = match.node("f"), shape_of(match.root.outputs[0])
        x = rowwise_input(node)
        if x is None:
            return NoMatch("it does not work row by row", node)
        if not 2 <= len(target) <= MAX_RANK or target[-1] != shape_of(node.outputs[0])[-1]:
            return NoMatch("the Reshape changes the last axis", match.root)
        if is_op(sole_user(match.root.outputs[0]), "Reshape", "Transpose"):
            return NoMatch("the next view is below", match.root)
        if not _view_above(x):
            return NoMatch("no view comes before that it could merge with", node)
        return {"x": x}

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value) -> ir.Value:
        target = shape_of(match.root.outputs[0])
        return _rebuilt(rw, match.node("f"), rw.op("Reshape", x, rw.ints((*target[:-1], shape_of(x)[-1]))))
