"""The user's own rewrites and passes: from a Python file, or from an installed package by entry point."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from convkit.diagnostics import ConvkitError, Location, did_you_mean, error
from convkit.rewrite import Rewrite

GROUP = "convkit.passes"
"""The entry point group: a name, and the module whose rewrites and passes it stands for."""


@contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a Diagnostic that points at the line that raised it."""
    try:
        yield
    except ConvkitError:
        raise
    except Exception as failed:  # the one place outside of the command line: anything can come from there
        frames = traceback.extract_tb(failed.__traceback__)
        place = Location(file=frames[-1].filename, line=frames[-1].lineno) if frames else None
        if isinstance(failed, SyntaxError):
            place = Location(file=failed.filename, line=failed.lineno, column=failed.offset)
        said = f"{doing}: {type(failed).__name__}: {' '.join(str(failed).split())}"
        raise error("user-code-failed", said, location=place) from failed


def load_passes(source: str | Path) -> tuple[Any, ...]:
    """The rewrites and passes of a Python file, or of the entry point of that name, in the order written.

    Those are: classes derived from `Rewrite` that the module defines itself (one instance each), and
    instances of rewrites and passes at its top level. Raises ConvkitError "no-such-passes",
    "user-code-failed", or "no-passes" where the module defines none.
    """
    installed = {point.name: point for point in entry_points(group=GROUP)}
    text = str(source)
    if text in installed:
        module = _import_installed(installed[text])
    elif Path(source).is_file():
        module = _import_file(Path(source))
    else:
        raise error(
            "no-such-passes",
            f"there is no file {text}, and no installed package offers passes by that name",
            help=did_you_mean(text, installed),
        )
    found = tuple(_passes_of(module))
    if not found:
        raise error(
            "no-passes",
            "it defines no rewrite and no pass",
            location=Location(file=text),
            help="derive a class from convkit.Rewrite or convkit.Pass",
        )
    return found


def _import_installed(point: EntryPoint) -> ModuleType:
    with user_code(f"importing {point.value}"):
        module = point.load()
        if not isinstance(module, ModuleType):
            raise TypeError(f"entry point {point.name} names {point.value}, which is no module")
        return module


def _import_file(path: Path) -> ModuleType:
    name = f"convkit_passes_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise error("no-such-passes", "this is no Python file", location=Location(file=str(path)))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up while it is being executed
    with user_code(f"importing {path}"):
        spec.loader.exec_module(module)
    return module


def _passes_of(module: ModuleType) -> Iterator[Any]:
    for value in vars(module).values():
        if isinstance(value, type):
            own = issubclass(value, Rewrite) and value.__module__ == module.__name__
            if own and not getattr(value, "__abstractmethods__", None):
                with user_code(f"making {value.__name__}"):
                    yield value()
        elif isinstance(value, Rewrite) or callable(getattr(value, "run", None)):
            yield value
