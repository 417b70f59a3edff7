"""What was measured of a node, noted for the cures: how its input is to be scaled, and its epsilon."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

_KEY = "convkit.float16"


@dataclass(frozen=True)
class Cure:
    """`scale`, a power of two, brings sums and squares into range; `epsilon` is that of the scaled input."""

    scale: float = 1.0
    epsilon: float | None = None


def note_cure(node: ir.Node, cure: Cure) -> None:
    """Leave a fact at a node."""
    node.meta[_KEY] = cure


def cure_of(node: ir.Node) -> Cure | None:
    """What was measured of a node, if it asks for a cure."""
    found = node.meta.get(_KEY)
    return found if isinstance(found, Cure) else None
