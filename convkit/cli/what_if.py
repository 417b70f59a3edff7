"""`--what-if`: the same check with one choice changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convkit.cli.options import parse_shape

if TYPE_CHECKING:
    from rich.console import Console

    from convkit.report import Report
    from convkit.report.check import CheckResult
    from convkit.report.what_if import WhatIf

_CHOICES = {
    "allow": ("approximate", "retrain"),
    "precision": ("fp32", "fp16"),
    "io_layout": ("keep", "nhwc"),
}


@dataclass(frozen=True)
class Question:
    """A choice as asked, and the option that it changes."""

    text: str
    name: str
    value: Any

    def applied(self, compiling: dict[str, Any]) -> dict[str, Any]:
        """The options of a check with this choice in place of what they say."""
        if self.name != "shapes":
            return compiling | {self.name: self.value}
        others = tuple(shape for shape in compiling["shapes"] if shape[0] != self.value[0])
        return compiling | {"shapes": (*others, self.value)}


def parse_question(text: str) -> Question:
    """`allow=retrain`, `precision=fp16`, `io-layout=nhwc` or `shape=x:1x3x64x64`; else click.BadParameter."""
    key, _, value = text.partition("=")
    name = key.strip().replace("-", "_")
    if name == "shape":
        return Question(text, "shapes", parse_shape(value))
    if name == "opset":
        raise click.BadParameter("opset changes nothing: every model is brought to one before it is judged")
    if value not in _CHOICES.get(name, ()):
        known = ", ".join(f"{n.replace('_', '-')}={'|'.join(values)}" for n, values in _CHOICES.items())
        raise click.BadParameter(f"{text!r} is no choice; those are {known}, shape=NAME:SHAPE")
    return Question(text, name, value)


def parse_questions(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> list[Question]:
    """The callback of the option."""
    return [parse_question(text) for text in texts]


def show_answer(before: CheckResult, asked: WhatIf, out: Console) -> None:
    """What changes, report by report."""
    from rich.markup import escape
    from rich.table import Table

    from convkit.report.what_if import changes

    out.print(f"[bold]What if {escape(asked.question)}[/]")
    table = Table.grid(padding=(0, 2))
    found = list(changes(before, asked.result))
    for change in found:
        where = f"{Path(change.model).name} on {change.target}"
        table.add_row(f"  {escape(where)}", _figures(change.before), "→", _figures(change.after))
    out.print(table if found else "  [dim]nothing changes[/]")
    for failure in asked.result.failures:
        out.print(f"  [red]{escape(Path(failure.model).name)}: {escape(failure.diagnostics[0].message)}[/]")
    out.print()


def _figures(report: Report | None) -> str:
    from convkit.report.text import quantity, share

    if report is None:
        return "no answer"
    left = len(report.left_behind)
    macs = share(report.cpu_macs_share, 1)
    figures = f"{left:,} of {len(report.ops):,} operators and {macs} of MACs on the CPU"
    if not left:
        return f"[green]all {len(report.ops):,} operators accelerated[/]"
    crossing = quantity(report.transfers.bytes, "B")
    return f"{figures}, {report.transfers.partitions} partitions, {crossing} across"
