"""Pages made from rule files are those that `make docs` would write now."""

from __future__ import annotations

from bench.docs import pages
from convkit.targets import available_targets, load_target
from convkit.targets.examples import example_of


def test_generated_pages_are_up_to_date() -> None:
    stale = [path.name for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"


def test_most_rules_have_an_example() -> None:
    ids = {rule.id for name in available_targets() for rule in load_target(name).rules}
    shown = [example for rule in ids if (example := example_of(rule)) is not None]
    assert len(shown) > 0.85 * len(ids), "run `make docs`"
    assert all(example.refused and example.says for example in shown)
    assert sum(bool(example.accepted) for example in shown) > 0.9 * len(shown)
