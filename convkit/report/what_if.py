"""What another choice would change: two checks of the same models for the same targets, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from convkit.report.check import CheckResult
from convkit.report.model import Report


@dataclass(frozen=True)
class Change:
    """A report that another choice makes another one; `before` or `after` is None where there is none."""

    model: str
    target: str
    before: Report | None
    after: Report | None


@dataclass(frozen=True)
class WhatIf:
    """The answer to one question, as asked on the command line (`allow=retrain`)."""

    question: str
    result: CheckResult


def changes(before: CheckResult, after: CheckResult) -> Iterator[Change]:
    """The models and targets for which anything that is counted differs."""
    old = {(r.model.path, r.target.name): r for r in before.reports}
    new = {(r.model.path, r.target.name): r for r in after.reports}
    for model, target in dict.fromkeys((*old, *new)):
        was, now = old.get((model, target)), new.get((model, target))
        if counted(was) != counted(now):
            yield Change(model, target, was, now)


def counted(report: Report | None) -> dict[str, Any] | None:
    """What a choice may change: operators and MACs on the CPU, partitions and bytes that cross."""
    if report is None:
        return None
    return {
        "verdict": report.verdict.value,
        "operators": len(report.ops),
        "operators_on_cpu": len(report.left_behind),
        "cpu_macs_share": report.cpu_macs_share,
        "partitions": report.transfers.partitions,
        "crossing_bytes": report.transfers.bytes,
    }


def what_if_to_dict(before: CheckResult, asked: WhatIf) -> dict[str, Any]:
    """The answer as a JSON object: every report that changes, with its figures before and after."""
    return {
        "question": asked.question,
        "changes": [
            {"model": c.model, "target": c.target, "before": counted(c.before), "after": counted(c.after)}
            for c in changes(before, asked.result)
        ],
        "failures": [f"{f.model}: {f.diagnostics[0].message}" for f in asked.result.failures],
    }
