"""View chains in a graph: which operators are views, and what a run of them does to positions."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from convkit.ir.facts import attr, input_at, ints, is_op, rank_of, shape_of, sole_user
from convkit.passes.views.index_map import View, identity, pick, take, transpose

_LONGEST = 32
_MOST_INDICES = 1 << 14


@dataclass(frozen=True, slots=True)
class Chain:
    """`value` is `view` of `source`; `nodes` lead from the source to the value."""

    source: ir.Value
    value: ir.Value
    view: View
    nodes: tuple[ir.Node, ...]

    @property
    def dying(self) -> tuple[ir.Node, ...]:
        """The nodes that nothing else needs once `value` is made in another way."""
        dead: list[ir.Node] = []
        for node in reversed(self.nodes):
            if len(node.outputs) > 1 or (dead and sole_user(node.outputs[0]) is not dead[-1]):
                break
            dead.append(node)
        return tuple(dead)

    def highest_rank(self) -> int:
        """The highest rank of a value between the source and `value`, both excluded."""
        return max((rank_of(node.outputs[0]) for node in self.nodes[:-1]), default=0)


def view_after(node: ir.Node, value: ir.Value, view: View) -> View | None:
    """The view of output `value` of `node`, whose data input is `view`; None if it is no view."""
    x = input_at(node, 0)
    if x is None or node.domain != "":
        return None
    shape = shape_of(x)
    if node.op_type == "Reshape":
        return view
    if node.op_type == "Transpose":
        return transpose(view, shape, attr(node, "perm"))
    ranges = taken_ranges(node, value)
    if ranges is None:
        return _picked(node, view)
    after: View | None = view
    for axis, start, count, step in ranges:
        if after is None:
            return None
        after = take(after, shape, axis, start, count, step)
        shape = (*shape[:axis], count, *shape[axis + 1 :])
    return after


def _picked(node: ir.Node, view: View) -> View | None:
    """A Gather along one axis by constant indices that count in mixed radix."""
    indices = input_at(node, 1)
    found = ints(indices) if is_op(node, "Gather") else None
    if not found or indices is None or len(found) > _MOST_INDICES:
        return None
    shape, axis = shape_of(node.inputs[0]), attr(node, "axis", 0)  # type: ignore[arg-type]
    return pick(view, shape, axis, [i + shape[axis] if i < 0 else i for i in found])


def taken_ranges(node: ir.Node, value: ir.Value) -> tuple[tuple[int, int, int, int], ...] | None:
    """What output `value` takes of the data input: (axis, start, count, step > 0), or None."""
    if is_op(node, "Slice"):
        rows = [ints(v) for v in node.inputs[1:5]]
        if len(rows) < 4 or any(row is None for row in rows):
            return None
        starts, _, axes, steps = (row or () for row in rows)
        if any(step < 1 for step in steps):
            return None
        shape = shape_of(value)
        return tuple(
            (axis, start, shape[axis], step) for start, axis, step in zip(starts, axes, steps, strict=True)
        )
    if is_op(node, "Gather"):
        return _gathered_range(node)
    if is_op(node, "Split"):
        axis = attr(node, "axis", 0)
        start = sum(shape_of(v)[axis] for v in node.outputs[: value.index()])
        return ((axis, start, shape_of(value)[axis], 1),)
    return None


def _gathered_range(node: ir.Node) -> tuple[tuple[int, int, int, int], ...] | None:
    """A Gather whose constant indices count up evenly."""
    x, indices = node.inputs
    found = ints(indices)
    if x is None or indices is None or not found or rank_of(indices) > 1:
        return None
    axis = attr(node, "axis", 0)
    size = shape_of(x)[axis]
    places = [i + size if i < 0 else i for i in found]
    step = places[1] - places[0] if len(places) > 1 else 1
    if step < 1 or places != list(range(places[0], places[0] + step * len(places), step)):
        return None
    return ((axis, places[0], len(places), step),)


def chain_to(value: ir.Value, *, through_split: bool = False) -> Chain:
    """The longest chain of views that ends in `value`; empty where its producer is none."""
    nodes: list[tuple[ir.Node, ir.Value]] = []
    at = value
    while len(nodes) < _LONGEST:
        node = at.producer()
        if node is None or not _may_be_view(node, through_split):
            break
        nodes.append((node, at))
        at = node.inputs[0]  # type: ignore[assignment]
    nodes.reverse()
    return compose(at, nodes)


def compose(source: ir.Value, nodes: list[tuple[ir.Node, ir.Value]]) -> Chain:
    """The chain through `nodes`; it starts after the last node that is not a view of what came before."""
    view, value = identity(shape_of(source)), source
    kept: list[ir.Node] = []
    for node, output in nodes:
        after = view_after(node, output, view)
        if after is None:
            source, kept = output, []
            view = identity(shape_of(output))
        else:
            view = after
            kept.append(node)
        value = output
    return Chain(source, value, view, tuple(kept))


def chain_from(value: ir.Value) -> Chain:
    """The longest chain of views that starts at `value` and has no other readers on its way."""
    nodes: list[tuple[ir.Node, ir.Value]] = []
    view = identity(shape_of(value))
    at = value
    while len(nodes) < _LONGEST:
        node = sole_user(at)
        if node is None or not _may_be_view(node, False) or node.inputs[0] is not at:
            break
        after = view_after(node, node.outputs[0], view)
        if after is None:
            break
        view, at = after, node.outputs[0]
        nodes.append((node, at))
    return Chain(value, at, view, tuple(n for n, _ in nodes))


def suffixes(chain: Chain) -> list[Chain]:
    """The chain, and the chains that start at each later value of it."""
    pairs = [(node, node.outputs[0]) for node in chain.nodes[:-1]] + [(chain.nodes[-1], chain.value)]
    found = [chain]
    for i in range(1, len(pairs)):
        rest = compose(pairs[i - 1][1], pairs[i:])
        if rest.source is pairs[i - 1][1]:
            found.append(rest)
    return found


def _may_be_view(node: ir.Node, through_split: bool) -> bool:
    return is_op(node, "Reshape", "Transpose", "Slice", "Gather") or (through_split and is_op(node, "Split"))
