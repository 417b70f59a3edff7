"""`convkit rules`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convkit.cli.console import console, exits
from convkit.cli.options import common
from convkit.diagnostics import ExitCode, did_you_mean, error

if TYPE_CHECKING:
    from rich.console import Console

    from convkit.targets import Rule, Target


@click.command("rules")
@click.argument("name", metavar="RULE|TARGET|FILE.rules")
@common
@exits
def command(name: str, as_json: bool, quiet: bool, verbose: int, debug: bool) -> ExitCode:
    """Explain a rule by its id (LRT-RANK-001), list the rules of a target, or check a rule file of yours."""
    from convkit.targets import available_targets, load_rule_file, load_target

    names = available_targets()
    if name in names or name.endswith(".rules"):
        target = load_target(name) if name in names else load_rule_file(Path(name))
        found = [(rule, target) for rule in target.rules]
    else:
        found = _by_id(name, [load_target(n) for n in names])
    if as_json:
        click.echo(
            json.dumps([_as_dict(rule, target) for rule, target in found], indent=2, ensure_ascii=False)
        )
    elif not quiet:
        for rule, target in found:
            _explain(rule, target, console())
    return ExitCode.OK


def _by_id(name: str, targets: list[Target]) -> list[tuple[Rule, Target]]:
    """The rule of that id, in the target that writes it down."""
    known = {
        rule.id: (rule, target) for target in targets for rule in target.rules if rule.target == target.name
    }
    if name.upper() not in known:
        every = [*known, *(target.name for target in targets)]
        raise error(
            "unknown-rule",
            f"there is no rule and no target {name!r}",
            help=did_you_mean(name, every) or "list the rules of a target by `convkit rules TARGET`",
        )
    return [known[name.upper()]]


def _operators(rule: Rule, target: Target) -> list[str]:
    """The operators that a rule speaks about; none named means every one."""
    return [code for code, rules in target.ops.items() if any(r.id == rule.id for r in rules)]


def _as_dict(rule: Rule, target: Target) -> dict[str, Any]:
    return {
        "id": rule.id,
        "severity": rule.severity.name.lower(),
        "target": rule.target,
        "operators": _operators(rule, target),
        "when": rule.when,
        "message": rule.text,
        "sources": [target.sources.get(cite, cite) for cite in rule.cites],
        "fixes": list(rule.fixes),
        "file": f"{rule.target}.rules",
        "line": rule.line,
    }


def _explain(rule: Rule, target: Target, out: Console) -> None:
    from rich.markup import escape
    from rich.table import Table

    facts = _as_dict(rule, target)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row(f"[bold not dim]{escape(rule.id)}[/]", escape(rule.text))
    whole = rule in target.every_op
    rows = {
        "  severity": facts["severity"],
        "  operators": "every one" if whole else ", ".join(facts["operators"]),
        "  when": rule.when or "always",
        "  sources": "\n".join(facts["sources"]),
        "  cures": ", ".join(rule.fixes),
        "  written in": f"{rule.target}.rules:{rule.line}",
    }
    for heading, text in rows.items():
        if text:
            grid.add_row(heading, escape(text))
    out.print(grid)
