"""Operators of classical feature extraction: n-grams, thresholds, picked columns."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import pick, window
from convkit.dialects.tflite.lowering.matmul import fully_connected
from convkit.dialects.tflite.lowering.reductions import reduce
from convkit.ir.facts import attr, shape_of

_ML = "ai.onnx.ml"


@lowers("ArrayFeatureExtractor", domain=_ML)
def array_feature_extractor(b: Builder, node: ir.Node) -> Tensor:
    """The elements at indices along the last axis."""
    x, indices = b.input(node, 0), b.cast(b.input(node, 1), np.int32)
    found = pick(b, x, x.rank - 1, b.reshape(indices, (int(np.prod(indices.shape)),)))
    return b.reshape(found, shape_of(node.outputs[0]))


@lowers("Binarizer", domain=_ML)
def binarizer(b: Builder, node: ir.Node) -> Tensor:
    """One where x is above the threshold, else zero."""
    x = b.input(node)
    above = b.binary("GREATER", x, b.scalar_like(x, attr(node, "threshold", 0.0)), np.bool_)
    return b.cast(above, x.dtype)


def _grams(node: ir.Node) -> list[np.ndarray]:
    """The pool's n-grams, one array (count, n) for each n from 1 on."""
    pool, starts = np.array(attr(node, "pool_int64s", ()), np.int64), attr(node, "ngram_counts")
    ends = [*starts[1:], len(pool)]
    return [pool[i:j].reshape(-1, n) for n, (i, j) in enumerate(zip(starts, ends, strict=True), start=1)]


def _occurrences(b: Builder, rows: Tensor, grams: np.ndarray, skips: int) -> Tensor | None:
    """How often each n-gram stands in each row (N, count), with up to `skips` tokens between its own."""
    total: Tensor | None = None
    count, n = grams.shape
    for step in range(1, skips + 2 if n > 1 else 2):
        places = rows.shape[1] - (n - 1) * step
        if places <= 0 or not count:
            break
        same: Tensor | None = None
        for k in range(n):
            token = b.reshape(window(b, rows, 1, k * step, 1, places), (rows.shape[0], places, 1))
            wanted = b.const(grams[:, k].reshape(1, 1, count).astype(rows.dtype), hint="tokens")
            equal = b.binary("EQUAL", token, wanted, np.bool_)
            same = equal if same is None else b.binary("LOGICAL_AND", same, equal, np.bool_)
        assert same is not None
        found = reduce(b, "SUM", b.cast(same, np.float32), [1], keep=False)
        total = found if total is None else b.binary("ADD", total, found)
    return total


@lowers("TfIdfVectorizer")
def tf_idf(b: Builder, node: ir.Node) -> Tensor:
    """Counts of the pool's n-grams in each row (mode IDF: at most one), weighted in all modes but TF."""
    x, mode, shape = b.input(node), attr(node, "mode"), shape_of(node.outputs[0])
    rows = x if x.rank == 2 else b.reshape(x, (1, *x.shape))
    weights, places = np.array(attr(node, "weights", ()), np.float32), np.array(attr(node, "ngram_indexes"))
    if mode != "TF" and len(weights) and not np.array_equal(places, np.arange(len(weights))):
        raise UnsupportedError("runtimes disagree on which weight belongs to an n-gram that is moved")
    columns, counts = shape[-1], []
    first = 0
    for n, grams in enumerate(_grams(node), start=1):
        used = attr(node, "min_gram_length") <= n <= attr(node, "max_gram_length")
        if used and len(np.unique(grams, axis=0)) < len(grams):
            raise UnsupportedError("an n-gram stands in its pool twice")
        found = _occurrences(b, rows, grams, attr(node, "max_skip_count")) if used else None
        if found is not None:
            moved = np.zeros((columns, len(grams)), np.float32)
            moved[places[first : first + len(grams)], np.arange(len(grams))] = 1
            counts.append(fully_connected(b, found, moved))
        first += len(grams)
    if not counts:
        return b.const(np.zeros(shape, np.float32), hint="none")
    total = counts[0]
    for more in counts[1:]:
        total = b.binary("ADD", total, more)
    if mode == "IDF":
        total = b.binary("MINIMUM", total, b.scalar_like(total, 1))
    if mode != "TF" and len(weights):
        total = b.binary("MUL", total, b.const(weights, hint="weights"))
    return b.reshape(total, shape)
