"""Kept syntax trees: the same targets with and without, and a damaged cache is no cache."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from convkit.targets import loader, rule_folders, syntax, tree_cache
from convkit.targets.target import Target


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "convkit"


def _load(name: str = "mali-gpu") -> Target:
    return loader._load(name, rule_folders(), None, ())


def _said(target: Target) -> list[tuple[object, ...]]:
    return [(r.id, r.severity, r.text, r.when, r.cites, r.fixes, r.line) for r in target.rules]


def test_a_second_load_parses_nothing_and_says_the_same(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = _load()
    assert sorted(own_cache.glob("rules-*.json"))

    def never(*_: object) -> None:
        raise AssertionError("parsed again")

    monkeypatch.setattr(syntax, "_parse", never)
    assert _said(_load()) == _said(first)


def test_a_damaged_cache_is_no_cache(own_cache: Path) -> None:
    first = _load()
    for path in own_cache.iterdir():
        path.write_text("[1, 2")
    assert _said(_load()) == _said(first)


def test_a_folder_that_cannot_be_written_changes_nothing(own_cache: Path) -> None:
    own_cache.parent.joinpath("convkit").write_text("a file, not a folder")
    assert _load().name == "mali-gpu"


def test_trees_come_back_with_their_words_and_places() -> None:
    text = Path(rule_folders()[-1], "mali-gpu.rules").read_text()
    parsed = syntax._parse(text, "start")
    kept = json.loads(json.dumps(tree_cache.encode(parsed)))
    tree = tree_cache.decode(kept)
    assert tree.data == parsed.data
    words = parsed.scan_values(lambda found: found is not None)
    assert [(t.type, str(t), t.start) for t in tree.tokens()] == [
        (t.type, str(t), t.start_pos) for t in words
    ]
    assert all(text[token.start :].startswith(token) for token in tree.tokens())
    assert text[tree.start : tree.end].startswith("target mali-gpu")
    moved = tree_cache.decode(kept, 7)
    assert (moved.start, next(moved.tokens()).start) == (tree.start + 7, next(tree.tokens()).start + 7)


def test_a_kept_tree_needs_no_parser(own_cache: Path) -> None:
    load = "from convkit.targets import load_target; load_target('mali-gpu')"
    command = [sys.executable, "-c", f"import sys; {load}; print('lark' in sys.modules)"]
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)
    ]
    assert said == ["True", "False"]
