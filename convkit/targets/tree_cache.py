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
from convkit.targets.tree import Token, Tree

if TYPE_CHECKING:
    import lark

_FORMAT = "2"  # another number with every change of `encode`

Trees = dict[str, Any]
"""Encoded trees by the digest of the text that was parsed."""


def digest(*texts: str) -> str:
    """A name for the parse of these texts."""
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()[:32]


def cache_folder() -> Path:
    """Where convkit keeps what can be made again: `$XDG_CACHE_HOME/convkit`, else `~/.cache/convkit`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "convkit"


def _file(grammar: str, text: str) -> Path:
    return cache_folder() / f"rules-{digest(__version__, _FORMAT, grammar, text)}.json"


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


def encode(node: lark.Tree[lark.Token] | lark.Token | None) -> Any:
    """The parser's tree as [rule, children, start, end], a token as [terminal, text, start]."""
    if node is None:
        return None
    if isinstance(node, str):
        return [node.type, str(node), node.start_pos]
    start, end = (0, 0) if node.meta.empty else (node.meta.start_pos, node.meta.end_pos)
    return [str(node.data), [encode(child) for child in node.children], start, end]


def decode(kept: Any, offset: int = 0) -> Any:
    """The tree (or token, or None) that was encoded, of a text that stands at `offset` of its file."""
    if kept is None:
        return None
    name, content, start, *end = kept
    if not end:
        return Token(name, content, start + offset)
    return Tree(name, [decode(child, offset) for child in content], start + offset, end[0] + offset)
