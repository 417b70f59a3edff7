"""Every real model of the shared corpus: right numbers, our verdict the delegate's, whole where it can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from convkit.compiler import CompileOptions, compile_model
from convkit.diagnostics import ConvkitError
from convkit.verify import litert_gpu
from tests.conftest import shared_folder
from tests.corpus import FREEZE, MODELS, REFUSED, shapes_of

# What stays on the CPU, and why.
NOT_WHOLE = {"keypoint_classifier": {"CAST"}}  # its output is int64, which the delegate does not have


@pytest.mark.skipif(not MODELS, reason=f"no corpus of real models at {shared_folder()} (set CONVKIT_SHARED)")
@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_it_is_right_and_the_delegate_agrees(model: Path) -> None:
    setup = litert_gpu.availability()
    if isinstance(setup, str):
        pytest.skip(f"oracle litert-gpu: {setup}")
    freeze = FREEZE.get(model.stem, {})
    shapes = {name: shape for name, shape in shapes_of(model).items() if name not in freeze}
    options = CompileOptions(oracle=True, input_shapes=shapes, freeze=freeze)
    if model.stem in REFUSED:
        with pytest.raises(ConvkitError, match=REFUSED[model.stem]):
            compile_model(model, "mali-gpu", options)
        return
    report = compile_model(model, "mali-gpu", options).report
    oracle = report.oracle
    assert report.verification is not None
    assert report.verification.passed
    assert oracle is not None
    assert oracle.agreement == 1.0, oracle.disagreements
    left = {report.ops[index].op for index in oracle.refused}
    assert left == NOT_WHOLE.get(model.stem, set())
    assert oracle.whole == (not left)
