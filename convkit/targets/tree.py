"""Syntax trees of rule files. Own types: a tree that is kept between runs comes back without the parser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where a piece of text stands: line and column of its first character (1-based), and its offsets."""

    line: int
    column: int
    start: int
    end: int


class Token(str):
    """A word of a rule file: its text, the `type` of its terminal, its place."""

    __slots__ = ("place", "type")

    type: str
    place: Place

    def __new__(cls, type: str, text: str, place: Place) -> Token:
        made = super().__new__(cls, text)
        made.type, made.place = type, place
        return made


@dataclass(eq=True)
class Tree:
    """What one rule of the grammar matched: the rule's name, its parts (None for an optional part that is
    absent), its place."""

    __slots__ = ("children", "data", "place")

    data: str
    children: Sequence[Any]
    place: Place

    def tokens(self) -> Iterator[Token]:
        """Every token below, in the order of the text."""
        for child in self.children:
            if isinstance(child, Token):
                yield child
            elif child is not None:
                yield from child.tokens()
