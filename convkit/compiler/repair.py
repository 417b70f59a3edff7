"""Judge, repair, judge: cures that rules name are tried, and kept when the verdict improves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import onnx_ir as ir

from convkit.dialects.tflite.cost import bytes_moved, macs
from convkit.ir.origin import origin_of
from convkit.rewrite import Exactness, Rewrite, RewriteStats, apply_rewrites, get_rewrite
from convkit.targets.judge import Verdict

L = TypeVar("L")
Cost = tuple[int, int, int, int]


def cost_of(verdict: Verdict) -> Cost:
    """What stays off the accelerator: MACs, bytes, operators; then the number of partitions."""
    off = [v.op for v in verdict.ops if v.status != "accelerated"]
    return (
        sum(macs(op) for op in off),
        sum(bytes_moved(op) for op in off),
        len(off),
        len(verdict.partitions),
    )


@dataclass(frozen=True)
class Cure:
    """A cure that was kept: the rewrite, and how often it was applied."""

    rewrite: Rewrite
    count: int


@dataclass(frozen=True)
class Candidate(Generic[L]):
    """A model in normal form with what it lowers to and how that is judged."""

    model: ir.Model
    lowered: L
    verdict: Verdict


def repair(
    candidate: Candidate[L],
    build: Callable[[ir.Model], Candidate[L]],
    allow: Exactness,
) -> tuple[Candidate[L], list[Cure]]:
    """Apply the cures named for refused operators while they lower the cost.

    `build` cleans up, lowers and judges a model that a cure has changed (it may edit it in place).
    Every cure kept lowers the cost strictly, and one that was dropped is not tried again on the same
    verdict, so this ends.
    """
    kept: list[Cure] = []
    rejected: set[str] = set()
    while True:
        names = [name for name in _named_cures(candidate.verdict) if name not in rejected]
        if not names:
            return candidate, kept
        improved = _try(candidate, get_rewrite(names[0]), build, allow)
        if improved is None:
            rejected.add(names[0])
            continue
        candidate, cure = improved
        kept.append(cure)
        rejected.clear()


def _named_cures(verdict: Verdict) -> list[str]:
    """Cures by how many refused operators name them, most first."""
    counts: dict[str, int] = {}
    for op in verdict.ops:
        if op.status == "fallback":
            for fix in dict.fromkeys(reason.fix for reason in op.reasons if reason.fix):
                counts[fix] = counts.get(fix, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))


def _try(
    candidate: Candidate[L], rewrite: Rewrite, build: Callable[[ir.Model], Candidate[L]], allow: Exactness
) -> tuple[Candidate[L], Cure] | None:
    """The model with `rewrite` applied where it is asked for, if that is judged better."""
    if rewrite.exactness > allow:
        return None
    wanted = {
        name
        for op in candidate.verdict.ops
        if any(reason.fix == rewrite.name for reason in op.reasons)
        for name in op.op.origin.nodes
    }
    model = candidate.model.clone()
    stats: RewriteStats = apply_rewrites(
        model.graph, [rewrite], only=lambda node: not wanted.isdisjoint(origin_of(node).nodes)
    )
    if not stats.applications:
        return None
    changed = build(model)
    if cost_of(changed.verdict) >= cost_of(candidate.verdict):
        return None
    return changed, Cure(rewrite, len(stats.applications))
