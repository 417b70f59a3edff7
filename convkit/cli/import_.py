"""`convkit import`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from convkit.cli.console import console, exits, progress
from convkit.cli.options import common, import_options, importing, model_argument, stem_of
from convkit.diagnostics import ExitCode, error


@click.command("import")
@model_argument
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE.onnx", help="Default: <stem>.onnx."
)
@importing
@common
@exits
def command(
    model: Path,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
    **importing: Any,
) -> ExitCode:
    """Write MODEL, of any format, as ONNX in normal form: one opset, static shapes, constants folded."""
    import json

    from convkit.backends.onnx_file import write_onnx
    from convkit.files import output_folder
    from convkit.frontends import load_any
    from convkit.ir.normal import normalize

    path = output or Path(f"{stem_of(model)}.onnx")
    if path.resolve() == model.resolve():
        raise error(
            "same-file", "the output is the model itself", help="choose another name with -o FILE.onnx"
        )
    with output_folder(path.parent), progress(not (quiet or as_json), f"importing {model.name}"):
        imported = load_any(model, import_options(**importing))
        normalize(imported.model)
        written = write_onnx(imported.model, path)
    nodes = len(list(imported.model.graph))
    if as_json:
        files = [str(file) for file in written]
        said = {"format": imported.format, "output": str(path), "nodes": nodes, "files": files}
        click.echo(json.dumps(said))
    elif not quiet:
        beside = f" (weights in {written[1].name})" if written[1:] else ""
        console().print(f"{path}: {nodes} nodes, from {imported.format}{beside}")
    return ExitCode.OK
