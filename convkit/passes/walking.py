"""Rewrites that find the nodes they replace by walking the graph, where a fixed pattern cannot."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from convkit.rewrite import Facts, Match, NoMatch, Rewrite


class WalkingRewrite(Rewrite):
    """The pattern only names the root; `check` walks on and hands the nodes it met over as fact `walked`.

    They join the match, so that their origins pass to what replaces them; those that nothing reads any
    more are removed.
    """

    shares_interior = True

    def find(self, node: ir.Node) -> tuple[Match, Facts] | NoMatch:
        found = super().find(node)
        if isinstance(found, NoMatch):
            return found
        match, facts = found
        rest = {name: fact for name, fact in facts.items() if name != "walked"}
        return replace(match, nodes=tuple(dict.fromkeys((*match.nodes, *facts["walked"])))), rest
