"""Feature extraction equals onnxruntime's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers import check_lowering, one_node


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["TF", "IDF", "TFIDF"]),
    st.sampled_from([np.int32, np.int64]),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
)
def test_n_grams(mode: str, dtype: type, skips: int, least: int, most: int, rows: bool) -> None:
    pool = [1, 2, 3, 1, 2, 2, 3, 3, 1, 1, 2, 3, 2, 2, 1]  # three single tokens, three pairs, two triples
    tokens = np.random.default_rng(0).integers(1, 4, (3, 9) if rows else (9,)).astype(dtype)
    weights = {} if mode == "TF" else {"weights": [0.5, 1.0, 2.0, 3.0, 0.25, 4.0, 1.5, 0.125]}
    places = [3, 0, 1, 2, 7, 6, 5, 4] if mode == "TF" else list(range(8))
    model = one_node(
        "TfIdfVectorizer",
        {"x": tokens},
        mode=mode,
        max_skip_count=skips,
        min_gram_length=min(least, most),
        max_gram_length=max(least, most),
        ngram_counts=[0, 3, 9],
        ngram_indexes=places,
        pool_int64s=pool,
        **weights,
    )
    check_lowering(model, {"x": tokens}, tolerance=0)


@pytest.mark.parametrize("window", [False, True])
@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("step", [3, 8])
def test_short_time_transforms(window: bool, onesided: int, step: int) -> None:
    rng = np.random.default_rng(0)
    x = {"x": rng.random((2, 64, 1), np.float32)}
    known = {"s": np.array(step), "l": np.array(16)}
    if window:
        known["w"] = np.hanning(16).astype(np.float32)
    order = ["x", "s", "w" if window else "", "l"]
    model = one_node("STFT", x, known, order=order, opset=17, onesided=onesided)
    check_lowering(model, x)
