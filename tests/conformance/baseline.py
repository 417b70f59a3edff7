"""The committed results: what a change may not make worse, and what docs/conformance.md is made from."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.run import FORMS, Result
from tests.conformance.suite import Case

BASELINE = Path(__file__).with_name("baseline.json")
PASSED = ("passed", "bound")
_LETTERS = {"passed": "p", "bound": "b", "refused": "r", "failed": "f"}
_STATUSES = {letter: status for status, letter in _LETTERS.items()}
_LONGEST = 140
"""Letters of a reason that are kept."""

Key = tuple[str, str, str]
Results = Mapping[Key, Result]


@dataclass(frozen=True)
class Row:
    """A case and what became of it in each form; `outside` says why it is not counted for TFLite."""

    kind: str
    name: str
    operator: str
    outside: str
    results: Mapping[str, Result]


@dataclass(frozen=True)
class Stored:
    """The results of a run of the whole suite."""

    onnx: str
    rows: tuple[Row, ...]


def write(results: Results, cases: Iterable[Case], version: str) -> None:
    """Store the results: one letter per form (in the order of `FORMS`), and why a case did not pass."""
    stored: dict[str, list[object]] = {}
    for case in sorted(cases, key=lambda c: (c.kind, c.name)):
        found = {form: results[case.kind, case.name, form] for form in FORMS}
        letters = "".join(_LETTERS[found[form].status] for form in FORMS)
        entry: list[object] = [letters, case.operator, case.outside]
        tflite = found["tflite"]
        if tflite.status not in PASSED:
            entry += [tflite.code, " ".join(tflite.detail.replace("|", "/").split())[:_LONGEST]]
        if found["normal"].status == "refused":
            entry += [""] * (5 - len(entry)) + [found["normal"].code]
        stored[f"{case.kind}/{case.name}"] = entry
    head = json.dumps({"onnx": version, "forms": list(FORMS)})[:-1]
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(entry)}" for key, entry in stored.items())
    BASELINE.write_text(f'{head}, "cases": {{\n{lines}\n}}}}\n')


def read() -> Stored:
    """The stored results."""
    document = json.loads(BASELINE.read_text())
    rows = []
    for key, (letters, operator, outside, *why) in document["cases"].items():
        kind, _, name = key.partition("/")
        code, detail, normal = [*why, "", "", ""][:3]
        codes = {"tflite": (code, detail), "normal": (normal, "")}
        results = {
            form: Result(_STATUSES[letter], *codes.get(form, ("", "")))
            for form, letter in zip(document["forms"], letters, strict=True)
        }
        rows.append(Row(kind, name, operator, outside, results))
    return Stored(document["onnx"], tuple(rows))


def regressions(results: Results) -> list[str]:
    """The cases that passed by the baseline and no longer do, and those that are new among the failed."""
    lines = []
    before = {(row.kind, row.name, form): r.status for row in read().rows for form, r in row.results.items()}
    for key, result in sorted(results.items()):
        was = before.get(key)
        if result.status not in PASSED and (was in PASSED or (result.status == "failed" and was != "failed")):
            kind, name, form = key
            lines.append(
                f"{form}: {kind}/{name} was {was}, is {result.status} [{result.code}] {result.detail}"
            )
    return lines
