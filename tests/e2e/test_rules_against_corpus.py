"""Our verdict on every operator of every compiled model, against the accelerators themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from convkit.compiler import CompileOptions, compile_model
from convkit.diagnostics import ConvkitError
from convkit.dialects.tflite.graph import Graph
from convkit.targets import judge, load_target
from convkit.verify import litert_gpu, xnnpack
from tests.conftest import shared_folder

_MODELS = sorted((shared_folder() / "models" / "onnx").glob("*.onnx"))


def _shapes(model: Path) -> dict[str, tuple[int, ...]]:
    """The input shapes with which the corpus's index says that the model was seen running."""
    lines = (model.parents[1] / "INDEX.tsv").read_text().splitlines()
    row = next((line for line in lines if line.startswith(f"onnx/{model.name}\t")), "")
    ran = re.search(r"\tok (.*?) -> ", row)
    pairs = re.findall(r"([^\s;]+)\[([\d, ]*)\]", ran[1]) if ran else []
    return {name: tuple(int(size) for size in sizes.split(",") if size.strip()) for name, sizes in pairs}


def _compiled(model: Path, target: str, precision: str) -> Graph:
    options = CompileOptions(verify=False, precision=precision, input_shapes=_shapes(model))  # type: ignore[arg-type]
    try:
        return compile_model(model, target, options).graph
    except ConvkitError as refused:
        pytest.skip(f"{model.name}: {refused.diagnostics[0].message}")


@pytest.mark.skipif(not _MODELS, reason=f"no corpus of real models at {shared_folder()} (set CONVKIT_SHARED)")
@pytest.mark.parametrize("model", _MODELS, ids=lambda path: path.stem)
def test_the_gpu_takes_what_we_say_it_takes(model: Path) -> None:
    setup = litert_gpu.availability()
    if isinstance(setup, str):
        pytest.skip(f"oracle litert-gpu: {setup}")
    graph = _compiled(model, "litert-gpu", "fp16")
    verdict = judge(graph, load_target("litert-gpu"))
    differ = [
        f"{index} {found.code}: we say {found.status}, the accelerator {' '.join(answer.words) or 'takes it'}"
        for index, (found, answer) in enumerate(zip(verdict.ops, litert_gpu.ask_each(graph), strict=True))
        if found.refused != bool(answer.refused)
    ]
    assert differ == []
    whole = litert_gpu.ask(graph)
    if not any(op.reasons and op.reasons[0].severity.name == "REJECT" for op in verdict.ops):
        assert whole.error is None
    assert whole.fully_accelerated == (verdict.summary == "accelerated")


@pytest.mark.skipif(not _MODELS, reason=f"no corpus of real models at {shared_folder()} (set CONVKIT_SHARED)")
@pytest.mark.parametrize("model", _MODELS, ids=lambda path: path.stem)
def test_xnnpack_takes_what_we_say_it_takes(model: Path) -> None:
    graph = _compiled(model, "tflite-cpu", "fp32")
    verdict = judge(graph, load_target("tflite-cpu"))
    answer = xnnpack.ask(graph)
    assert answer.error is None
    differ = [
        f"{index} {found.code}: we say {found.status}, XNNPACK {'takes' if taken else 'leaves'} it"
        for index, (found, taken) in enumerate(zip(verdict.ops, answer.taken, strict=True))
        if found.refused == taken
    ]
    assert differ == []
