"""Every real model of the shared corpus: right numbers, our verdict the delegate's, whole where it can be."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from bench.corpus import input_options
from convkit.compiler import CompileOptions, compile_model
from convkit.diagnostics import ConvkitError
from convkit.verify import litert_gpu
from tests.conftest import shared_folder

_MODELS = sorted((shared_folder() / "models" / "onnx").glob("*.onnx"))

# Operators of other domains, which are refused by name.
REFUSED = {"TFC_2W2A_qonnx": "onnx.brevitas", "tiny-random-gpt2_past": "com.microsoft"}
# What stays on the CPU, and why.
NOT_WHOLE = {"keypoint_classifier": {"CAST"}}  # its output is int64, which the delegate does not have
FREEZE: dict[str, dict[str, Any]] = {"silero_vad": {"sr": 16000}}


def _shapes(model: Path) -> dict[str, tuple[int, ...]]:
    with (model.parents[1] / "INDEX.tsv").open() as file:
        row = next(
            (r for r in csv.DictReader(file, delimiter="\t") if r["file"] == f"onnx/{model.name}"), None
        )
    words = [] if row is None else input_options(row)[1::2]
    pairs = [word.rpartition(":")[::2] for word in words]
    return {name: tuple(int(size) for size in text.split("x") if size) for name, text in pairs}


@pytest.mark.skipif(not _MODELS, reason=f"no corpus of real models at {shared_folder()} (set CONVKIT_SHARED)")
@pytest.mark.parametrize("model", _MODELS, ids=lambda path: path.stem)
def test_it_is_right_and_the_delegate_agrees(model: Path) -> None:
    setup = litert_gpu.availability()
    if isinstance(setup, str):
        pytest.skip(f"oracle litert-gpu: {setup}")
    freeze = FREEZE.get(model.stem, {})
    shapes = {name: shape for name, shape in _shapes(model).items() if name not in freeze}
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
