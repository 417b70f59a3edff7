"""`convkit compile`."""

from __future__ import annotations

from pathlib import Path

import click

from convkit.cli.console import console, exits, progress
from convkit.cli.files import output_folder, write_all
from convkit.cli.options import common, compiling, model_argument
from convkit.diagnostics import ExitCode


@click.command("compile")
@model_argument
@click.option("-t", "--target", required=True, metavar="T", help="See `convkit targets`.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="Default: <stem>-<target>/."
)
@compiling
@click.option(
    "--inputs",
    "data",
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
    model: Path, target: str, output: Path | None, precision: str, io_layout: str, allow: str | None,
    shapes: tuple[tuple[str, tuple[int, ...]], ...], oracle: bool, passes: tuple[Path, ...],
    data: Path | None, no_verify: bool, print_after: tuple[str, ...], verify_each: bool, bisect: bool,
    as_json: bool, quiet: bool, verbose: int, debug: bool,
) -> ExitCode:  # fmt: skip
    """Compile MODEL for a target: writes DIR/<stem>.tflite and DIR/report.json, after the artifact was
    run and its numbers compared with the model's."""
    from convkit.compiler import CompileOptions, compile_model
    from convkit.report import to_json

    options = CompileOptions(
        precision=precision, io_layout=io_layout, allow=allow, input_shapes=dict(shapes), oracle=oracle,
        passes=passes, inputs=data, verify=not no_verify, print_after=print_after, verify_each=verify_each,
        bisect=bisect,
    )  # fmt: skip
    folder = output or Path(f"{model.stem}-{target}")
    with output_folder(folder):
        with progress(not (quiet or as_json)) as step:
            result = compile_model(model, target, options, progress=step)
        report = result.report_as_written(folder, model.stem)
        write_all(folder, {f"{model.stem}.tflite": result.artifact, "report.json": to_json(report).encode()})
    if as_json:
        click.echo(to_json(report), nl=False)
    elif not quiet:
        from convkit.report.terminal import render

        render(report, console(), verbose)
    return ExitCode.OK
