"""The table of quantized kernels says what LiteRT's interpreter does, right to a step of the output."""

from __future__ import annotations

import numpy as np
import pytest

from convkit.dialects.tflite.kernels import quantized_dtypes, quantized_operators
from convkit.quantize.build import quantize_graph
from convkit.quantize.calibrate import calibrate
from convkit.quantize.grid import INT8, INT16
from convkit.quantize.observers import MinMax
from convkit.quantize.operators import TFLITE
from convkit.quantize.plan import assign_grids, observed, plan
from convkit.quantize.simulate import operator_errors, step_limit
from tests.quantization import kernel_case

_CASES = [
    (code, dtype)
    for code in quantized_operators()
    for dtype in (INT8, INT16)
    if dtype in quantized_dtypes(code)
]


@pytest.mark.parametrize(("code", "dtype"), _CASES, ids=[f"{code}-{dtype}" for code, dtype in _CASES])
def test_a_kernel_of_the_table_is_right_to_a_step(code: str, dtype: np.dtype[np.generic]) -> None:
    graph, samples = kernel_case(code)
    planned = plan(graph, lambda _: dtype, TFLITE)
    assert len(planned.widths) == 1
    seen = calibrate(graph, observed(planned), samples, MinMax)
    quantized = quantize_graph(planned, assign_grids(planned, seen.ranges), io=dtype)
    assert [op.code for op in quantized.ops] == [code]
    for sample in samples:
        (found, *_) = errors = operator_errors(quantized, sample)
        assert len(errors) == len(graph.outputs)
        assert found.steps <= step_limit(found.op)
