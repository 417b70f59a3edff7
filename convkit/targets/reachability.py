"""Find conditions that no operator can meet: contradictory bounds on the same quantity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any


def contradiction(tree: Any) -> str | None:
    """Why the `and`ed comparisons of a condition cannot all hold, or None where nothing says so.

    Only comparisons of one quantity with a literal number are looked at; ranks and counts are whole
    and not negative.
    """
    bounds: dict[str, tuple[float, float]] = {}
    for term, sign, number in _bounds(tree):
        low, high = bounds.get(term, (0.0, math.inf) if _is_count(term) else (-math.inf, math.inf))
        step = 1.0 if _is_count(term) else 0.0
        if sign in {"==", ">", ">="}:
            low = max(low, number + (step if sign == ">" else 0.0))
        if sign in {"==", "<", "<="}:
            high = min(high, number - (step if sign == "<" else 0.0))
        strict = sign in {"<", ">"} and step == 0.0
        if low > high or (strict and low == high):
            return f"{term} cannot be both" if term in bounds else f"{term} is never {sign} {number:g}"
        bounds[term] = (low, high)
    return None


def _bounds(tree: Any) -> Iterator[tuple[str, str, float]]:
    if tree.data == "and_":
        for child in tree.children:
            yield from _bounds(child)
    elif tree.data == "or_" and len(tree.children) == 1:
        yield from _bounds(tree.children[0])
    elif tree.data == "compare":
        left, sign, right = tree.children
        if right.data == "number":
            yield _text(left), str(sign), float(right.children[0])


def _text(tree: Any) -> str:
    tokens = [str(t) for t in tree.tokens()]
    return f"{tokens[0]}({', '.join(tokens[1:])})" if tree.data == "call" else " ".join(tokens)


def _is_count(term: str) -> bool:
    return term.startswith(("rank(", "elements(", "version", "inputs", "outputs", "groups", "max_rank"))
