"""The JSON form of a report (schema `convkit.report/1`)."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib.resources import files
from typing import Any

from convkit.report.model import SCHEMA_ID, Report


def plain(value: Any) -> Any:
    """`value` in JSON's terms: enums by value, tuples as lists, numbers that JSON lacks as null."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def to_dict(report: Report) -> dict[str, Any]:
    """`report` as a JSON object; validates against `schema()`."""
    from convkit import __version__

    body: dict[str, Any] = plain(report)
    summary = {
        "operators": len(report.ops),
        "accelerated": len(report.ops) - len(report.left_behind),
        "macs": report.total_macs,
        "accelerated_macs": report.total_macs - sum(op.macs for op in report.left_behind),
    }
    if report.verification is not None:
        body["verification"]["passed"] = report.verification.passed
    head = {"schema": SCHEMA_ID, "convkit": __version__, "verdict": report.verdict.value, "summary": summary}
    return head | body


def to_json(report: Report) -> str:
    """`report.json`: two-space indented, keys in the order of the classes, one final newline."""
    return json.dumps(to_dict(report), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) that every report.json satisfies."""
    text = files("convkit.report").joinpath("schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded
