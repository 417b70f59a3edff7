"""ONNX to TFLite, back to ONNX, to TFLite again: the second file is the first, in operators and numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

import convkit
from tests.conftest import shared_folder
from tests.corpus import FREEZE, MODELS, REFUSED, shapes_of
from tests.round_trip import assert_second_is_first

_ONNX = [path for path in MODELS if path.stem not in REFUSED]


@pytest.mark.skipif(not _ONNX, reason=f"no corpus of real models at {shared_folder()} (set CONVKIT_SHARED)")
@pytest.mark.parametrize("model", _ONNX, ids=lambda path: path.stem)
def test_a_real_model_comes_back_as_it_went(model: Path) -> None:
    freeze = FREEZE.get(model.stem, {})
    shapes = {name: shape for name, shape in shapes_of(model).items() if name not in freeze}
    first = convkit.compile(model, "mali-gpu", verify=False, inputs=shapes, freeze=freeze)
    assert_second_is_first(first)
