"""The registry of rewrites, by id and by name."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TypeVar

from convkit.diagnostics import did_you_mean, error
from convkit.rewrite.base import Rewrite

_BY_NAME: dict[str, Rewrite] = {}
_BY_ID: dict[str, Rewrite] = {}

R = TypeVar("R", bound=type[Rewrite])


def register(rewrite: R) -> R:
    """Class decorator: make one instance known; ids and names are unique."""
    instance = rewrite()
    for table, key in ((_BY_NAME, rewrite.name), (_BY_ID, rewrite.id)):
        known = table.get(key)
        if known is not None and type(known).__qualname__ != rewrite.__qualname__:
            raise ValueError(f"{key} names both {type(known).__name__} and {rewrite.__name__}")
        table[key] = instance
    return rewrite


def load_package(name: str) -> None:
    """Import every module under package `name`, so that its rewrites register."""
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, prefix=name + "."):
        importlib.import_module(module.name)


def is_registered(name: str) -> bool:
    """Whether a rewrite of this name or id is known."""
    return name in _BY_NAME or name in _BY_ID


def get_rewrite(name: str) -> Rewrite:
    """The rewrite of this name or id; ConvkitError "unknown-rewrite" suggests the nearest."""
    found = _BY_NAME.get(name) or _BY_ID.get(name)
    if found is None:
        raise error(
            "unknown-rewrite", f"there is no rewrite {name!r}", help=did_you_mean(name, [*_BY_NAME, *_BY_ID])
        )
    return found


def all_rewrites() -> list[Rewrite]:
    """Every registered rewrite, in the order of ids."""
    return [_BY_ID[key] for key in sorted(_BY_ID)]
