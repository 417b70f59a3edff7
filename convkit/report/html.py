"""A check as one HTML page that needs no network: summary, matrix, graph, table, details."""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib.resources import files
from string import Template
from typing import Any

from convkit.report.causes import UNRULED, causes, gravest
from convkit.report.check import Checked, CheckResult, cell_of
from convkit.report.model import OpEntry, OpVerdict, Reason, Report
from convkit.report.serialize import plain
from convkit.report.terminal_check import short_names
from convkit.report.text import decibel, headline

_VERDICTS = tuple(OpVerdict)


class _Table:
    """Values that stand for themselves in many places, each kept once."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self._index: dict[Any, int] = {}

    def add(self, value: Any) -> int:
        """The place of `value` (hashable) in `values`."""
        if value not in self._index:
            self._index[value] = len(self.values)
            self.values.append(value)
        return self._index[value]


def to_html(result: CheckResult) -> str:
    """The page; model text goes in as JSON, and the script writes none of it unescaped."""
    assets = files("convkit.report").joinpath("assets")
    style, script, page = (
        assets.joinpath(n).read_text("utf-8") for n in ("report.css", "report.js", "page.html")
    )
    text = json.dumps(_data(result), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    data = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return Template(page).substitute(title="convkit check", style=style, script=script, data=data)


def _data(result: CheckResult) -> dict[str, Any]:
    """Everything the page shows; strings, reasons and origins are written once and referred to."""
    strings, reasons, origins = _Table(), _Table(), _Table()
    names, models, targets = short_names(result.models), result.models, result.targets
    identity = {report.target.name: report.target for report in result.reports}
    reports = [
        _report(checked, strings, reasons, origins)
        | {
            "model": models.index(checked.report.model.path),
            "target": targets.index(checked.report.target.name),
        }
        for checked in result.checked
    ]
    telling = (i for i, c in enumerate(result.checked) if c.report.left_behind)
    return {
        "passed": not result.exit_code,
        "models": [{"path": path, "name": names[path]} for path in models],
        "targets": [
            plain(identity[name]) if name in identity else {"name": name, "title": ""} for name in targets
        ],
        "failures": [
            {
                "model": f.model,
                "target": f.target,
                "message": f.diagnostics[0].message,
                "help": f.diagnostics[0].help,
            }
            for f in result.failures
        ],
        "unruled": {verdict.value: text for verdict, text in UNRULED.items()},
        "strings": strings.values,
        "reasons": [plain(reason) for reason in reasons.values],
        "origins": [plain(origin) for origin in origins.values],
        "reports": reports,
        "first": next(telling, 0),
    }


def _report(checked: Checked, strings: _Table, reasons: _Table, origins: _Table) -> dict[str, Any]:
    report = checked.report
    ops = report.ops
    columns = {
        "op": [strings.add(op.op) for op in ops],
        "name": [strings.add(op.name) for op in ops],
        "version": [op.version for op in ops],
        "verdict": [_VERDICTS.index(op.verdict) for op in ops],
        "macs": [op.macs for op in ops],
        "bytes": [op.bytes for op in ops],
        "partition": [op.partition for op in ops],
        "reads": [op.reads for op in ops],
        "makes": [[strings.add(made) for made in op.makes] for op in ops],
        "reasons": [[reasons.add(reason) for reason in _worst_first(op.reasons)] for op in ops],
        "origin": [origins.add(op.origin) for op in ops],
    }
    left: Iterable[OpEntry] = (op for op in ops if op.reasons or op.verdict is not OpVerdict.ACCELERATED)
    found = sorted(causes(left), key=lambda cause: cause.verdict is OpVerdict.ACCELERATED)
    return {
        "headline": headline(report),
        "cell": plain(cell_of(checked)),
        "breaches": [plain(breach) for breach in checked.breaches],
        "transfers": plain(report.transfers),
        "levers": [plain(lever) for lever in report.levers],
        "rewrites": [plain(entry) for entry in sorted(report.rewrites, key=lambda e: -e.count)],
        "figures": _figures(report),
        "causes": [{"ops": [op.index for op in c.ops], "why": c.why, "fixes": c.fixes} for c in found],
        "columns": columns,
    }


def _worst_first(reasons: tuple[Reason, ...]) -> list[Reason]:
    if not reasons:
        return []
    first = gravest(reasons)
    return [first, *(reason for reason in reasons if reason is not first)]


def _figures(report: Report) -> list[tuple[str, str, str]]:
    """Name, value and note of what only a verified compile knows."""
    worst = report.verification.worst if report.verification is not None else None
    if worst is None:
        return []
    exact = worst.max_abs == 0 and not worst.mismatches
    value = "bit-exact" if exact else f"{worst.max_rel:.1e}"
    return [("Max error", value, "" if exact else f"of range, SQNR {decibel(worst.sqnr_db)}")]
