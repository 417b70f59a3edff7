"""No case of the standard's test suite that passed may be refused or fail again."""

from __future__ import annotations

import onnx
import pytest

from tests.conformance import baseline
from tests.conformance.run import run_all
from tests.conformance.suite import cases


def test_nothing_that_passed_is_refused_or_fails() -> None:
    if baseline.read().onnx != onnx.__version__:
        pytest.skip("the baseline is of another onnx; write a new one with python -m tests.conformance")
    results = run_all(range(len(cases())), forms=("normal", "tflite"), processes=3)
    assert baseline.regressions(results) == []
