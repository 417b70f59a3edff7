"""Watch a pipeline: after every pass the normal form is checked and the model's numbers are compared."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property

import numpy as np
import onnx_ir as ir

from convkit.compiler.interface import Interface
from convkit.diagnostics import ConvkitError, Location, error
from convkit.ir.verify import check
from convkit.passes.base import NORMAL_FORM, Pass, RewritePass
from convkit.rewrite import RewriteStats
from convkit.verify.inputs import random_candidates
from convkit.verify.noise import rounding_noise
from convkit.verify.numeric import FLOAT32_TOLERANCE, NOISE_FACTOR, compare
from convkit.verify.runners import Reference


class NumbersWatch:
    """Holds the numbers of a model in onnxruntime against those before the first pass.

    Raises ConvkitError "broken-invariant" or "wrong-numbers" naming the pass; with `bisect` also the first
    application of a rewrite that breaks the numbers. A pass that is not exact sets new numbers to keep.
    """

    def __init__(self, bisect: bool = False) -> None:
        self.bisect = bisect

    def start(self, model: ir.Model) -> None:
        """Take the numbers to keep."""
        self.model = model.clone()
        candidates = random_candidates(Interface.of(model.graph).inputs)
        self.inputs: dict[str, np.ndarray] = next(iter(candidates))[1]
        self.expected = self._run(model)
        self.before = model.clone() if self.bisect else None

    def after(self, step: Pass, model: ir.Model) -> None:
        """Check the model that `step` has left."""
        _check_invariants(step, model)
        if not step.exact:
            self.start(model)
            return
        worst = self._error(model)
        if self._wrong(worst):
            raise _wrong_numbers(step, worst, self._blame(step))
        if self.bisect:
            self.before = model.clone()

    def _wrong(self, worst: float) -> bool:
        return worst > FLOAT32_TOLERANCE and worst > self._explained

    @cached_property
    def _explained(self) -> float:
        """The error that rounding explains, relative to an output's range."""
        noise = rounding_noise(self.model, self.inputs)
        return NOISE_FACTOR * max(noise.values(), default=0.0)

    def _run(self, model: ir.Model) -> dict[str, np.ndarray]:
        return Reference(ir.to_proto(model).SerializeToString()).run(self.inputs)

    def _error(self, model: ir.Model) -> float:
        """The worst error of an output, relative to its range; infinite where it cannot be compared."""
        found = self._run(model)
        worst = 0.0
        for (name, expected), actual in zip(self.expected.items(), found.values(), strict=True):
            if expected.shape != actual.shape:
                return float("inf")
            result = compare(name, expected, actual, FLOAT32_TOLERANCE)
            worst = max(worst, float("inf") if result.mismatches else result.max_rel)
        return worst

    def _blame(self, step: Pass) -> RewriteStats | None:
        """The applications of `step` up to and with the first that breaks the numbers, by bisection."""
        if self.before is None or not isinstance(step, RewritePass):
            return None
        good, stats = 0, replace(step, limit=None).run(self.before.clone())
        bad = len(stats.applications)
        while bad - good > 1:
            middle = (good + bad) // 2
            trial = self.before.clone()
            tried = replace(step, limit=middle).run(trial)
            if self._wrong(self._error(trial)):
                bad, stats = middle, tried
            else:
                good = middle
        return stats


def _check_invariants(step: Pass, model: ir.Model) -> None:
    if not step.preserves | step.ensures >= NORMAL_FORM:
        return
    try:
        check(model)
    except ConvkitError as e:
        notes = tuple(f"{d.code}: {d.message}" for d in e.diagnostics[:5])
        where = e.diagnostics[0].location
        raise error(
            "broken-invariant", f"pass {step} breaks the normal form", location=where, notes=notes
        ) from e


def _wrong_numbers(step: Pass, worst: float, blame: RewriteStats | None) -> ConvkitError:
    notes: tuple[str, ...] = ()
    location = None
    if blame is not None and blame.applications:
        last = blame.applications[-1]
        location = Location(node=", ".join(last.before))
        notes = (
            f"the first application that breaks them is number {len(blame.applications)}: {last.rewrite.id} "
            f"({last.rewrite.name}), {' '.join(last.before)} -> {' '.join(last.after) or 'nothing'}",
        )
    return error(
        "wrong-numbers",
        f"pass {step} changes the model's numbers by {worst:.2g} of the output's range",
        location=location,
        notes=notes,
    )
