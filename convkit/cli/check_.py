"""`convkit check`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convkit.cli.console import console, exits, progress
from convkit.cli.options import common, compiling, model_argument
from convkit.diagnostics import ExitCode

if TYPE_CHECKING:
    from convkit.report import Report

_LEVELS = {"info": 0, "slow": 1, "fallback": 2, "reject": 3}


@click.command("check")
@model_argument
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    required=True,
    metavar="T",
    help="Repeatable; `all` for every target.",
)
@compiling
@click.option(
    "--fail-on",
    type=click.Choice([*_LEVELS, "never"]),
    default="fallback",
    show_default=True,
    help="Exit with 1 if a rule of this severity or worse speaks.",
)
@common
@exits
def command(
    model: Path,
    targets: tuple[str, ...],
    fail_on: str,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
    **compiling: Any,
) -> ExitCode:
    """Say which operators of MODEL would not run on a target's accelerator, why, what that costs, and what
    cures it. Compiles in memory, as `compile` does; writes nothing and runs nothing."""
    from convkit.cli.options import compile_options
    from convkit.compiler import compile_model
    from convkit.targets import available_targets

    names = list(available_targets()) if "all" in targets else list(dict.fromkeys(targets))
    options = compile_options(**compiling, verify=False)
    reports = []
    for name in names:
        with progress(not (quiet or as_json), f"checking {model.name} for {name}"):
            reports.append(compile_model(model, name, options).report)
    if as_json:
        from convkit.report import to_dict

        body: Any = [to_dict(report) for report in reports] if len(reports) > 1 else to_dict(reports[0])
        click.echo(json.dumps(body, indent=2, ensure_ascii=False, allow_nan=False))
    elif not quiet:
        from convkit.report.terminal import render, render_many

        if len(reports) == 1 or verbose:
            for report in reports:
                render(report, console(), verbose)
        if len(reports) > 1:
            render_many(reports, console())
    found = max(severity(report) for report in reports)
    return ExitCode.FINDING if fail_on != "never" and found >= _LEVELS[fail_on] else ExitCode.OK


def severity(report: Report) -> int:
    """The worst level in `report`: what a rule says, and a stranded or undecided operator as a fallback."""
    from convkit.report import OpVerdict

    levels = [_LEVELS[reason.severity] for op in report.ops for reason in op.reasons]
    levels += [_LEVELS["fallback"] for op in report.ops if op.verdict is not OpVerdict.ACCELERATED]
    return max(levels, default=-1)
