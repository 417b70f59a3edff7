"""Operators of a rank above 4 done in rank 4: axes that an operator treats alike travel together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import onnx_ir as ir

from convkit.ir.facts import attr, ints, rank_of, shape_of
from convkit.passes.views.block_steps import MAX_RANK
from convkit.passes.walking import WalkingRewrite
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewriter, register

_UNARY = (
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Swish", "Tanh", "ThresholdedRelu",
)  # fmt: skip
_BROADCASTING = (
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min",
    "Mul", "Or", "PRelu", "Pow", "Sub", "Where", "Xor",
)  # fmt: skip
_REDUCING = (
    "ReduceL1", "ReduceL2", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip
_ALONG = ("Softmax", "LogSoftmax", "Concat", "Split", "Gather")

Groups = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """How an operator sees its axes: neighbours with equal labels may merge; `inputs` lie on them.

    `attributes` and `operands` are the attributes and integer inputs that speak of axes, for given groups.
    """

    shape: tuple[int, ...]
    labels: tuple[Hashable, ...]
    inputs: tuple[int, ...]
    attributes: Callable[[Groups], dict[str, Any]] = lambda groups: {}
    operands: Callable[[Groups], dict[int, Sequence[int]]] = lambda groups: {}


def _elementwise(node: ir.Node) -> Frame:
    inputs = (0,) if node.op_type in _UNARY else tuple(range(len(node.inputs)))
    shape = shape_of(node.outputs[0])
    padded = [_padded(shape_of(_data(node, i)), len(shape)) for i in inputs]
    labels = tuple(tuple(p[a] == 1 for p in padded) for a in range(len(shape)))
    return Frame(shape, labels, inputs)


def _along(node: ir.Node) -> Frame:
    shape, axis = shape_of(_data(node, 0)), attr(node, "axis")
    inputs = tuple(range(len(node.inputs))) if node.op_type == "Concat" else (0,)
    labels = tuple("axis" if a == axis else a < axis for a in range(len(shape)))
    return Frame(shape, labels, inputs, lambda groups: {"axis": _group_of(groups, axis)})


def _reduced(node: ir.Node) -> Frame:
    shape, axes = shape_of(_data(node, 0)), ints(node.inputs[1]) or ()

    def operands(groups: Groups) -> dict[int, Sequence[int]]:
        return {1: sorted({_group_of(groups, a) for a in axes})}

    return Frame(shape, tuple(a in axes for a in range(len(shape))), (0,), operands=operands)


def _expanded(node: ir.Node) -> Frame:
    shape = shape_of(node.outputs[0])
    given = _padded(shape_of(_data(node, 0)), len(shape))

    def operands(groups: Groups) -> dict[int, Sequence[int]]:
        return {1: [prod(shape[a:b]) for a, b in groups]}

    return Frame(shape, tuple(n == 1 for n in given), (0,), operands=operands)


def _tiled(node: ir.Node) -> Frame:
    shape, repeats = shape_of(_data(node, 0)), ints(node.inputs[1]) or ()
    labels = tuple(f"axis {a}" if n > 1 else False for a, n in enumerate(repeats))
    return Frame(shape, labels, (0,), operands=lambda groups: {1: [prod(repeats[a:b]) for a, b in groups]})


def _sliced(node: ir.Node) -> Frame:
    shape, axes = shape_of(_data(node, 0)), ints(node.inputs[3]) or ()
    labels = tuple(f"axis {a}" if a in axes else False for a in range(len(shape)))
    return Frame(shape, labels, (0,), operands=lambda groups: {3: [_group_of(groups, a) for a in axes]})


def _bordered(node: ir.Node) -> Frame:
    shape, pads = shape_of(_data(node, 0)), ints(node.inputs[1]) or ()
    rank = len(shape)
    labels = tuple(f"axis {a}" if pads[a] or pads[a + rank] else False for a in range(rank))

    def operands(groups: Groups) -> dict[int, Sequence[int]]:
        return {1: [max(pads[a + end : b + end], key=abs) for end in (0, rank) for a, b in groups]}

    return Frame(shape, labels, (0,), operands=operands)


def _matmul(node: ir.Node) -> Frame:
    shape = shape_of(node.outputs[0])
    padded = [_padded(shape_of(_data(node, i)), len(shape)) for i in (0, 1)]
    batch = [tuple(p[a] == 1 for p in padded) for a in range(len(shape) - 2)]
    return Frame(shape, (*batch, "rows", "columns"), (0, 1))


_FRAMES: dict[str, Callable[[ir.Node], Frame]] = {
    **dict.fromkeys((*_UNARY, *_BROADCASTING), _elementwise),
    **dict.fromkeys(_ALONG, _along),
    **dict.fromkeys(_REDUCING, _reduced),
    "MatMul": _matmul,
    "Expand": _expanded,
    "Tile": _tiled,
    "Slice": _sliced,
    "Pad": _bordered,
}


@register
class CutRank(WalkingRewrite):
    """An operator of a rank above 4 becomes Reshape, the operator in rank 4 or less, Reshape.

    Axes of size 1 vanish and neighbours merge where the operator treats them alike: both batch axes of a
    MatMul, all axes before or after the one that is normalised, axes broadcast the same way. The Reshapes
    around it then belong to the view chains between operators.
    """

    id = "CK-VIEW-050"
    name = "cut-rank"
    law = "op(x[..., a, b, ...]) = op(x[..., a*b, ...])"
    exactness = Exactness.BITEXACT
    any_operands = True

    def pattern(self, op: Any) -> Pattern:
        return op.any_of(*(getattr(op, kind)() for kind in sorted(_FRAMES)))

    def check(self, match: Match) -> Facts | NoMatch:
        node = match.root
        data = [v for v in (*node.inputs, *node.outputs) if v is not None and v.shape is not None]
        if max((rank_of(v) for v in data), default=0) <= MAX_RANK:
            return NoMatch("the rank is low enough", node)
        frame = _FRAMES[node.op_type](node)
        groups = merged_groups(frame.shape, frame.labels)
        if len(groups) > MAX_RANK:
            return NoMatch("its axes cannot be merged to rank 4", node)
        if node.op_type == "Gather" and rank_of(_data(node, 1)) > 1:
            return NoMatch("its indices are not flat", node)
        return {"frame": frame, "groups": groups}

    def rewrite(self, rw: Rewriter, match: Match, *, frame: Frame, groups: Groups) -> list[ir.Value]:
        node = match.root
        inputs = list(node.inputs)
        for i in frame.inputs:
            x = _data(node, i)
            padded = _padded(shape_of(x), len(frame.shape))
            matrix = node.op_type == "MatMul" and rank_of(x) == 2
            target = shape_of(x) if matrix else tuple(prod(padded[a:b]) for a, b in groups)
            inputs[i] = x if rank_of(x) == 0 else rw.op("Reshape", x, rw.ints(target))
        for i, value in frame.operands(groups).items():
            inputs[i] = rw.ints(value)
        attributes = {a.name: _value(a) for a in node.attributes.values() if isinstance(a, ir.Attr)}
        attributes |= frame.attributes(groups)
        made = rw.ops(node.op_type, *inputs, outputs=len(node.outputs), **attributes)
        return [
            rw.op("Reshape", v, rw.ints(shape_of(old))) for v, old in zip(made, node.outputs, strict=True)
        ]


def merged_groups(shape: Sequence[int], labels: Sequence[Hashable]) -> Groups:
    """Neighbouring axes as ranges: size 1 joins a neighbour, alike ones merge from the left down to 4.

    An axis of size 1 whose label is a word of its own (the axis of a Softmax) stays alone.
    """
    groups: list[tuple[int, int, Hashable]] = []
    for axis, (size, label) in enumerate(zip(shape, labels, strict=True)):
        free = size == 1 and not isinstance(label, str)
        if groups and free:
            start, _, known = groups[-1]
            if not isinstance(known, str):
                groups[-1] = (start, axis + 1, known)
                continue
        if groups and groups[-1][2] is _FREE and not isinstance(label, str):
            groups[-1] = (groups[-1][0], axis + 1, _FREE if free else label)
            continue
        groups.append((axis, axis + 1, _FREE if free else label))
    while len(groups) > MAX_RANK:
        pair = next((i for i in range(len(groups) - 1) if _alike(groups[i][2], groups[i + 1][2])), None)
        if pair is None:
            break
        (a, _, label), (_, b, other) = groups[pair : pair + 2]
        groups[pair : pair + 2] = [(a, b, other if label is _FREE else label)]
    return tuple((a, b) for a, b, _ in groups)


_FREE = object()


def _alike(a: Hashable, b: Hashable) -> bool:
    return not isinstance(a, str) and not isinstance(b, str) and (a == b or a is _FREE or b is _FREE)


def _group_of(groups: Groups, axis: int) -> int:
    return next(i for i, (a, b) in enumerate(groups) if a <= axis < b)


def _padded(shape: Sequence[int], rank: int) -> tuple[int, ...]:
    return (*(1,) * (rank - len(shape)), *shape)


def _data(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _value(attribute: ir.Attr) -> Any:
    value = attribute.value
    return list(value) if isinstance(value, (list, tuple)) else value
