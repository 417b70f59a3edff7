"""`convkit toolchain`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from convkit.cli.console import console, exits, progress
from convkit.cli.options import common
from convkit.diagnostics import ExitCode


@click.group("toolchain", invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """Vendors' packages, each in an environment of its own: list, install, remove."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(show, as_json=False, quiet=False, verbose=0, debug=False)


@command.command("list")
@common
@exits
def show(as_json: bool, quiet: bool, verbose: int, debug: bool) -> ExitCode:
    """List the toolchains: whether each is installed, where, and what it is made of."""
    from rich.table import Table

    from convkit.backends import all_toolchains

    found = {name: (chain, chain.find()) for name, chain in all_toolchains().items()}
    if as_json:
        body = [
            {"name": name, "python": str(python) if python else None, "packages": chain.pins}
            for name, (chain, python) in found.items()
        ]
        click.echo(json.dumps(body, indent=2))
        return ExitCode.OK
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    for heading in ("Toolchain", "Packages", "Python"):
        table.add_column(heading, overflow="fold")
    for name, (chain, python) in found.items():
        where = str(python) if python else f"[dim]not installed: convkit toolchain install {name}[/]"
        table.add_row(f"[bold]{name}[/]", " ".join(chain.pins).replace("[", "\\["), where)
    console().print(table)
    return ExitCode.OK


@command.command("install")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--missing", is_flag=True, help="Leave alone those that are there.")
@common
@exits
def install(
    names: tuple[str, ...], missing: bool, as_json: bool, quiet: bool, verbose: int, debug: bool
) -> ExitCode:
    """Install toolchains, or install them anew."""
    from convkit.backends import get_toolchain

    chains = [get_toolchain(name) for name in names]
    for chain in [c for c in chains if not (missing and c.find())]:
        with tempfile.NamedTemporaryFile(prefix=f"convkit-{chain.name}-", suffix=".log", delete=False) as log:
            with progress(not (quiet or as_json), f"installing {chain.name}: {' '.join(chain.pins)}"):
                python = chain.install(Path(log.name))
            Path(log.name).unlink()  # kept where the installation failed
        if not (quiet or as_json):
            click.echo(f"{chain.name} is installed: {python}")
    return ExitCode.OK


@command.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@common
@exits
def remove(names: tuple[str, ...], as_json: bool, quiet: bool, verbose: int, debug: bool) -> ExitCode:
    """Delete toolchains' environments."""
    from convkit.backends import get_toolchain

    for chain in [get_toolchain(name) for name in names]:
        there = chain.remove()
        if not (quiet or as_json):
            click.echo(f"{chain.name} is removed" if there else f"{chain.name} was not installed")
    return ExitCode.OK
