"""Origin: which part of the user's model a node came from, kept through every rewrite."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_ir as ir

_KEY = "convkit.origin"


@dataclass(frozen=True)
class Origin:
    """Imported node names, framework module paths, `file:line` sources, and rewrite ids applied."""

    nodes: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    rewrites: tuple[str, ...] = ()

    def union(self, *others: Origin) -> Origin:
        """Merge, keeping the first-seen order and dropping repeats."""
        every = (self, *others)
        return Origin(
            *(
                tuple(dict.fromkeys(x for o in every for x in getattr(o, field)))
                for field in ("nodes", "modules", "sources", "rewrites")
            )
        )

    def through(self, rewrite_id: str) -> Origin:
        """The origin of what rewrite `rewrite_id` made out of nodes with this origin."""
        return self.union(Origin(rewrites=(rewrite_id,)))


def origin_of(node: ir.Node) -> Origin:
    """The origin of `node`; a node that was never annotated stands for itself."""
    found = node.meta.get(_KEY)
    return found if isinstance(found, Origin) else Origin(nodes=(node.name,) if node.name else ())


def set_origin(node: ir.Node, origin: Origin) -> None:
    """Attach `origin` to `node`."""
    node.meta[_KEY] = origin


def merge_origins(nodes: Iterable[ir.Node]) -> Origin:
    """The union of the origins of `nodes`."""
    return Origin().union(*(origin_of(node) for node in nodes))
