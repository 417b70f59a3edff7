"""Each rule on two golden nodes, for people: one that it speaks of, one that it does not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache

from convkit.targets.loader import rule_folders


@dataclass(frozen=True)
class Example:
    """An operator that a rule speaks of, what it says then, and one that it does not speak of ("": none)."""

    refused: str
    says: str
    accepted: str = ""


def example_of(rule_id: str) -> Example | None:
    """The example of a shipped rule; None for a rule of the user's own."""
    return _shipped().get(rule_id)


@cache
def _shipped() -> dict[str, Example]:
    found: dict[str, Example] = {}
    for folder in rule_folders():
        path = folder / "examples.json"
        if path.is_file():
            body = json.loads(path.read_text(encoding="utf-8"))
            found |= {rule_id: Example(**example) for rule_id, example in body.items()}
    return found
