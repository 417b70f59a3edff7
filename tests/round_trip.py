"""A TFLite file read and compiled again: the second is the first, in operators and numbers."""

from __future__ import annotations

import numpy as np

import convkit
from convkit.compiler import CompileResult
from convkit.verify.runners import run_tflite


def assert_second_is_first(first: CompileResult) -> None:
    """Compile what `first` wrote; both must have the same operators and compute the same bits."""
    second = convkit.compile(bytes(first.artifact), "mali-gpu", verify=False)
    assert [op.code for op in second.graph.ops] == [op.code for op in first.graph.ops]
    rng = np.random.default_rng(0)
    feeds = [
        (rng.normal(0, 1, t.shape) if t.dtype.kind == "f" else rng.integers(0, 2, t.shape)).astype(t.dtype)
        for t in first.graph.inputs
    ]
    ours, again = (run_tflite(bytes(c.artifact), feeds) for c in (first, second))
    for expected, found in zip(ours, again, strict=True):
        np.testing.assert_array_equal(found, expected)
