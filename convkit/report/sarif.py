"""A check as SARIF 2.1.0 (OASIS), which code hosts show on the lines of a pull request."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from convkit.report.causes import Cause, causes
from convkit.report.check import CheckResult, Failure
from convkit.report.model import OpEntry, OpVerdict, Report
from convkit.report.text import quantity

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
_LEVEL = {"reject": "error", "fallback": "error", "slow": "warning", "info": "note"}


def to_sarif(result: CheckResult) -> str:
    """One result for each rule and place it points at: the source line of the origin, else the model."""
    from convkit import __version__

    rules: dict[str, dict[str, Any]] = {}
    results: list[dict[str, Any]] = []
    for report in result.reports:
        for cause in causes(op for op in report.ops if op.reasons or op.verdict is not OpVerdict.ACCELERATED):
            results += _results(report, cause, rules)
    driver = {
        "name": "convkit",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": list(rules.values()),
    }
    notifications = [n for failure in result.failures for n in _notifications(failure)]
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "invocations": [
            {"executionSuccessful": not result.failures, "toolExecutionNotifications": notifications}
        ],
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    body = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(body, indent=2, ensure_ascii=False) + "\n"


def _results(report: Report, cause: Cause, rules: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The operators of a cause by place: one result for each rule."""
    places: dict[tuple[str, int], list[OpEntry]] = {}
    for op in cause.ops:
        places.setdefault(_place(report, op), []).append(op)
    for (file, line), ops in places.items():
        for rule, level, message, sources in _said(report, ops[0]):
            number = _index(rules, rule, message, sources, level)
            cost = (
                quantity(sum(op.macs for op in ops), "MAC") + ", " + quantity(sum(o.bytes for o in ops), "B")
            )
            times = f"{len(ops)} {cause.op} operators" if len(ops) > 1 else f"{cause.op} #{ops[0].index}"
            text = f"{report.target.name}: {times}: {message} ({cost})"
            if cause.fixes:
                text += f"; cured by {', '.join(cause.fixes)}"
            region = {"region": {"startLine": line}} if line else {}
            nodes = list(dict.fromkeys(n for op in ops for n in (*op.origin.modules, *op.origin.nodes)))[:10]
            names = [{"fullyQualifiedName": name} for name in nodes]
            location = {"physicalLocation": {"artifactLocation": {"uri": _uri(file)}, **region}}
            yield {
                "ruleId": rule,
                "ruleIndex": number,
                "level": level,
                "message": {"text": text},
                "locations": [location | ({"logicalLocations": names} if names else {})],
                "partialFingerprints": {"convkit/v1": _fingerprint(report, cause, rule, file, nodes)},
            }


def _said(report: Report, op: OpEntry) -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """Rule, SARIF level, message and sources of everything said of an operator."""
    for reason in op.reasons:
        level = "warning" if reason.undecided else _LEVEL[reason.severity]
        yield reason.rule, level, reason.message, reason.sources
    if op.verdict is OpVerdict.STRANDED or (op.verdict is not OpVerdict.ACCELERATED and not op.reasons):
        level = "warning" if op.verdict is OpVerdict.UNDECIDED else "error"
        message = Cause((op,)).why
        yield f"{report.target.name}/{op.verdict.value}", level, message, ()


def _index(
    rules: dict[str, dict[str, Any]], rule: str, message: str, sources: tuple[str, ...], level: str
) -> int:
    """The rule's place in the tool's table, where it is put at its first finding."""
    if rule not in rules:
        rules[rule] = {
            "id": rule,
            "shortDescription": {"text": message},
            "fullDescription": {"text": "; ".join((message, *sources))},
            "defaultConfiguration": {"level": level},
        }
    return list(rules).index(rule)


def _place(report: Report, op: OpEntry) -> tuple[str, int]:
    """File and line (0: none) that an operator is pointed at by."""
    for source in reversed(op.origin.sources):
        file, _, line = source.rpartition(":")
        if file and line.isdecimal():
            return file, int(line)
    return report.model.path or "model", 0


def _uri(file: str) -> str:
    """Relative to the working folder where it lies below it: code hosts match paths of the repository."""
    path = Path(file)
    if path.is_absolute():
        if not path.is_relative_to(Path.cwd()):
            return path.as_uri()
        path = path.relative_to(Path.cwd())
    return quote(path.as_posix())


def _fingerprint(report: Report, cause: Cause, rule: str, file: str, nodes: list[str]) -> str:
    parts = (rule, report.target.name, Path(report.model.path).name, cause.op, Path(file).name, *nodes)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]


def _notifications(failure: Failure) -> Iterator[dict[str, Any]]:
    for said in failure.diagnostics:
        yield {
            "level": "error",
            "descriptor": {"id": said.code},
            "message": {"text": str(said)},
            "locations": [{"physicalLocation": {"artifactLocation": {"uri": _uri(failure.model)}}}],
        }
