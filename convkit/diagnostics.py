"""What convkit says when something is wrong: one Diagnostic, with a place and a remedy.

Library code raises `ConvkitError`; only `convkit.cli` prints it and chooses the exit code.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum


class Severity(IntEnum):
    """How bad a finding is; the order is the order of badness."""

    NOTE = 0
    WARNING = 1
    ERROR = 2


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FINDING = 1
    """A check found something at or above the user's limit."""
    BAD_INPUT = 2
    """The model, the options or the call are wrong."""
    TOOLCHAIN = 3
    """A vendor tool is missing or failed."""


@dataclass(frozen=True)
class Location:
    """Where a finding points: a file (1-based line and column), a graph node, or both."""

    file: str | None = None
    line: int | None = None
    column: int | None = None
    node: str | None = None

    def __str__(self) -> str:
        parts = [str(p) for p in (self.file, self.line, self.column) if p is not None]
        place = ":".join(parts)
        if self.node is None:
            return place
        return f"{place}: node {self.node}" if place else f"node {self.node}"


@dataclass(frozen=True)
class Diagnostic:
    """One finding: a stable kebab-case code, one sentence, a place, and what to do about it."""

    code: str
    message: str
    severity: Severity = Severity.ERROR
    location: Location | None = None
    help: str | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = f"{self.location}: " if self.location and str(self.location) else ""
        lines = [f"{where}{self.severity.name.lower()}[{self.code}]: {self.message}"]
        lines += [f"  note: {note}" for note in self.notes]
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class ConvkitError(Exception):
    """An error with one or more Diagnostics; `exit_code` is what the command line returns."""

    def __init__(self, *diagnostics: Diagnostic, exit_code: ExitCode = ExitCode.BAD_INPUT) -> None:
        super().__init__("\n".join(str(d) for d in diagnostics))
        self.diagnostics = diagnostics
        self.exit_code = exit_code


def error(
    code: str,
    message: str,
    *,
    location: Location | None = None,
    help: str | None = None,
    notes: tuple[str, ...] = (),
    exit_code: ExitCode = ExitCode.BAD_INPUT,
) -> ConvkitError:
    """Make the exception for one error Diagnostic: `raise error("unknown-target", ...)`."""
    diagnostic = Diagnostic(code, message, location=location, help=help, notes=notes)
    return ConvkitError(diagnostic, exit_code=exit_code)


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """The help for a name that is not known: "did you mean a or b?", None if nothing is near."""
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(near)}?" if near else None
