"""PyTorch in: a live module, code and weights, archives; what cannot be followed is pointed at."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import convkit
from convkit.cli.main import main
from convkit.diagnostics import ConvkitError, Diagnostic

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

NETWORK = """
    import torch
    from torch import nn


    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x, gain: float = 1.0):
            return torch.relu(self.norm(self.stem(x))) * gain


    def with_inputs():
        return Network(), (torch.zeros(1, 3, 8, 8),)


    def failing():
        raise ValueError("no data")
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "network.py"
    path.write_text(textwrap.dedent(NETWORK))
    return path


def refusal(source: object, **options: object) -> Diagnostic:
    with pytest.raises(ConvkitError) as caught:
        convkit.load(source, **options)
    return caught.value.diagnostics[0]


class Branch(torch.nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x


class Eigen(torch.nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x).real


class Sizes(torch.nn.Module):
    def forward(self, x):
        return x @ torch.ones(7, 7)


class Sorted(torch.nn.Module):
    """Falls back: the GPU delegate has no such operators."""

    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.ReLU())

    def forward(self, x):
        y = self.head(x).flatten(1)
        values, places = torch.topk(y, 5)
        return values, places, torch.gather(y, 1, places * 2)


@pytest.mark.parametrize(("kind", "words"), [
    (Branch, "depends on the values of a tensor"),
    (Eigen, "no form of the operator"),
    (Sizes, "same reduction dim"),
])  # fmt: skip
def test_what_the_exporter_cannot_follow_is_pointed_at(kind: type, words: str) -> None:
    found = refusal(kind(), example_inputs=(torch.ones(4, 4),))
    assert found.code == "export-failed"
    assert words in found.message
    assert found.help
    first = inspect.getsourcelines(kind)[1]
    assert found.location is not None
    assert found.location.file == __file__
    assert found.location.line == first + 2  # the line below `def forward`


def test_eager_outputs_are_the_reference_and_training_mode_stays() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5))
    report = convkit.compile(module, "mali-gpu", example_inputs=torch.zeros(1, 3, 8, 8)).report
    assert report.model.format == "torch"
    assert report.verification is not None
    assert report.verification.reference.startswith("torch")
    assert report.verification.passed
    assert all(part.training for part in module.modules())


def test_a_structure_of_inputs_and_outputs_keeps_its_order() -> None:
    class Twin(torch.nn.Module):
        def forward(self, a, b):
            return {"sum": a + b, "parts": [a * 2, b - 1]}

    examples = {"b": torch.ones(2, 3), "a": torch.zeros(2, 3)}
    report = convkit.compile(Twin(), "mali-gpu", example_inputs=examples).report
    assert report.verification is not None
    assert len(report.verification.outputs) == 3
    assert report.verification.passed


def test_fallbacks_name_module_and_line() -> None:
    report = convkit.check(Sorted(), "mali-gpu", example_inputs=(torch.zeros(1, 3, 4, 4),))
    fallen = report.left_behind
    assert fallen
    told = [op for op in fallen if any(s.startswith(__file__) for s in op.origin.sources)]
    assert len(told) >= 0.95 * len(fallen)
    first = inspect.getsourcelines(Sorted)[1]
    lines = {int(s.rpartition(":")[2]) - first for op in told for s in op.origin.sources}
    assert lines <= set(range(8, 13))
    convs = [op for op in report.ops if op.op == "CONV_2D"]
    assert [op.origin.modules for op in convs] == [("head.0",)]


def test_a_custom_operator_takes_the_users_translation() -> None:
    onnxscript = pytest.importorskip("onnxscript")
    from onnxscript import opset18 as op

    @torch.library.custom_op("convkit_test::twice", mutates_args=())
    def twice(x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @twice.register_fake
    def _(x: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(x)

    class Custom(torch.nn.Module):
        def forward(self, x):
            return torch.ops.convkit_test.twice(x) + 1

    examples = (torch.zeros(1, 4),)
    assert "convkit_test.twice" in refusal(Custom(), example_inputs=examples).message
    assert onnxscript

    def translation(x):
        return op.Mul(x, op.Constant(value_float=2.0))

    table = {torch.ops.convkit_test.twice.default: translation}
    report = convkit.compile(Custom(), "mali-gpu", example_inputs=examples, translations=table).report
    assert report.verification is not None
    assert report.verification.passed


def test_code_and_weights_from_the_command_line(code: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.onnx"
    state = {
        "module.stem.weight": torch.ones(4, 3, 3, 3), "module.stem.bias": torch.zeros(4),
        **{f"module.norm.{n}": torch.ones(4) for n in ("weight", "bias", "running_mean", "running_var")},
    }  # fmt: skip
    weights = tmp_path / "net.pt"
    torch.save({"state_dict": state, "epoch": 3}, weights)
    arguments = [f"{code}:Network", "--input", "x:1x3x8x8", "--weights", str(weights), "-o", str(output)]
    done = CliRunner().invoke(main, ["import", *arguments])
    assert done.exit_code == 0, done.output
    model = convkit.load(output)
    conv = next(node for node in model.graph if node.op_type == "Conv")
    assert conv.inputs[1] is not None
    np.testing.assert_allclose(conv.inputs[1].const_value.numpy(), 1, rtol=1e-4)
    assert [value.name for value in model.graph.inputs] == ["x"]


def test_safetensors(code: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    path = tmp_path / "net.safetensors"
    safetensors.save_file({"stem.weight": torch.ones(4, 3, 3, 3)}, path)
    found = refusal(f"{code}:with_inputs", weights=path)
    assert found.code == "weights-mismatch"
    assert "stem.bias" in found.notes[0]


def test_weights_that_would_run_code_are_not_read(code: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.save(torch.nn.Linear(2, 2), path)  # the whole module: a pickle of its class
    found = refusal(f"{code}:with_inputs", weights=path)
    assert found.code == "bad-weights"


@pytest.mark.parametrize(("name", "options", "code_", "words"), [
    ("Network", {}, "example-inputs", "not known"),
    ("Netwrk", {}, "no-such-name", "Netwrk"),
    ("Network", {"inputs": {"y": (1, 3)}}, "unknown-input", "no parameter 'y'"),
    ("failing", {}, "code-failed", "ValueError: no data"),
])  # fmt: skip
def test_code_that_gives_no_module(
    code: Path, name: str, options: dict[str, object], code_: str, words: str
) -> None:
    found = refusal(f"{code}:{name}", **options)
    assert found.code == code_
    assert words in found.message


def test_an_argument_that_is_no_tensor_is_frozen(code: Path) -> None:
    report = convkit.compile(
        f"{code}:Network", "mali-gpu", inputs={"x": (1, 3, 8, 8)}, freeze={"gain": 3.0}
    ).report
    assert report.verification is not None
    assert report.verification.passed


def test_archives(tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    example = torch.zeros(1, 3, 8, 8)
    exported, script = tmp_path / "a.bin", tmp_path / "b.bin"
    with exported.open("wb") as file:
        torch.export.save(torch.export.export(module, (example,)), file)
    torch.jit.trace(module, example).save(str(script))
    report = convkit.compile(exported, "mali-gpu").report
    assert report.model.format == "torch-pt2"
    assert report.verification is not None
    assert report.verification.passed
    report = convkit.compile(script, "mali-gpu", inputs={"input": (1, 3, 8, 8)}).report
    assert report.model.format == "torchscript"
    assert report.verification is not None
    assert report.verification.passed
