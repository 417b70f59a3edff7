"""Probes: graphs of one operator each, that ask an accelerator what it takes and what it computes.

A probe's answer is `taken` (and computed right), `refused`, `wrong` (taken, and the numbers are wrong)
or `fails` (taken, and the model does not load or the process dies).
"""

from __future__ import annotations

from functools import cache

from tests.probes import binary, elementwise, kinds, lookups, nn, shapes
from tests.probes.build import Probe


@cache
def all_probes() -> tuple[Probe, ...]:
    """Every probe, names unique."""
    found = tuple(
        p for family in (elementwise, binary, shapes, lookups, nn, kinds) for p in family.all_probes()
    )
    assert len({p.name for p in found}) == len(found)
    return found
