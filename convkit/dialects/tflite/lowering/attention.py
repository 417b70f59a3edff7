"""Scaled dot-product attention and rotary embeddings."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.activations import scaled
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import take, window
from convkit.dialects.tflite.lowering.matmul import batch_matmul
from convkit.dialects.tflite.lowering.softmax import softmax_last
from convkit.dialects.tflite.lowering.window import need_float32
from convkit.ir.facts import attr, shape_of

_LOWEST = float(np.finfo(np.float32).min)


def _heads(b: Builder, x: Tensor, count: int | None) -> Tensor:
    """(batch, heads, sequence, size) of a tensor that has this shape or (batch, sequence, heads size)."""
    if x.rank == 4:
        return x
    if not count:
        raise UnsupportedError("the number of heads is not given")
    batch, length, width = x.shape
    return b.transpose(b.reshape(x, (batch, length, count, width // count)), (0, 2, 1, 3))


def _masked(b: Builder, scores: Tensor, mask: Tensor) -> Tensor:
    """Scores with the mask applied: added to them, or (bool) where it is false as low as can be."""
    if mask.shape[-1] != scores.shape[-1]:
        raise UnsupportedError("its mask is shorter than the sequence")
    mask = b.reshape(mask, (1,) * (scores.rank - mask.rank) + mask.shape)
    if mask.dtype != np.bool_:
        need_float32(mask)
        return b.binary("ADD", scores, mask)
    if mask.data is not None:
        return b.binary("ADD", scores, b.const(np.where(mask.data, 0, _LOWEST).astype(np.float32)))
    return b.emit("SELECT_V2", [mask, scores, b.scalar_like(scores, _LOWEST)], scores.shape, scores.dtype)


def _both(b: Builder, mask: Tensor, seen: Tensor) -> Tensor:
    """Where both boolean masks are true."""
    assert seen.data is not None
    if mask.data is not None:
        return b.const(mask.data & seen.data, hint="mask")
    return b.binary("LOGICAL_AND", mask, seen)


def _shown(b: Builder, shares: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax's result, zero in rows that a boolean mask hides as a whole."""
    if mask is None or mask.dtype != np.bool_:
        return shares
    mask = b.reshape(mask, (1,) * (shares.rank - mask.rank) + mask.shape)
    if mask.data is None:
        return b.emit("SELECT_V2", [mask, shares, b.scalar_like(shares, 0)], shares.shape, shares.dtype)
    rows = mask.data.any(axis=-1, keepdims=True)
    return shares if rows.all() else b.binary("MUL", shares, b.const(rows.astype(np.float32), hint="rows"))


def _joined(b: Builder, past: Tensor | None, x: Tensor) -> Tensor:
    """x behind its past, along the sequence."""
    if past is None:
        return x
    shape = (*x.shape[:2], past.shape[2] + x.shape[2], x.shape[3])
    return b.emit("CONCATENATION", [past, x], shape, axis=2)


def _refuse_unusual(node: ir.Node) -> None:
    if len(node.inputs) > 6 and node.inputs[6] is not None:
        raise UnsupportedError("the lengths of its sequences are computed")
    last = node.outputs[3] if len(node.outputs) > 3 else None
    if last is not None and (last.uses() or last.is_graph_output()):
        raise UnsupportedError("its scores are an output")
    if attr(node, "softcap", 0.0):
        raise UnsupportedError("its scores are capped")


@lowers("Attention")
def attention(b: Builder, node: ir.Node) -> list[Tensor]:
    """softmax(scale q k' + mask) v per head; query heads that share a key head are rows of one product."""
    _refuse_unusual(node)
    q, k, v, mask, past_k, past_v = b.inputs(node, 6)[:6]
    need_float32(q, k, v, past_k, past_v)
    assert q is not None
    assert k is not None
    assert v is not None
    shape = shape_of(node.outputs[0])
    q = _heads(b, q, attr(node, "q_num_heads"))
    k = _joined(b, past_k, _heads(b, k, attr(node, "kv_num_heads")))
    v = _joined(b, past_v, _heads(b, v, attr(node, "kv_num_heads")))
    batch, heads, length, size = q.shape
    groups, keys = k.shape[1:3]
    q = scaled(b, q, attr(node, "scale") or 1 / math.sqrt(size))
    rows = (batch, groups, heads // groups * length)
    scores = b.reshape(
        batch_matmul(b, b.reshape(q, (*rows, size)), k, adj_y=True), (batch, heads, length, keys)
    )
    if attr(node, "is_causal", 0):
        seen = b.const(np.tri(length, keys, keys - length if past_k is not None else 0, dtype=bool))
        if mask is not None and mask.dtype == np.bool_:
            mask = _both(b, mask, seen)
        else:
            scores = _masked(b, scores, seen)
    if mask is not None:
        scores = _masked(b, scores, mask)
    shares = _shown(b, softmax_last(b, scores), mask)
    y = batch_matmul(b, b.reshape(shares, (*rows, keys)), v)
    y = b.reshape(y, (batch, heads, length, v.shape[3]))
    y = y if len(shape) == 4 else b.reshape(b.transpose(y, (0, 2, 1, 3)), shape)
    return [y, k, v]


def _angles(b: Builder, node: ir.Node, index: int, rank: int) -> Tensor:
    """A table of cosines or sines, picked by position, in the shape that broadcasts over heads."""
    table = b.input(node, index)
    need_float32(table)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        at = b.cast(b.input(node, 3), np.int32)
        flat = b.reshape(at, (math.prod(at.shape),))
        width = table.shape[1]
        table = b.reshape(b.emit("GATHER", [table, flat], (*flat.shape, width), axis=0), (*at.shape, width))
    batch, length, width = table.shape
    return b.reshape(table, (batch, 1, length, width) if rank == 4 else (batch, length, 1, width))


@lowers("RotaryEmbedding")
def rotary_embedding(b: Builder, node: ir.Node) -> Tensor:
    """Pairs of features turned by angles that grow with the position."""
    x = b.input(node)
    need_float32(x)
    shape, heads = x.shape, attr(node, "num_heads", 0)
    cosine, sine = (_angles(b, node, i, x.rank) for i in (1, 2))
    if x.rank == 3:
        x = b.reshape(x, (*shape[:2], heads, shape[2] // heads))
    size = x.shape[3]
    turned = attr(node, "rotary_embedding_dim", 0) or size
    half = turned // 2
    interleaved = bool(attr(node, "interleaved", 0))
    step, second = (2, 1) if interleaved else (1, half)
    p, q = window(b, x, 3, 0, step, half), window(b, x, 3, second, step, half)
    parts = [
        b.binary("SUB", b.binary("MUL", p, cosine), b.binary("MUL", q, sine)),
        b.binary("ADD", b.binary("MUL", p, sine), b.binary("MUL", q, cosine)),
    ]
    if turned < size:
        parts.append(window(b, x, 3, turned, 1, size - turned))
    y = b.emit("CONCATENATION", parts, x.shape, axis=3)
    if interleaved:
        order = np.arange(size)
        order[:turned] = np.arange(turned).reshape(2, half).T.reshape(-1)
        y = take(b, y, 3, order)
    return b.reshape(y, shape)
