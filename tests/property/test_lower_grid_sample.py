"""GridSample equals onnxruntime's."""

from __future__ import annotations

import numpy as np
import pytest

from convkit.diagnostics import ConvkitError
from tests.helpers import check_lowering, normal, one_node


@pytest.mark.parametrize("mode", ["linear", "nearest"])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("batch", [1, 2])
def test_grid_sample(mode: str, padding: str, aligned: int, batch: int) -> None:
    rng = np.random.default_rng(0)
    grid = (rng.random((batch, 4, 3, 2)) * 3 - 1.5).astype(np.float32)
    inputs = {"x": normal(rng, batch, 3, 5, 6), "g": grid}
    model = one_node("GridSample", inputs, mode=mode, padding_mode=padding, align_corners=aligned)
    check_lowering(model, inputs)


def test_cubic_is_refused() -> None:
    inputs = {"x": np.zeros((1, 1, 4, 4), np.float32), "g": np.zeros((1, 2, 2, 2), np.float32)}
    with pytest.raises(ConvkitError, match="linear or nearest"):
        check_lowering(one_node("GridSample", inputs, mode="cubic"), inputs)
