"""`convkit diff`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convkit.cli.console import console, exits, progress
from convkit.cli.options import common, import_options, importing
from convkit.diagnostics import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from convkit.frontends import ImportOptions
    from convkit.report import OutputError
    from convkit.verify.diff import Difference


@click.command("diff")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Run on these inputs, keyed by the first model's names, instead of random ones.",
)
@click.option("--layers", is_flag=True, help="Compare layer by layer too, and find the first that departs.")
@click.option(
    "--tolerance", type=click.FloatRange(min=0), default=1e-5, show_default=True, help="Of an output's range."
)
@importing
@common
@exits
def command(
    first: Path,
    second: Path,
    inputs: Path | None,
    layers: bool,
    tolerance: float,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
    **importing: Any,
) -> ExitCode:
    """Compare two models of any formats, each in its own runtime, on the same inputs. Exits with 1 if an
    output differs beyond the tolerance."""
    from convkit.frontends import load_any
    from convkit.verify.diff import diff_models

    options = import_options(**importing)
    with progress(not (quiet or as_json), f"comparing {first.name} with {second.name}"):
        one, two = (load_any(model, _fitting(options, model)) for model in (first, second))
        found = diff_models(one, two, inputs, layers=layers, tolerance=tolerance)
    if as_json:
        click.echo(json.dumps(_as_dict(found), indent=2, ensure_ascii=False))
    elif not quiet:
        _render(found, verbose)
    return ExitCode.OK if found.passed else ExitCode.FINDING


def _fitting(options: ImportOptions, model: Path) -> ImportOptions:
    """The shapes are for the models that leave them open; a TFLite file has its own."""
    from dataclasses import replace

    from convkit.frontends import Format, format_of

    return replace(options, inputs={}) if format_of(model) is Format.TFLITE else options


def _as_dict(found: Difference) -> dict[str, Any]:
    departure = found.first_departure
    return {
        "schema": "convkit.diff/1",
        **asdict(found),
        "passed": found.passed,
        "first_departure": departure.name if departure else None,
    }


def _render(found: Difference, verbose: int) -> None:
    out = console()
    out.print(f"{found.runtimes[0]} and {found.runtimes[1]}, {found.inputs}")
    out.print(_table("Output", found.outputs))
    if not found.layers:
        return
    departure = found.first_departure
    out.print()
    if verbose or departure is not None:
        until = len(found.layers) if verbose else found.layers.index(departure) + 1 if departure else 0
        out.print(_table("Layer", found.layers[max(0, until - (until if verbose else 5)) : until]))
    text = f"the first of {len(found.layers)} layers that departs is {departure.name}" if departure else (
        f"all {len(found.layers)} layers that both have agree"
    )  # fmt: skip
    out.print(text)


def _table(first: str, errors: Sequence[OutputError]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(first, overflow="fold")
    for heading in ("Max abs", "Max rel", "SQNR dB", "PSNR dB", "Cosine", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for e in errors:
        decibels = [f"{x:.1f}" if x is not None else "-" for x in (e.sqnr_db, e.psnr_db)]
        cosine = f"{e.cosine:.6f}" if e.cosine is not None else "-"
        mark = "[green]✔[/]" if e.passed else "[red]✘[/]"
        table.add_row(escape(e.name), f"{e.max_abs:.2e}", f"{e.max_rel:.2e}", *decibels, cosine, mark)
    return table
