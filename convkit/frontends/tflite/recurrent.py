"""Operators that keep a state from one run to the next: the sequence LSTM, SVDF."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.frontends.tflite.builder import Builder, RefusedError, imports
from convkit.ir.unroll import NODE_LIMIT

_INPUT_WEIGHTS, _STATE_WEIGHTS, _PEEPHOLES, _BIASES = range(1, 5), range(5, 9), range(9, 12), range(12, 16)
_PROJECTION, _STATES, _NORMS = range(16, 18), (18, 19), range(20, 24)
_NODES_PER_STEP = 16


@imports("UNIDIRECTIONAL_SEQUENCE_LSTM")
def sequence_lstm(b: Builder, op: Op) -> ir.Value:
    """An LSTM. Its kernel goes on from the state of the run before.

    For sequences that is a matter of the caller, who resets it: they start from zeros. A model that is given
    one step a run lives by its state, which becomes an input and an output.
    """
    x = op.inputs[0]
    assert x is not None
    given = [op.inputs[i] if i < len(op.inputs) else None for i in range(24)]
    time_major = bool(op.options["time_major"])
    if x.rank != 3:
        raise RefusedError(f"its input has rank {x.rank}")
    if any(given[i] is not None for i in (*_PEEPHOLES, *_PROJECTION, *_NORMS)):
        raise RefusedError("it has peepholes, a projection or normalized gates")
    if any(given[i] is None for i in (*_INPUT_WEIGHTS, *_STATE_WEIGHTS, *_BIASES)):
        raise RefusedError("its input and forget gates are coupled")
    if op.options["fused_activation_function"] != "TANH" or op.options["proj_clip"]:
        raise RefusedError("its activation is not TANH, or its projection is limited")
    return _unrolled(b, op, given, x.shape[0 if time_major else 1], time_major)


def _unrolled(b: Builder, op: Op, given: Sequence[Tensor | None], steps: int, time_major: bool) -> ir.Value:
    """The steps one by one; ONNX's LSTM limits its gates, not its cell, so it cannot stand for this one."""
    if steps * _NODES_PER_STEP > NODE_LIMIT:
        raise RefusedError(f"it has {steps} steps, too many to be unrolled")
    weights, recurrent, bias = (
        b.op("Concat", *(b.real(given[i]) for i in group), axis=0)
        for group in (_INPUT_WEIGHTS, _STATE_WEIGHTS, _BIASES)
    )
    limit = float(op.options["cell_clip"])
    share = b.op("MatMul", b.real(op.inputs[0]), b.transpose(weights, (1, 0)))
    share = b.op("Add", share, bias)
    time = 0 if time_major else 1
    recurrent = b.transpose(recurrent, (1, 0))
    hidden: ir.Value | None = None
    cell: ir.Value | None = None
    kept = [given[i] for i in _STATES] if steps == 1 else []
    if kept:
        hidden, cell = (_state(b, tensor) for tensor in kept)
    made = []
    for part in b.ops("Split", share, b.ints([1] * steps), outputs=steps, axis=time):
        gates = b.op("Squeeze", part, b.ints([time]))
        if hidden is not None:
            gates = b.op("Add", gates, b.op("MatMul", hidden, recurrent))
        enter, forget, candidate, leave = b.ops("Split", gates, outputs=4, axis=-1, num_outputs=4)
        gained = b.op("Mul", b.op("Sigmoid", enter), b.op("Tanh", candidate))
        cell = gained if cell is None else b.op("Add", b.op("Mul", b.op("Sigmoid", forget), cell), gained)
        cell = b.clip(cell, -limit, limit) if limit else cell
        hidden = b.op("Mul", b.op("Sigmoid", leave), b.op("Tanh", cell))
        made.append(b.op("Unsqueeze", hidden, b.ints([time])))
    for tensor, value in zip(kept, (hidden, cell), strict=False):
        assert tensor is not None
        assert value is not None
        b.states[tensor.name].last = value
    return b.op("Concat", *made, axis=time)


def _state(b: Builder, tensor: Tensor | None) -> ir.Value:
    if tensor is None:
        raise RefusedError("it has no tensor for its state")
    return b.state(tensor.name, tensor.shape)


@imports("SVDF")
def svdf(b: Builder, op: Op) -> ir.Value:
    """A filter of each feature over the last runs, of rank one or more.

    feature = x W^T joins the end of the state, whose oldest goes; output = sum over the rank of state * time
    weights. Source: tensorflow/lite/kernels/internal/reference/svdf.h.
    """
    x, features, time, bias, kept = (*op.inputs, None)[:5]
    assert x is not None
    assert features is not None
    assert time is not None
    filters, memory = time.shape
    rank, batch = int(op.options["rank"]), x.shape[0]
    if x.rank != 2 or rank < 1 or filters % rank or kept is None:
        raise RefusedError(f"its input has rank {x.rank}, and {filters} filters of rank {rank}")
    now = b.op("MatMul", b.real(x), b.real(features, (1, 0)))
    if kept.quantization is not None and kept.dtype.kind == "i":
        now = b.rounded(kept, now)
    old = b.reshape(_state(b, kept), (batch, filters, memory))
    rest = b.op("Slice", old, b.ints([1]), b.ints([memory]), b.ints([2]))
    state = b.op("Concat", rest, b.reshape(now, (batch, filters, 1)), axis=2)
    b.states[kept.name].last = b.reshape(state, kept.shape)
    y = b.op("ReduceSum", b.op("Mul", state, b.real(time)), b.ints([2]), keepdims=0)
    if rank > 1:
        y = b.op("ReduceSum", b.reshape(y, (batch, filters // rank, rank)), b.ints([2]), keepdims=0)
    y = y if bias is None else b.op("Add", y, b.real(bias))
    return b.activated(y, op.options)
