"""`convkit quantize`."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from convkit.cli.console import console, exits, progress
from convkit.cli.options import common, model_argument, shapes_option
from convkit.diagnostics import ExitCode

if TYPE_CHECKING:
    from convkit.compiler.preview import QuantizationPreview


@click.command("quantize")
@model_argument
@click.option(
    "--preview",
    is_flag=True,
    required=True,
    help="Compare all schemes; write nothing. A quantized file is written by `convkit compile --quantize`.",
)
@click.option(
    "--calibration",
    metavar="DATA",
    required=True,
    help="Samples: FILE.npz, FILE.npy, a folder of them or of images, module:function, or `random`.",
)
@click.option("--samples", type=click.IntRange(1), default=100, show_default=True, metavar="N")
@click.option("--preprocess", metavar="SPEC", help="Of images: mean=A/B/C,std=A/B/C,order=rgb|bgr.")
@click.option("--sensitivity", is_flag=True, help="Also rank layers by what they lose alone in int8.")
@shapes_option
@common
@exits
def command(
    model: Path,
    preview: bool,
    calibration: str,
    samples: int,
    preprocess: str | None,
    sensitivity: bool,
    shapes: tuple[Any, ...],
    as_json: bool,
    quiet: bool,
    verbose: int,
    debug: bool,
) -> ExitCode:
    """Show what MODEL would lose by each quantization scheme, how large and how fast it would be: int8 by
    every calibration method, int16x8, dynamic range, weight-only and float16."""
    from convkit.compiler import CompileOptions
    from convkit.compiler.options import Quantization
    from convkit.compiler.preview import preview_quantization
    from convkit.quantize.data import Preprocess

    wanted = Quantization(
        calibration=calibration,
        samples=samples,
        preprocess=Preprocess.parse(preprocess) if preprocess else None,
    )
    options = CompileOptions(input_shapes={shaped[0]: shaped[1] for shaped in shapes})
    with progress(not (quiet or as_json), f"quantizing {model.name}"):
        found = preview_quantization(model, wanted, options, sensitivity)
    if as_json:
        click.echo(json.dumps(_plain(dataclasses.asdict(found)), indent=2, allow_nan=False))
    elif not quiet:
        _show(found)
    return ExitCode.OK


def _plain(value: Any) -> Any:
    """As JSON takes it: infinite figures, where nothing is lost, as null."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _show(found: QuantizationPreview) -> None:
    from rich.markup import escape
    from rich.table import Table

    from convkit.report.text import decibel, quantity

    names = [output.name for output in found.rows[0].outputs]
    table = Table(box=None, pad_edge=False)
    table.add_column("scheme")
    for title in ("size", "latency", *(f"SQNR / PSNR {escape(name)}" for name in names), "in float"):
        table.add_column(title, justify="right")
    for row in found.rows:
        losses = [f"{decibel(o.sqnr_db)} / {decibel(o.psnr_db)}" for o in row.outputs]
        left = str(row.left_float or "")
        table.add_row(row.name, quantity(row.size, "B"), f"{row.latency * 1e3:.2f} ms", *losses, left)
    out = console()
    out.print(table)
    out.print(
        f"[dim]calibrated on {found.calibrated} samples, measured on {found.measured}; latency in LiteRT on "
        "one thread of this machine[/]"
    )
    if found.layers:
        ranking = Table("layer", "operator", "SQNR alone", "MAC", box=None, pad_edge=False)
        for layer in found.layers:
            lost = decibel(layer.sqnr_db if math.isfinite(layer.sqnr_db) else None)
            ranking.add_row(escape(layer.name), layer.code, lost, quantity(layer.macs, "MAC"))
        out.print()
        out.print(ranking)
