"""Forms that other converters leave partly on the CPU: whole on the GPU accelerator, numbers right."""

from __future__ import annotations

from collections import Counter

import pytest

from convkit.compiler import CompileOptions, CompileResult, compile_model
from convkit.verify import litert_gpu

torch = pytest.importorskip("torch")

CASES = {
    "pixel shuffle (channel, row, column)": ("sr-anchor", {"DEPTH_TO_SPACE": 1}),
    "hard sigmoid and hard swish": ("mobile-v3", {"RELU_0_TO_1": 0}),
    "query, key and value by Gather": ("attention-gather", {"GATHER": 0}),
    "windows, shifted, with relative positions": ("windows-shifted", {"BATCH_MATMUL": 2}),
    "query, key and value of rank 5": ("tests-transformer", {"BATCH_MATMUL": 2}),
    "unfolded and folded patches": ("tests-unfold", {"BATCH_MATMUL": 2}),
    "unfolding with overlap": ("unfold-overlap", {"GATHER": 2}),
    "channel shuffle": ("shuffle-3", {"GATHER": 1}),
    "Expand": ("expand-concat", {"BROADCAST_TO": 0}),
    "LayerNorm spelled out, with permutes": ("norm-permute", {"TRANSPOSE": 2}),
    "pooling as token mixer": ("tests-pooling-mixer", {"AVERAGE_POOL_2D": 1}),
    "ConvTranspose with PReLU": ("transpose-prelu", {"TRANSPOSE_CONV": 2}),
    "GELU": ("gelu", {"GELU": 2}),
    "integer arithmetic on shapes": ("shape-arithmetic-script", {"SHAPE": 0}),
}


def compiled(name: str, batch: int = 1, *, oracle: bool = True) -> CompileResult:
    """A module of the zoo, verified against onnxruntime and asked about on the accelerator."""
    from bench.zoo import ZOO

    made = ZOO[name]
    proto = made.export([(batch * first, *rest) for first, *rest in made.shapes])
    return compile_model(proto, "mali-gpu", CompileOptions(oracle=oracle))


@pytest.fixture(scope="module")
def gpu() -> None:
    setup = litert_gpu.availability()
    if isinstance(setup, str):
        pytest.skip(f"oracle litert-gpu: {setup}")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("case", CASES)
def test_it_is_whole_on_the_accelerator(case: str) -> None:
    name, expected = CASES[case]
    report = compiled(name)
    counts = Counter(op.code for op in report.graph.ops)
    assert {code: counts[code] for code in expected} == expected
    assert report.report.verdict == "accelerated"
    oracle = report.report.oracle
    assert oracle is not None
    assert oracle.whole
    assert oracle.agreement == 1.0, oracle.disagreements
    assert all(output.max_rel <= 1e-5 for output in oracle.outputs), oracle.outputs


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("name", "most"), [("rep-22", 32), ("rep-branches", 89)])
def test_parallel_branches_are_merged(name: str, most: int) -> None:
    found = compiled(name)
    assert len(found.graph.ops) <= most
    assert found.report.oracle is not None
    assert found.report.oracle.whole


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("name", ["sr-distill", "attention-gather", "windows-shifted", "rnn", "broadcast"])
def test_a_batch_is_no_other_matter(name: str) -> None:
    report = compiled(name, 2).report
    assert report.oracle is not None
    assert report.oracle.whole
    assert report.oracle.agreement == 1.0, report.oracle.disagreements
    assert all(output.max_rel <= 1e-5 for output in report.oracle.outputs), report.oracle.outputs
