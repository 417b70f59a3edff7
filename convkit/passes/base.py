"""Pass: one step of a pipeline, a frozen dataclass whose fields are its options.

The text form is the name with the options that differ from their defaults: `simplify{limit=4}`.
"""

from __future__ import annotations

import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar

import onnx_ir as ir

from convkit.diagnostics import ConvkitError, Location, error
from convkit.ir.normal import normalize
from convkit.ir.verify import INVARIANTS
from convkit.rewrite import Exactness, Rewrite, RewriteStats, apply_rewrites

NORMAL_FORM = frozenset(INVARIANTS)
"""The invariants of the normal form, by name."""


@dataclass(frozen=True, kw_only=True)
class Pass(ABC):
    """One step. `requires`, `ensures`, `preserves` name invariants; what is not preserved is lost."""

    requires: ClassVar[frozenset[str]] = NORMAL_FORM
    ensures: ClassVar[frozenset[str]] = frozenset()
    preserves: ClassVar[frozenset[str]] = NORMAL_FORM

    name: str = field(metadata={"option": False})

    @abstractmethod
    def run(self, model: ir.Model) -> RewriteStats:
        """Change `model` in place; tell which rewrites were applied."""

    @property
    def exact(self) -> bool:
        """Whether the pass keeps the model's function up to float rounding."""
        return True

    def __str__(self) -> str:
        options = {
            f.name.replace("_", "-"): getattr(self, f.name)
            for f in fields(self)
            if f.metadata.get("option", True) and getattr(self, f.name) != _default(f)
        }
        text = ",".join(f"{key}={_text(value)}" for key, value in options.items())
        return f"{self.name}{{{text}}}" if text else self.name


def _default(f: Any) -> Any:
    return f.default if f.default is not MISSING else f.default_factory()


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@dataclass(frozen=True, kw_only=True)
class RewritePass(Pass):
    """Rewrites together, to their fixpoint; `limit` stops after that many applications."""

    rewrites: tuple[Rewrite, ...] = field(metadata={"option": False})
    limit: int | None = None

    @property
    def exact(self) -> bool:
        return all(r.exactness <= Exactness.REASSOCIATED for r in self.rewrites)

    def run(self, model: ir.Model) -> RewriteStats:
        return apply_rewrites(model.graph, self.rewrites, limit=self.limit)


@dataclass(frozen=True, kw_only=True)
class FunctionPass(Pass):
    """A user's function on the model, in place or as its result; the normal form is made again after it."""

    function: Callable[[ir.Model], ir.Model | None] = field(metadata={"option": False})
    ensures: ClassVar[frozenset[str]] = NORMAL_FORM
    preserves: ClassVar[frozenset[str]] = frozenset()

    def run(self, model: ir.Model) -> RewriteStats:
        with user_code(f"pass {self.name!r}"):
            result = self.function(model)
        if result is not None and result is not model:
            adopt(model, result)
        normalize(model)
        return RewriteStats()


def adopt(model: ir.Model, other: ir.Model) -> None:
    """Let `model` hold what `other` holds; `other` is used up."""
    model.graph = other.graph
    model.functions.clear()
    model.functions.update(other.functions)
    model.ir_version = other.ir_version


@contextmanager
def user_code(doing: str) -> Iterator[None]:
    """Turn whatever the user's code raises into a Diagnostic that points at the line that raised it."""
    try:
        yield
    except ConvkitError:
        raise
    except Exception as failed:  # user code can raise anything
        stack = traceback.extract_tb(failed.__traceback__)
        frames = [frame for frame in stack if not frame.filename.startswith("<frozen")]
        place = Location(file=frames[-1].filename, line=frames[-1].lineno)
        if isinstance(failed, SyntaxError):
            place = Location(file=failed.filename, line=failed.lineno, column=failed.offset)
        text = failed.msg if isinstance(failed, SyntaxError) else str(failed)
        said = f"{doing}: {type(failed).__name__}: {' '.join(text.split())}"
        raise error("user-code-failed", said, location=place) from failed
