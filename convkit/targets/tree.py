"""Syntax trees of rule files. Own types: a tree that is kept between runs comes back without the parser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any


class Token(str):
    """A word of a rule file: its text, the `type` of its terminal, the offset where it starts."""

    __slots__ = ("start", "type")

    type: str
    start: int

    def __new__(cls, type: str, text: str, start: int) -> Token:
        made = super().__new__(cls, text)
        made.type, made.start = type, start
        return made


@dataclass
class Tree:
    """What one rule of the grammar matched: the rule's name, its parts (None for an optional part that is
    absent), the offsets where it starts and ends."""

    __slots__ = ("children", "data", "end", "start")

    data: str
    children: Sequence[Any]
    start: int
    end: int

    def tokens(self) -> Iterator[Token]:
        """Every token below, in the order of the text."""
        for child in self.children:
            if isinstance(child, Token):
                yield child
            elif child is not None:
                yield from child.tokens()
