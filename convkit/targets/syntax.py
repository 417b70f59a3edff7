"""Rule files as text: the parser, and errors that show the place in the file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit.diagnostics import ConvkitError, Location, did_you_mean, error
from convkit.targets.tree import Token, Tree
from convkit.targets.tree_cache import Trees, decode, digest, encode

if TYPE_CHECKING:
    import lark

# What the parser's terminals are called in an error message.
_TERMINALS = {
    "RULE_ID": "a rule id such as LRT-GATHER-001",
    "SEVERITY": "reject, fallback, slow or info",
    "CONSTANT": "a name in capitals",
    "KEBAB": "a name",
    "TARGET": "a target's name",
    "NAME": "a name",
    "STRING": "a text in quotes",
    "NUMBER": "a number",
    "INT": "a whole number",
    "COMPARE": "a comparison",
    "RBRACE": '"}"',
    "LBRACE": '"{"',
    "RPAR": '")"',
    "LPAR": '"("',
    "COMMA": '","',
    "EQUAL": '"="',
    "DOT": '"."',
    "$END": "the end of the file",
}


@dataclass(frozen=True)
class SourceText:
    """A rule file's text, to point into, and the trees of it that are known already."""

    text: str
    file: str
    trees: Trees = field(default_factory=dict, compare=False, repr=False)

    def problem(
        self, code: str, message: str, line: int, column: int, help: str | None = None
    ) -> ConvkitError:
        """The exception for a mistake at a place (1-based), with the line and a caret under it."""
        lines = self.text.splitlines()
        shown = lines[line - 1] if 0 < line <= len(lines) else ""
        notes = (shown, " " * (column - 1) + "^")
        place = Location(self.file, line, column)
        return error(f"rules-{code}", message, location=place, help=help, notes=notes)

    def at(self, part: Tree | Token, code: str, message: str, help: str | None = None) -> ConvkitError:
        """The exception for a mistake in a part of the file."""
        return self.problem(code, message, part.place.line, part.place.column, help)

    def unknown(
        self, token: Token, what: str, known: Iterable[str], code: str = "unknown-name"
    ) -> ConvkitError:
        """The exception for a name that is not one of `known`, with the nearest ones."""
        names = sorted(known)
        help = did_you_mean(str(token), names) or (f"known: {', '.join(names)}" if len(names) <= 12 else None)
        return self.at(token, code, f"{what} {str(token)!r} is not known", help)


@cache
def grammar_text() -> str:
    """The grammar of rule files."""
    return Path(__file__).with_name("grammar.lark").read_text()


@cache
def _parser() -> lark.Lark:
    from lark import Lark

    return Lark(grammar_text(), parser="lalr", start=["start", "or_"], propagate_positions=True)


def _expected(names: Iterable[str]) -> str:
    words = sorted({_TERMINALS.get(name, name.strip("_").lower()) for name in names})
    return " or ".join(filter(None, (", ".join(words[:-1]), *words[-1:]))) or "something else"


def parse(source: SourceText, start: str = "start") -> Tree:
    """The syntax tree of a rule file; raises a `rules-syntax` ConvkitError with place and caret."""
    key = digest(start, source.text)
    if key not in source.trees:
        source.trees[key] = encode(_parse(source, start))
    return decode(source.trees[key])


def _parse(source: SourceText, start: str) -> lark.Tree[lark.Token]:
    from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken

    try:
        return _parser().parse(source.text, start=start)
    except UnexpectedToken as problem:
        if problem.token.type == "$END":
            raise _at_end(source, problem.expected) from None
        message = f"expected {_expected(problem.expected)}, found {str(problem.token)!r}"
        raise source.problem("syntax", message, problem.line, problem.column) from None
    except UnexpectedCharacters as problem:
        found = source.text[problem.pos_in_stream or 0]
        message = f"expected {_expected(problem.allowed or ())}, found {found!r}"
        if found == '"':
            message = "a text in quotes must end on the line it starts on"
        raise source.problem("syntax", message, problem.line, problem.column) from None
    except UnexpectedEOF as problem:
        raise _at_end(source, problem.expected) from None


def _at_end(source: SourceText, expected: Any) -> ConvkitError:
    lines = source.text.rstrip().splitlines() or [""]
    message = f"the file ends where {_expected(expected)} is expected"
    return source.problem("syntax", message, len(lines), len(lines[-1]) + 1)
