"""float16 as a precision: what overflows or vanishes is found, cured where that is exact, else named."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import convkit
from convkit.compiler.float16 import at_risk, float16_stage
from convkit.passes.float16.facts import Cure, note_cure
from convkit.rewrite import apply_rewrites, get_rewrite
from convkit.verify.float16 import emulated, run
from tests.quantization import normal_form

Arrays = dict[str, np.ndarray]


class Block(nn.Module):
    """A pre-norm transformer block: mask of -1e9, epsilon 1e-12, residual stream of the size of its input."""

    def __init__(self, width: int = 32, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.width = heads, width
        self.one, self.two = (nn.LayerNorm(width, eps=1e-12) for _ in range(2))
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.one(x)).reshape(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-2, -1) / (self.width // self.heads) ** 0.5
        scores = scores + (1 - mask)[:, None, None, :] * -1e9
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, -1))
        return x + self.down(nn.functional.gelu(self.up(self.two(x))))


def _export(module: nn.Module, *inputs: torch.Tensor) -> ir.Model:
    from convkit.ir.normal import normalize
    from convkit.passes.pipeline import PassManager, default_pipeline

    program = torch.onnx.export(module.eval(), inputs, dynamo=True, verbose=False)
    assert program is not None
    normalize(program.model)
    PassManager(default_pipeline()).run(program.model)
    return program.model


@pytest.fixture(scope="module")
def block() -> tuple[ir.Model, list[Arrays]]:
    return block_and_samples()


def block_and_samples() -> tuple[ir.Model, list[Arrays]]:
    """The block, and two inputs with activations around 300 of which five are masked."""
    torch.manual_seed(0)
    model = _export(Block(), torch.randn(1, 16, 32), torch.ones(1, 16))
    rng = np.random.default_rng(0)
    x, mask = (v.name or "" for v in model.graph.inputs)
    kept = (np.arange(16) < 11).astype(np.float32)[None]
    samples = [{x: rng.normal(0, 300, (1, 16, 32)).astype(np.float32), mask: kept} for _ in range(2)]
    return model, samples


def _sqnr(want: Arrays, got: Arrays) -> float:
    a, b = (np.concatenate([v.ravel() for v in found.values()]) for found in (want, got))
    return float(10 * np.log10(np.square(a).sum() / np.square(a - b).sum()))


def test_a_transformer_block_is_cured(block: tuple[ir.Model, list[Arrays]]) -> None:
    model, samples = block
    assert at_risk(model, dict)  # by its mask and its epsilons alone
    wanted = run(model, samples)
    (spoiled,) = run(emulated(model), samples).values()
    assert np.isnan(spoiled).any()
    found = float16_stage(model, samples, "test")
    assert found.stats.counts == {"clamp-mask": 1, "scaled-norm": 2}
    assert _sqnr(wanted, run(found.model, samples)) > 110  # the same function
    assert _sqnr(wanted, run(emulated(found.model), samples)) > 45
    assert found.summary.before[0].mismatches > 0
    assert found.summary.outputs[0].passed
    assert not found.findings


def test_compile_cures_for_a_target_of_that_precision(
    block: tuple[ir.Model, list[Arrays]], tmp_path: object
) -> None:
    model, _ = block
    report = convkit.compile(model.clone(), "mali-gpu").report
    assert report.float16 is not None
    assert {r.id for r in report.rewrites} >= {"CK-F16-001", "CK-F16-003"}
    assert report.verification is not None
    assert report.verification.passed
    assert convkit.compile(model.clone(), "tflite-cpu").report.float16 is None


class _Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def test_the_mean_of_a_large_map_is_scaled() -> None:
    model = _export(_Mean(), torch.zeros(1, 2, 96, 96))
    rng = np.random.default_rng(1)
    samples = [{model.graph.inputs[0].name or "": rng.uniform(10, 30, (1, 2, 96, 96)).astype(np.float32)}]
    assert np.isinf(next(iter(run(emulated(model), samples).values()))).all()
    found = float16_stage(model, samples, "test")
    assert found.stats.counts == {"scaled-mean": 1}
    assert found.summary.outputs[0].sqnr_db is not None
    assert found.summary.outputs[0].sqnr_db > 60


class _Square(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * x).sum(-1).sqrt()


def test_what_no_cure_reaches_is_named_with_its_origin() -> None:
    model = _export(_Square(), torch.zeros(1, 4096))
    samples = [{model.graph.inputs[0].name or "": np.full((1, 4096), 300, np.float32)}]
    found = float16_stage(model, samples, "test")
    assert not found.stats.applications
    codes = [f.code for f in found.findings]
    assert "float16-overflow" in codes
    assert "float16-loss" in codes
    assert any("test_float16.py" in f.message for f in found.findings)


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x))


def test_a_plain_network_is_not_at_risk() -> None:
    assert not at_risk(normal_form(_Plain(), 1, 3, 8, 8), dict)


@pytest.mark.parametrize(
    ("module", "shape", "fits", "spills"),
    [
        (nn.LayerNorm(64), (1, 4, 64), 30, 40),  # 64 x 30^2 = 57600
        (nn.GroupNorm(1, 4), (1, 4, 4, 4), 30, 40),
        (_Mean(), (1, 2, 96, 96), 7, 8),  # 9216 x 7 = 64512
        (_Square(), (1, 4096), 3.9, 4.1),
    ],
)
def test_sums_are_at_risk_by_how_large_they_grow(
    module: nn.Module, shape: tuple[int, ...], fits: float, spills: float
) -> None:
    model = _export(module, torch.zeros(*shape))
    name = model.graph.inputs[0].name or ""
    assert not at_risk(model, lambda: {name: np.full(shape, fits, np.float32)})
    assert at_risk(model, lambda: {name: np.full(shape, spills, np.float32)})


@pytest.mark.parametrize("norm", [nn.LayerNorm(8), nn.GroupNorm(2, 6), nn.InstanceNorm2d(6, affine=True)])
def test_a_scaled_norm_is_the_same_function(norm: nn.Module) -> None:
    model = _export(norm, torch.zeros(2, 6, 4, 8))
    node = next(n for n in model.graph if n.op_type.endswith("Normalization"))
    samples = [
        {model.graph.inputs[0].name or "": np.random.default_rng(2).normal(3, 2, (2, 6, 4, 8)).astype("f4")}
    ]
    wanted = run(model, samples)
    assert _sqnr(wanted, run(emulated(model), samples)) > 55  # the spelling is right
    note_cure(node, Cure(2.0**-4, 1e-5 * 2.0**-8))
    assert apply_rewrites(model.graph, [get_rewrite("scaled-norm")]).applications
    assert _sqnr(wanted, run(model, samples)) > 120
