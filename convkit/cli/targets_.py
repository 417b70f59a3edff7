"""`convkit targets`."""

from __future__ import annotations

import json

import click

from convkit.cli.console import console, exits
from convkit.cli.options import common
from convkit.diagnostics import ExitCode


@click.command("targets")
@common
@exits
def command(as_json: bool, quiet: bool, verbose: int, debug: bool) -> ExitCode:
    """List the targets: what each is, what its accelerator computes in, and how sure its rules are."""
    from convkit.targets import available_targets, load_target

    found = [load_target(name) for name in available_targets()]
    if as_json:
        fields = ("name", "title", "dialect", "precision", "confidence", "oracle", "lineage")
        body = [{f: getattr(target, f) for f in fields} | {"rules": len(target.rules)} for target in found]
        click.echo(json.dumps(body, indent=2))
        return ExitCode.OK
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("Target", "What it is", "Reads", "Computes in", "Rules", "Confidence", "Oracle"):
        table.add_column(heading, justify="right" if heading == "Rules" else "left", overflow="fold")
    for target in found:
        table.add_row(
            f"[bold]{target.name}[/]", target.title, target.dialect, target.precision, str(len(target.rules)),
            target.confidence, target.oracle or "[dim]none[/]",
        )  # fmt: skip
    console().print(table)
    return ExitCode.OK
