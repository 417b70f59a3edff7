"""Real int8 TFLite models keep every scale and zero point when they are compiled again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from convkit.compiler import compile_model
from convkit.dialects.tflite.graph import Graph
from convkit.dialects.tflite.reader import read_graphs
from tests.conftest import shared_folder

_MODELS = ("har_int8", "kws_ref_model", "pretrainedResnet_quant", "str_ww_ref_model")
_FOLDER = shared_folder() / "models" / "tflite"


def _grids(graph: Graph) -> Counter[Any]:
    return Counter(
        (str(t.dtype), t.quantization.scale.tobytes(), t.quantization.zero_point.astype("i8").tobytes())
        for t in graph.tensors()
        if t.quantization is not None
    )


@pytest.mark.parametrize("name", _MODELS)
def test_every_grid_and_operator_comes_back(name: str) -> None:
    path = _FOLDER / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {_FOLDER} (set CONVKIT_SHARED)")
    (given, *_) = read_graphs(path.read_bytes())
    found = compile_model(path, "tflite-cpu")
    assert _grids(found.graph) == _grids(given)
    assert Counter(op.code for op in found.graph.ops) == Counter(op.code for op in given.ops)
