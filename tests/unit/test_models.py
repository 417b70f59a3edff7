"""Small networks in the forms that trip converters: after the passes, rank 4 at most and the same numbers."""

from __future__ import annotations

import pytest

from convkit.passes.pipeline import PassManager, default_pipeline
from tests.unit.rewriting import assert_close, feeds_of, run
from tests.unit.spelled import highest_rank, operators

torch = pytest.importorskip("torch")

# The operators left after the passes that every target gets.
EXPECTED = {
    "transformer": 23,
    "window-attention": 28,
    "patch-merging": 5,
    "channel-shuffle": 12,
    "pixel-shuffle": 4,
    "inverted-residual": 12,
    "pooling-mixer": 10,
    "unfold": 32,
    "convnext": 10,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_rank_four_and_the_same_numbers(name: str) -> None:
    from tests.models import exported

    model = exported(name)
    feeds = feeds_of(model)
    before = run(model, feeds)
    PassManager(default_pipeline()).run(model)
    assert_close(before, run(model, feeds), 1e-5)
    assert highest_rank(model) <= 4
    assert len(model.graph) <= EXPECTED[name], operators(model)
