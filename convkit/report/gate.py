"""Limits on what a model may leave off the accelerator, and what breaks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from convkit.report.model import OpEntry, OpVerdict, Report
from convkit.report.text import count, share

LEVELS = ("info", "slow", "undecided", "fallback", "reject")
"""What may be said of an operator, the mildest first."""

_VERDICT_LEVEL = {
    OpVerdict.STRANDED: "fallback",
    OpVerdict.FALLBACK: "fallback",
    OpVerdict.UNDECIDED: "undecided",
}


@dataclass(frozen=True)
class Limits:
    """What a check tolerates. `fail_on` is the mildest level that fails (None: none does); `max_cpu_macs`
    the share of MACs, 0 to 1, that may stay off the accelerator; `max_partitions` how many partitions."""

    fail_on: str | None = "fallback"
    max_cpu_macs: float | None = None
    max_partitions: int | None = None


@dataclass(frozen=True)
class Breach:
    """A limit that is broken: its name as on the command line, and the finding in one sentence."""

    limit: str
    message: str


def remarks(op: OpEntry) -> Iterator[tuple[str, str]]:
    """Level and rule of everything that is said of an operator; its verdict where no rule explains it."""
    for reason in op.reasons:
        grave = reason.severity in ("fallback", "reject")
        yield ("undecided" if grave else "info") if reason.undecided else reason.severity, reason.rule
    if op.verdict is OpVerdict.STRANDED or (op.verdict in _VERDICT_LEVEL and not op.reasons):
        yield _VERDICT_LEVEL[op.verdict], op.verdict.value


def breaches(report: Report, limits: Limits, before: Report | None = None) -> tuple[Breach, ...]:
    """The limits that `report` breaks; with a report from `before`, those where it also got worse."""
    found: list[Breach] = []
    if limits.fail_on is not None:
        found += _new_remarks(report, limits.fail_on, before)
    share_now = report.cpu_macs_share
    if limits.max_cpu_macs is not None and share_now > limits.max_cpu_macs:
        was = None if before is None else before.cpu_macs_share
        if was is None or share_now > was:
            text = f"{share(share_now, 1)} of the MACs run on the CPU, above {share(limits.max_cpu_macs, 1)}"
            found.append(Breach("max-cpu-macs", text + ("" if was is None else f" (was {share(was, 1)})")))
    pieces = report.transfers.partitions
    if limits.max_partitions is not None and pieces > limits.max_partitions:
        had = None if before is None else before.transfers.partitions
        if had is None or pieces > had:
            text = (
                f"{count(pieces, 'partition')} on {report.target.accelerator}, above {limits.max_partitions}"
            )
            found.append(Breach("max-partitions", text + ("" if had is None else f" (was {had})")))
    return tuple(found)


def _new_remarks(report: Report, fail_on: str, before: Report | None) -> Iterator[Breach]:
    """One breach per operator type and rule that speaks more often than before, in execution order."""
    threshold = LEVELS.index(fail_on)
    known = _counted(before, 0) if before is not None else Counter()
    for (op, rule, level), number in _counted(report, threshold).items():
        had = known[op, rule, level]
        if number <= had:
            continue
        said = rule if rule in _VERDICT_LEVEL else f"{level} by {rule}"
        text = f"{count(number, op + ' operator')}: {said}"
        yield Breach(f"fail-on {fail_on}", text + (f" (was {had})" if before is not None else ""))


def _counted(report: Report, threshold: int) -> Counter[tuple[str, str, str]]:
    """How often each rule speaks of an operator type, at a level or worse."""
    return Counter(
        (op.op, rule, level)
        for op in report.ops
        for level, rule in remarks(op)
        if LEVELS.index(level) >= threshold
    )
