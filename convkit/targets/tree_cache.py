"""Syntax trees of the shipped rule files, kept between runs: parsing them is a third of a small compile.

A tree is JSON in the user's cache folder, under a name made from all that it depends on, so it can be
missing but never wrong. A cache that cannot be read or written is no cache; nothing else changes.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from convkit import __version__

if TYPE_CHECKING:
    from lark import Token, Tree

_PLACE = ("line", "column", "start_pos", "end_pos")

Trees = dict[str, Any]
"""Encoded trees by the digest of the text that was parsed."""


def digest(*texts: str) -> str:
    """A name for the parse of these texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


def cache_folder() -> Path:
    """Where convkit keeps what can be made again: `$XDG_CACHE_HOME/convkit`, else `~/.cache/convkit`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convkit"


def _file(grammar: str, text: str) -> Path:
    return cache_folder() / f"rules-{digest(__version__, grammar, text)}.json"


def read_trees(grammar: str, text: str) -> Trees:
    """The trees of a rule file; empty where none are kept."""
    try:
        found = json.loads(_file(grammar, text).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_trees(grammar: str, text: str, trees: Trees) -> None:
    """Keep the trees of a rule file, whole or not at all."""
    path = _file(grammar, text)
    partial = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(trees, separators=(",", ":")))
        partial.replace(path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def encode(node: Tree[Token] | Token | None) -> Any:
    """A tree as [rule, children, place], a token as [type, text, place]; see `_PLACE`."""
    if node is None:
        return None
    if isinstance(node, str):
        return [node.type, str(node), [getattr(node, name) for name in _PLACE]]
    place = None if node.meta.empty else [getattr(node.meta, name) for name in _PLACE]
    return [str(node.data), [encode(child) for child in node.children], place]


def decode(kept: Any) -> Any:
    """The inverse of `encode`."""
    from lark import Token, Tree
    from lark.tree import Meta

    def build(item: Any) -> Any:
        if item is None:
            return None
        name, content, place = item
        named = dict(zip(_PLACE, place or (), strict=False))
        if isinstance(content, str):
            return Token(name, content, **named)
        meta = Meta()  # type: ignore[no-untyped-call]
        if place:
            meta.empty = False
            for key, value in named.items():
                setattr(meta, key, value)
        return Tree(name, [build(child) for child in content], meta)

    return build(kept)
