"""Pages made from rule files are those that `make docs` would write now."""

from __future__ import annotations

from bench.docs import pages


def test_generated_pages_are_up_to_date() -> None:
    stale = [path.name for path, text in pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make docs`"
