"""Small networks in the forms that trip converters: after the passes, rank 4 at most and the same numbers."""

from __future__ import annotations

from collections import Counter

import pytest

from convkit.passes.pipeline import PassManager, default_pipeline
from tests.unit.rewriting import assert_close, feeds_of, run
from tests.unit.spelled import highest_rank, operators

torch = pytest.importorskip("torch")

EXPECTED: dict[str, Counter[str]] = {}


@pytest.mark.parametrize(
    "name",
    [
        "transformer",
        "window-attention",
        "patch-merging",
        "channel-shuffle",
        "pixel-shuffle",
        "inverted-residual",
        "pooling-mixer",
        "unfold",
        "convnext",
    ],
)
def test_rank_four_and_the_same_numbers(name: str) -> None:
    from tests.models import exported

    model = exported(name)
    feeds = feeds_of(model)
    before = run(model, feeds)
    PassManager(default_pipeline()).run(model)
    assert_close(before, run(model, feeds), 1e-5)
    assert highest_rank(model) <= 4
    print(name, dict(operators(model)), len(model.graph))
