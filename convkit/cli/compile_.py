"""`convkit compile`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convkit.cli.console import console, exits, progress
from convkit.cli.files import Content, output_folder, write_all
from convkit.cli.options import common, compiling, model_argument
from convkit.diagnostics import ExitCode

if TYPE_CHECKING:
    from convkit.report import Report


@click.command("compile")
@model_argument
@click.option("-t", "--target", required=True, metavar="T", help="See `convkit targets`.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Default: <stem>-<target>/."
)
@compiling
@click.option(
    "--inputs",
    type=click.Path(path_type=Path),
    metavar="FILE.npz",
    help="Verify on these inputs, keyed by name, instead of random ones.",
)
@click.option("--no-verify", is_flag=True, help="Do not run the artifact against the reference.")
@click.option("--print-after", metavar="PASS", multiple=True, help="Print the graph after a pass, or `all`.")
@click.option("--verify-each", is_flag=True, help="Check invariants and numbers after every pass.")
@click.option("--bisect", is_flag=True, help="Find the first rewrite that breaks the numbers.")
@common
@exits
def command(
    model: Path,
    target: str,
    output: Path | None,
    inputs: Path | None,
    no_verify: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
    **compiling: Any,
) -> ExitCode:
    """Compile MODEL for a target. Writes DIR/<stem>.tflite and DIR/report.json, after the artifact was
    run and its numbers compared with the model's."""
    from convkit.cli.options import compile_options
    from convkit.compiler import compile_model
    from convkit.report import to_json

    options = compile_options(**compiling, inputs=inputs, verify=not no_verify)
    folder = output or Path(f"{model.stem}-{target}")
    with output_folder(folder):
        with progress(not (quiet or as_json), f"compiling {model.name} for {target}"):
            result = compile_model(model, target, options)
        report = _with_artifacts(result.report, folder, {f"{model.stem}.tflite": result.artifact})
        text = to_json(report)
        write_all(folder, {f"{model.stem}.tflite": result.artifact, "report.json": text.encode()})
    if as_json:
        click.echo(text, nl=False)
    elif not quiet:
        from convkit.report.terminal import render

        render(report, console(), verbose)
    return ExitCode.OK


def _with_artifacts(report: Report, folder: Path, contents: Mapping[str, Content]) -> Report:
    """`report` with the files that are about to be written."""
    from convkit.report import Artifact

    entries = tuple(
        Artifact(str(folder / name), len(content), hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    )
    return replace(report, artifacts=entries)
