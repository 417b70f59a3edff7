"""The report: its JSON form against the schema, its verdicts, and what stands on the terminal."""

from __future__ import annotations

import io
import json
from dataclasses import replace

import jsonschema
import pytest
from rich.console import Console

from convkit.report import OpEntry, OpVerdict, Report, Verdict, schema, to_dict, to_json
from convkit.report.terminal import render
from convkit.report.text import quantity, share
from tests.unit import reports


@pytest.mark.parametrize("report", [reports.whole(), reports.partial()], ids=["whole", "partial"])
def test_json_satisfies_the_schema(report: Report) -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.Draft202012Validator(schema()).validate(json.loads(to_json(report)))


def test_json_numbers_are_json() -> None:
    nan = replace(reports.GOOD, max_abs=float("nan"), psnr_db=float("inf"))
    verification = reports.whole().verification
    assert verification is not None
    body = to_dict(replace(reports.whole(), verification=replace(verification, outputs=(nan,))))
    assert body["verification"]["outputs"][0]["max_abs"] is None
    assert body["verification"]["outputs"][0]["psnr_db"] is None


def test_summary_counts() -> None:
    body = to_dict(reports.partial())
    assert body["schema"] == "convkit.report/1"
    assert body["verdict"] == "partial"
    assert body["summary"] == {
        "operators": 16,
        "accelerated": 1,
        "macs": 1_020_000_000,
        "accelerated_macs": 900_000_000,
    }
    assert body["verification"]["passed"] is False


def test_verdict() -> None:
    assert reports.whole().verdict is Verdict.ACCELERATED
    assert replace(reports.whole(), ops=(OpEntry(0, "TILE", OpVerdict.FALLBACK),)).verdict is Verdict.CPU
    assert replace(reports.whole(), ops=()).verdict is Verdict.ACCELERATED


def _shown(report: Report, verbosity: int = 0, width: int = 140) -> str:
    stream = io.StringIO()
    render(report, Console(file=stream, width=width), verbosity)
    return stream.getvalue()


def test_terminal_says_the_verdict_first() -> None:
    first = _shown(reports.whole()).strip().splitlines()[0]
    assert first == "✔ ACCELERATED  all 3 operators run on the GPU"
    assert _shown(reports.partial()).strip().startswith("▲ PARTIAL  15 of 16 operators run on the CPU")


def test_terminal_groups_fallbacks_by_rule() -> None:
    text = _shown(reports.partial())
    assert "GATHER ×12" in text
    assert "gather-to-slice" in text
    assert "models/vit.py:100" in text
    assert "+9 more" in text
    assert "vit[tiny].onnx" in text  # square brackets in names are not markup
    assert "3 of 10 elements differ" in text
    assert "\n    0  CONV_2D" not in text
    assert "\n    0  CONV_2D" in _shown(reports.partial(), verbosity=1)


def test_terminal_fits_narrow_screens() -> None:
    for line in _shown(reports.partial(), verbosity=1, width=80).splitlines():
        assert len(line) <= 80


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 B"), (999, "999 B"), (999.6, "1.00 kB"), (12_345, "12.3 kB"), (999_999_999, "1.00 GB")],
)
def test_quantity(number: float, text: str) -> None:
    assert quantity(number, "B") == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0 %"),
        (1, 1, "100 %"),
        (99_999, 100_000, "> 99.9 %"),
        (1, 100_000, "< 0.1 %"),
        (35, 1000, "3.5 %"),
    ],
)
def test_share(part: float, whole: float, text: str) -> None:
    assert share(part, whole) == text
