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

    def line(self, offset: int) -> int:
        """The line (1-based) that an offset is in."""
        return self.text.count("\n", 0, offset) + 1

    def problem(self, code: str, message: str, offset: int, help: str | None = None) -> ConvkitError:
        """The exception for a mistake at an offset, with its line and a caret under it."""
        column = offset - self.text.rfind("\n", 0, offset)
        shown = self.text[offset - column + 1 :].splitlines()[:1]
        notes = ("".join(shown), " " * (column - 1) + "^")
        place = Location(self.file, self.line(offset), column)
        return error(f"rules-{code}", message, location=place, help=help, notes=notes)

    def at(self, part: Tree | Token, code: str, message: str, help: str | None = None) -> ConvkitError:
        """The exception for a mistake in a part of the file."""
        return self.problem(code, message, part.start, help)

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


def parse(source: SourceText) -> Tree:
    """The syntax tree of a rule file; raises a `rules-syntax` ConvkitError with place and caret."""
    return _parsed(source, "start", 0, len(source.text))


def parse_expression(source: SourceText, start: int, end: int) -> Tree:
    """The syntax tree of an expression that stands at `start` to `end` of a file; raises like `parse`."""
    return _parsed(source, "or_", start, end)


def _parsed(source: SourceText, rule: str, start: int, end: int) -> Tree:
    text = source.text[start:end]
    key = digest(rule, text)
    if key not in source.trees:
        try:
            source.trees[key] = encode(_parse(text, rule))
        except _SyntaxError as mistake:
            raise source.problem("syntax", str(mistake), start + mistake.offset) from None
    tree: Tree = decode(source.trees[key], start)
    return tree


class _SyntaxError(Exception):
    """What the parser expected or found, at an offset of its text."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def _parse(text: str, rule: str) -> lark.Tree[lark.Token]:
    from lark.exceptions import UnexpectedCharacters, UnexpectedEOF, UnexpectedToken

    try:
        return _parser().parse(text, start=rule)
    except UnexpectedToken as problem:
        if problem.token.type == "$END":
            raise _at_end(text, rule, problem.expected) from None
        message = f"expected {_expected(problem.expected)}, found {str(problem.token)!r}"
        raise _SyntaxError(message, problem.token.start_pos or 0) from None
    except UnexpectedCharacters as problem:
        offset = problem.pos_in_stream or 0
        message = f"expected {_expected(problem.allowed or ())}, found {text[offset]!r}"
        if text[offset] == '"':
            message = "a text in quotes must end on the line it starts on"
        raise _SyntaxError(message, offset) from None
    except UnexpectedEOF as problem:
        raise _at_end(text, rule, problem.expected) from None


def _at_end(text: str, rule: str, expected: Any) -> _SyntaxError:
    what = "file" if rule == "start" else "expression"
    return _SyntaxError(f"the {what} ends where {_expected(expected)} is expected", len(text.rstrip()))
