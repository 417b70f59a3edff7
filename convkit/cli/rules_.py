"""`convkit rules`: for people who write rule files of their own."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convkit.cli.console import console, exits
from convkit.cli.options import common
from convkit.diagnostics import ExitCode, Location, error

if TYPE_CHECKING:
    from convkit.report import Report


@click.group("rules")
def command() -> None:
    """Check a rule file of yours, and test it on models. (`convkit explain RULE` explains a rule,
    `convkit targets show TARGET` lists those of a target.)"""


@command.command("check")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE.rules...")
@common
@exits
def check(files: tuple[Path, ...], as_json: bool, quiet: bool, verbose: int, debug: bool) -> ExitCode:
    """Load each FILE with every static check: unknown operators, attributes, cures and sources, duplicate
    ids, rules that nothing reaches."""
    from convkit.targets import load_rule_file

    targets = [load_rule_file(path) for path in files]
    if as_json:
        body = [{"name": t.name, "operators": len(t.ops), "rules": len(t.rules)} for t in targets]
        click.echo(json.dumps(body, indent=2))
    elif not quiet:
        for path, target in zip(files, targets, strict=True):
            click.echo(f"{path}: fine, {len(target.rules)} rules about {len(target.ops)} operators")
    return ExitCode.OK


@command.command("test")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.rules")
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODEL...")
@click.option(
    "--golden",
    type=click.Path(path_type=Path),
    metavar="GOLDEN.txt",
    help="Compare the verdicts with this file, and exit with 1 where they differ.",
)
@click.option("--update", is_flag=True, help="Write the golden file instead.")
@common
@exits
def test(
    file: Path, models: tuple[Path, ...], golden: Path | None, update: bool,
    as_json: bool, quiet: bool, verbose: int, debug: bool,
) -> ExitCode:  # fmt: skip
    """Judge MODELs by FILE: how many operators meet each rule, and with --golden whether the verdict of
    each operator is still the one you accepted."""
    from convkit.compiler import check_model
    from convkit.diagnostics import ConvkitError
    from convkit.targets import load_rule_file

    target = load_rule_file(file)
    reports = [report for model in models for report in check_model(model, [target])]
    failed = next((report for report in reports if isinstance(report, ConvkitError)), None)
    if failed is not None:
        raise failed
    told = [line for report in reports if not isinstance(report, ConvkitError) for line in _verdicts(report)]
    met = Counter(rule for line in told for rule in line.split()[4:])
    if as_json:
        click.echo(json.dumps({rule.id: met[rule.id] for rule in target.rules}, indent=2))
    elif not quiet:
        for rule in target.rules:
            times = f"{met[rule.id]:>6} operators" if met[rule.id] else "    no operator"
            click.echo(f"{times}  {rule.id}  {rule.when or 'always'}")
    if golden is None:
        return ExitCode.OK
    return _compare(golden, told, update)


def _verdicts(report: Report) -> Iterator[str]:
    """One line for each operator: model, index, type, verdict, rules."""
    for op in report.ops:
        rules = [reason.rule for reason in op.reasons]
        yield " ".join([Path(report.model.path).name, f"#{op.index}", op.op, op.verdict.value, *rules])


def _compare(golden: Path, told: list[str], update: bool) -> ExitCode:
    from convkit.files import write_all

    if update:
        write_all(golden.parent, {golden.name: "".join(f"{line}\n" for line in told).encode()})
        return ExitCode.OK
    try:
        accepted = golden.read_text("utf-8").splitlines()
    except OSError as problem:
        raise error(
            "no-golden-file",
            f"cannot be read: {problem.strerror}",
            location=Location(str(golden)),
            help="write it with --update",
        ) from problem
    differ = list(difflib.unified_diff(accepted, told, "accepted", "now", lineterm="", n=0))
    for line in differ:
        console(stderr=True).print(line, markup=False, soft_wrap=True)
    return ExitCode.FINDING if differ else ExitCode.OK
