"""The committed results: what a change may not make worse."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tests.conformance.run import FORMS, Result

BASELINE = Path(__file__).with_name("baseline.json")
PASSED = ("passed", "bound")
_LETTERS = {"passed": "p", "bound": "b", "refused": "r", "failed": "f"}
_STATUSES = {letter: status for status, letter in _LETTERS.items()}

Results = Mapping[tuple[str, str, str], Result]


def write(results: Results, version: str) -> None:
    """Store one letter per form (in the order of `FORMS`) for each case."""
    names = sorted({(kind, name) for kind, name, _ in results})
    cases = {f"{k}/{n}": "".join(_LETTERS[results[k, n, form].status] for form in FORMS) for k, n in names}
    document = {"onnx": version, "forms": list(FORMS), "cases": cases}
    BASELINE.write_text(json.dumps(document, indent=0) + "\n")


def read() -> dict[tuple[str, str, str], str]:
    """The stored statuses, by kind and name of the case, and form."""
    document = json.loads(BASELINE.read_text())
    stored = {}
    for key, letters in document["cases"].items():
        kind, _, name = key.partition("/")
        for form, letter in zip(document["forms"], letters, strict=True):
            stored[kind, name, form] = _STATUSES[letter]
    return stored


def regressions(results: Results) -> list[str]:
    """The cases that passed by the baseline and no longer do, and those that are new among the failed."""
    lines = []
    before = read()
    for key, result in sorted(results.items()):
        was = before.get(key)
        if result.status not in PASSED and (was in PASSED or (result.status == "failed" and was != "failed")):
            kind, name, form = key
            lines.append(
                f"{form}: {kind}/{name} was {was}, is {result.status} [{result.code}] {result.detail}"
            )
    return lines
