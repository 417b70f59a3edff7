"""Rewrites of view chains: fewer operators, and none of a rank above 4."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir as ir

from convkit.ir.facts import attr, is_op, rank_of, shape_of, sole_user
from convkit.passes.views.block_steps import MAX_RANK
from convkit.passes.views.chain import Chain, chain_from, chain_to, suffixes, view_after
from convkit.passes.views.index_map import Digit, View, make_view, relative, split_digits, stack
from convkit.passes.views.plan import Plan, emit_plan, plan_view
from convkit.passes.walking import WalkingRewrite
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewriter, register


@register
class SimplifyViews(WalkingRewrite):
    """A chain of Reshape, Transpose, Slice and Gather becomes the shortest one of rank at most 4.

    The chain is one strided index map (see index_map); whatever spelling it had, the map decides.
    A rank above 4 is avoided even if that takes more operators: mobile GPU delegates refuse such
    tensors. Where an inner value has other readers, only the part after it is replaced if that pays.
    """

    id = "CK-VIEW-030"
    name = "simplify-views"
    law = "a chain of views = the shortest chain with the same index map"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, a: Any = None, b: Any = None, c: Any = None, d: Any = None) -> Pattern:
        return op.any_of(op.Reshape(x, a), op.Transpose(x), op.Slice(x, a, b, c, d), op.Gather(x, a))

    def check(self, match: Match) -> Facts | NoMatch:
        chain = chain_to(match.root.outputs[0], through_split=False)
        if not chain.nodes:
            return NoMatch("this is not a strided view", match.root)
        reader = sole_user(chain.value)
        if reader is not None and reader.inputs[0] is chain.value and _goes_on(reader, chain):
            return NoMatch("the chain goes on", reader)
        best: tuple[tuple[int, int, int], Chain, Plan] | None = None
        for part in suffixes(chain):
            plan = plan_view(shape_of(part.source), part.view, shape_of(part.value))
            if plan is None:
                continue
            high = sum(rank_of(n.outputs[0]) > MAX_RANK for n in part.nodes[:-1])
            moved = sum(is_op(n, "Transpose") for n in part.dying) - sum(s.op == "Transpose" for s in plan)
            gain = (high, len(part.dying) - len(plan), moved)
            if gain > (0, 0, 0) and (best is None or gain > best[0]):
                best = (gain, part, plan)
        if best is None:
            return NoMatch("no shorter chain is known", match.root)
        _, part, plan = best
        return {"walked": part.dying, "source": part.source, "plan": plan}

    def rewrite(self, rw: Rewriter, match: Match, *, source: ir.Value, plan: Plan) -> ir.Value:
        return emit_plan(rw, source, plan)


def _goes_on(reader: ir.Node, chain: Chain) -> bool:
    if not is_op(reader, "Reshape", "Transpose", "Slice", "Gather"):
        return False
    view, source = view_after(reader, reader.outputs[0], chain.view), shape_of(chain.source)
    return view is not None and plan_view(source, view, shape_of(reader.outputs[0])) is not None


@register
class ConcatOfViews(WalkingRewrite):
    """A Concat of views of one value that count up evenly is one view: patch merging, space to depth."""

    id = "CK-VIEW-020"
    name = "concat-of-views"
    law = "Concat(view_0(x), view_1(x), ...) = view(x)"
    exactness = Exactness.BITEXACT
    any_operands = True

    def pattern(self, op: Any) -> Pattern:
        return op.Concat()

    def check(self, match: Match) -> Facts | NoMatch:
        node = match.root
        parts = [v for v in node.inputs if v is not None]
        chains = [chain_to(v, through_split=True) for v in parts]
        source = chains[0].source
        if (
            any(c.source is not source or not c.nodes for c in chains)
            or len({shape_of(v) for v in parts}) > 1
        ):
            return NoMatch("the operands are not alike views of one value", node)
        joined = stack([c.view for c in chains])
        if joined is None:
            return NoMatch("the operands do not count up evenly", node)
        view = _insert(joined[0], shape_of(parts[0]), attr(node, "axis"), joined[1])
        plan = None if view is None else plan_view(shape_of(source), view, shape_of(node.outputs[0]))
        dying = {n for c in chains for n in c.dying}
        splits = {n for c in chains for n in c.nodes if is_op(n, "Split")}
        dying |= {n for n in splits if set(n.outputs) <= set(parts)}
        if plan is None or len(plan) > len(dying):
            return NoMatch("it would not be shorter", node)
        return {
            "walked": tuple(n for c in chains for n in c.nodes if n in dying),
            "source": source,
            "plan": plan,
        }

    def rewrite(self, rw: Rewriter, match: Match, *, source: ir.Value, plan: Plan) -> ir.Value:
        return emit_plan(rw, source, plan)


def _insert(view: View, shape: tuple[int, ...], axis: int, digits: tuple[Digit, ...]) -> View | None:
    """The view with `digits` put before those of `axis`."""
    groups = split_digits(view.digits, shape)
    if groups is None:
        return None
    before = [d for group in groups[:axis] for d in group]
    after = [d for group in groups[axis:] for d in group]
    return make_view([*before, *digits, *after], view.offset)


@dataclass(frozen=True, slots=True)
class _Joint:
    """How to make all parts of a Split: carry out `plan`, split along `place`, then `undo` for each part.

    Without a place, `undo` makes each part from the source. `cost` counts operators up to where the
    parts are wanted.
    """

    plan: Plan
    place: int | None
    undo: tuple[Plan, ...]
    cost: int


@register
class MoveViewsBeforeSplit(WalkingRewrite):
    """The same view after every part of a Split is done once, before it: query, key and value.

    The parts are alike views of what the Split's operand is a view of; with the parts' number as one
    more digit they are one view, split along whichever axis needs the fewest operators. A part that
    wants another view than the first gets the difference. Done only where it saves operators or ranks.
    """

    id = "CK-VIEW-010"
    name = "views-before-split"
    law = "view(Split(x)_i) = Split(view'(x))_i"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, sizes: Any) -> Pattern:
        return op.Split(x, sizes)

    def check(self, match: Match) -> Facts | NoMatch:
        node = match.root
        chain = chain_to(match["x"])
        parts = [chain_to(v, through_split=True) for v in node.outputs]
        if any(p.source is not chain.source for p in parts):
            return NoMatch("the parts are not strided", node)
        below = [chain_from(v) for v in node.outputs]
        above = chain.dying if sole_user(match["x"]) is node else ()
        joint, apart = _best_joint(parts, below), _best_apart(parts, below)
        best = min((j for j in (apart, joint) if j is not None), key=lambda j: j.cost, default=None)
        if best is None:
            return NoMatch("no plan is known", node)
        values = (match["x"], *(n.outputs[0] for n in above))
        high = any(rank_of(v) > MAX_RANK for v in values)
        if not high and not any(best.undo) and len(best.plan) >= len(above):
            return NoMatch("it is in place already", node)
        if not high and best.cost >= 1 + len(above) + sum(len(c.nodes) for c in below):
            return NoMatch("it would not be shorter", node)
        return {"walked": above, "source": chain.source, "joint": best}

    def rewrite(self, rw: Rewriter, match: Match, *, source: ir.Value, joint: _Joint) -> list[ir.Value]:
        if joint.place is None:
            return [emit_plan(rw, source, plan) for plan in joint.undo]
        whole = emit_plan(rw, source, joint.plan)
        count = len(match.root.outputs)
        sizes = rw.const([shape_of(whole)[joint.place] // count] * count, "sizes")
        values = rw.ops("Split", whole, sizes, outputs=count, axis=joint.place)
        return [emit_plan(rw, v, plan) for v, plan in zip(values, joint.undo, strict=True)]


def _best_joint(parts: list[Chain], below: list[Chain]) -> _Joint | None:
    """The cheapest way to make the parts in the form that the first one is wanted in."""
    joined = stack([p.view for p in parts])
    if joined is None or len(joined[1]) != 1:
        return None
    source = shape_of(parts[0].source)
    wanted = [chain_to(c.value, through_split=True) for c in below]
    if any(w.source is not parts[0].source or w.view.size != parts[0].view.size for w in wanted):
        wanted = parts
    first = wanted[0]
    shape = shape_of(first.value)
    if len(shape) > MAX_RANK:
        shape = tuple(n for n, _ in first.view.digits)
    bases = [View(first.view.digits, p.view.offset) for p in parts]
    undo = [_between(b, p, shape) for b, p in zip(bases, parts, strict=True)]
    onward = [_between(b, w, shape) for b, w in zip(bases, wanted, strict=True)]
    found: list[_Joint] = []
    for place in range(min(len(shape), MAX_RANK)):
        view = _insert(bases[0], shape, place, joined[1])
        whole = (*shape[:place], shape[place] * len(parts), *shape[place + 1 :])
        plan = None if view is None else plan_view(source, view, whole)
        if plan is None or len(shape) > MAX_RANK or None in undo or None in onward:
            continue
        cost = len(plan) + 1 + sum(len(p or ()) for p in onward)
        found.append(_Joint(plan, place, tuple(p or () for p in undo), cost))
    return min(found, key=lambda j: j.cost, default=None)


def _best_apart(parts: list[Chain], below: list[Chain]) -> _Joint | None:
    """Every part made from the source by itself."""
    source = shape_of(parts[0].source)
    plans = [plan_view(source, p.view, shape_of(p.value)) for p in parts]
    wanted = [chain_to(c.value, through_split=True) for c in below]
    onward = [plan_view(shape_of(w.source), w.view, shape_of(w.value)) for w in wanted]
    if None in plans or None in onward or any(w.source is not parts[0].source for w in wanted):
        return None
    return _Joint((), None, tuple(p or () for p in plans), sum(len(p or ()) for p in onward))


def _between(base: View, wanted: Chain, shape: tuple[int, ...]) -> Plan | None:
    """The plan from a value of `shape` that is `base` to the value of a chain over the same elements."""
    view = relative(wanted.view, base)
    return None if view is None else plan_view(shape, view, shape_of(wanted.value))
