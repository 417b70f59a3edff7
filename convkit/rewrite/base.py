"""Rewrite: one law of the algebra of operators, with its pattern, its side conditions, its result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, ClassVar

import onnx_ir as ir

from convkit.rewrite.pattern import Match, Pattern, build_pattern, matches_at, root_types
from convkit.rewrite.rewriter import Rewriter


class Exactness(IntEnum):
    """What a rewrite keeps; the order is the order of loss."""

    BITEXACT = 0
    """Every bit of every output."""
    REASSOCIATED = 1
    """The same real function; float rounding differs."""
    APPROXIMATE = 2
    """A function within a stated bound of the original."""
    RETRAIN = 3
    """Another function of the same shape, to be fine-tuned."""


NO_PATTERN = "the pattern does not match"


@dataclass(frozen=True, slots=True)
class NoMatch:
    """Why a rewrite does not apply, and at which node or value."""

    reason: str
    where: ir.Node | ir.Value | None = None


Facts = Mapping[str, Any]


class Rewrite(ABC):
    """One law. Subclasses are stateless; `check` reads only; `rewrite` builds only.

    Class attributes: `id` (CK-FUSE-001, never reused), `name` (kebab-case: what rule files and the
    command line call it), `law` (one line, left = right), `exactness`. `shares_interior` says that
    values inside the match may have readers outside of it (they then stay alive).
    """

    id: ClassVar[str]
    name: ClassVar[str]
    law: ClassVar[str]
    exactness: ClassVar[Exactness]
    shares_interior: ClassVar[bool] = False

    @abstractmethod
    def pattern(self, op: Any, *variables: Any, **_: Any) -> Any:
        """The left-hand side, as if calling ops; its last operator is the root of a match."""

    def check(self, match: Match) -> Facts | NoMatch:
        """The side conditions: facts handed to `rewrite`, or why it does not apply."""
        return {}

    @abstractmethod
    def rewrite(self, rw: Rewriter, match: Match, *_: Any, **facts: Any) -> ir.Value | Sequence[ir.Value]:
        """Build the right-hand side; the values replace the root's outputs, in order."""

    @cached_property
    def compiled(self) -> Pattern:
        """The pattern, built once."""
        return build_pattern(self.pattern)

    @cached_property
    def roots(self) -> frozenset[str]:
        """Operator types to try this rewrite at."""
        return root_types(self.compiled)

    def find(self, node: ir.Node) -> tuple[Match, Facts] | NoMatch:
        """The first match at `node` whose side conditions hold, else why the first match fails."""
        refusal: NoMatch | None = None
        for match in matches_at(self.compiled, node):
            if not self.shares_interior and (outside := _read_outside(match)) is not None:
                facts: Facts | NoMatch = NoMatch("an inner value is also read elsewhere", outside)
            else:
                facts = self.check(match)
            if not isinstance(facts, NoMatch):
                return match, facts
            refusal = refusal or facts
        return refusal or NoMatch(NO_PATTERN, node)


def _read_outside(match: Match) -> ir.Value | None:
    """An output of an inner node that something outside the match reads."""
    inside = set(match.nodes)
    for node in match.nodes:
        if node is match.root:
            continue
        for value in node.outputs:
            if value.is_graph_output() or any(use.node not in inside for use in value.uses()):
                return value
    return None
