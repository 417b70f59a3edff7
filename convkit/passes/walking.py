"""Rewrites that find the nodes they replace by walking the graph, where a fixed pattern cannot."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import onnx_ir as ir

from convkit.ir.facts import is_op
from convkit.rewrite import Facts, Match, NoMatch, Rewrite


class WalkingRewrite(Rewrite):
    """The pattern only names the root; `check` walks on and hands the nodes it met over as fact `walked`.

    They join the match, so that their origins pass to what replaces them; those that nothing reads any
    more are removed. With `any_operands` the pattern gives operator types alone, whatever they read.
    """

    shares_interior = True
    any_operands: ClassVar[bool] = False

    def find(self, node: ir.Node) -> tuple[Match, Facts] | NoMatch:
        found = self._find_root(node) if self.any_operands else super().find(node)
        if isinstance(found, NoMatch):
            return found
        match, facts = found
        rest = {name: fact for name, fact in facts.items() if name != "walked"}
        return replace(match, nodes=tuple(dict.fromkeys((*match.nodes, *facts.get("walked", ()))))), rest

    def _find_root(self, node: ir.Node) -> tuple[Match, Facts] | NoMatch:
        if not is_op(node, *self.roots):
            return NoMatch("the pattern does not match", node)
        match = Match(node, {}, {}, (node,))
        facts = self.check(match)
        return facts if isinstance(facts, NoMatch) else (match, facts)
