"""Sums and squares brought into the range of float16 by powers of two, which round nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.passes.float16.facts import Cure, cure_of
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewrite, Rewriter, register


def _scaled(rw: Rewriter, x: ir.Value, scale: float) -> ir.Value:
    return x if scale == 1 else rw.op("Mul", x, rw.const(np.asarray(scale, np.float32)))  # type: ignore[no-any-return]


class _Scaled(Rewrite):
    """What the cures have in common: they apply to nodes that a measurement has marked."""

    exactness = Exactness.REASSOCIATED

    def check(self, match: Match) -> Facts | NoMatch:
        cure = cure_of(match.root)
        return (
            NoMatch("nothing was measured that asks for it", match.root) if cure is None else {"cure": cure}
        )


@register
class ScaledNorm(_Scaled):
    """A normalization does not see a factor on its input, so its squares can be kept below 65504.

    The epsilon scales with the square of the factor. One that float16 cannot hold is raised to 2^-14 where
    the measured variance is so much larger (2^-3 and more) that float16 rounds the difference away.
    """

    id = "CK-F16-001"
    name = "scaled-norm"
    law = "LayerNormalization(x, e) = LayerNormalization(x s, e s^2)"

    def pattern(self, op: Any, x: Any, scale: Any, bias: Any) -> Pattern:
        return op.any_of(
            op.LayerNormalization(x, scale, bias),
            op.LayerNormalization(x, scale),
            op.RMSNormalization(x, scale),
            op.InstanceNormalization(x, scale, bias),
            op.GroupNormalization(x, scale, bias),
        )

    def rewrite(self, rw: Rewriter, match: Match, *, cure: Cure) -> ir.Value:
        node = match.root
        kept = {name: a.value for name, a in node.attributes.items() if name != "epsilon"}
        x, *others = node.inputs
        assert x is not None
        return rw.op(node.op_type, _scaled(rw, x, cure.scale), *others, **kept, epsilon=cure.epsilon)


@register
class ScaledMean(_Scaled):
    """The sum of a large map is kept below 65504 by a factor that the mean gives back."""

    id = "CK-F16-002"
    name = "scaled-mean"
    law = "ReduceMean(x) = ReduceMean(x s) / s"

    def pattern(self, op: Any, x: Any, axes: Any) -> Pattern:
        return op.any_of(op.ReduceMean(x, axes), op.ReduceMean(x), op.GlobalAveragePool(x))

    def rewrite(self, rw: Rewriter, match: Match, *, cure: Cure) -> ir.Value:
        node = match.root
        x, *axes = node.inputs
        assert x is not None
        kept = {name: a.value for name, a in node.attributes.items()}
        return _scaled(rw, rw.op(node.op_type, _scaled(rw, x, cure.scale), *axes, **kept), 1 / cure.scale)
