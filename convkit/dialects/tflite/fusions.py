"""Rules of `simplify` that merge arithmetic into the operator before it or after it.

Every rule asks for float constants and for a result that nobody else reads.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.sweep import Rule, Sweep

_ACTIVATIONS = frozenset({"RELU", "RELU6", "RELU_N1_TO_1"})
# Operators with a fused activation that the GPU delegate and XNNPACK both take. TRANSPOSE_CONV is
# left out: a fused activation makes it version 4, which the GPU delegate refuses.
_ACTIVATED = frozenset(
    [
        "ADD",
        "AVERAGE_POOL_2D",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "DIV",
        "FULLY_CONNECTED",
        "MAX_POOL_2D",
        "MUL",
        "SUB",
    ]
)
# For each operator with filters: the axis of the filters that is the output channel.
_CHANNEL_AXIS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0}
_FILTERING = frozenset(_CHANNEL_AXIS)
_PADDED = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})


def fuse_activation(op: Op, sweep: Sweep) -> Op | None:
    """RELU(ADD(x, y)) = ADD(x, y, fused RELU), and so for the other operators that have one."""
    if op.code not in _ACTIVATIONS:
        return None
    before = sweep.sole_maker(op.inputs[0], _ACTIVATED)
    if before is None or not _is_linear(before) or not _is_float(op.output):
        return None
    return _merged(before, op, options=before.options | {"fused_activation_function": op.code})


def fuse_bias(op: Op, sweep: Sweep) -> Op | None:
    """CONV_2D(x, w, b) + c = CONV_2D(x, w, b + c) for a constant c of one value a channel."""
    if op.code not in ("ADD", "SUB") or not _is_float(op.output):
        return None
    for k in (0, 1) if op.code == "ADD" else (0,):
        before = sweep.sole_maker(op.inputs[k], _FILTERING)
        amount = _per_channel(op.inputs[1 - k], op.output)
        bias = None if before is None or amount is None else _bias(before)
        if before is None or amount is None or bias is None or not _keeps_shape(before, op):
            continue
        total = bias + amount if op.code == "ADD" else bias - amount
        inputs = [*before.inputs[:2], _constant(f"{op.output.name}_bias", total)]
        return _merged(before, op, inputs=inputs, options=before.options | _activation(op))
    return None


def fuse_scale(op: Op, sweep: Sweep) -> Op | None:
    """CONV_2D(x, w, b) * c = CONV_2D(x, w * c, b * c) for a constant c of one value a channel."""
    if op.code != "MUL" or not _is_float(op.output):
        return None
    for k in (0, 1):
        before = sweep.sole_maker(op.inputs[k], _FILTERING)
        factor = _per_channel(op.inputs[1 - k], op.output)
        if before is None or factor is None or not _keeps_shape(before, op):
            continue
        bias, filters = _bias(before), before.inputs[1]
        if bias is None or filters is None or filters.data is None or filters.data.dtype != np.float32:
            continue
        shape = [1] * filters.rank
        shape[_CHANNEL_AXIS[before.code]] = -1
        inputs = [
            before.inputs[0],
            _constant(f"{op.output.name}_filters", filters.data * factor.reshape(shape)),
            _constant(f"{op.output.name}_bias", bias * factor),
        ]
        return _merged(before, op, inputs=inputs, options=before.options | _activation(op))
    return None


def merge_factors(op: Op, sweep: Sweep) -> Op | None:
    """(x * c) * d = x * (c d) for constants c and d."""
    if op.code != "MUL" or not _is_float(op.output):
        return None
    for k in (0, 1):
        inner, d = sweep.sole_maker(op.inputs[k], frozenset({"MUL"})), op.inputs[1 - k]
        if inner is None or not _keeps_shape(inner, op) or d is None or d.data is None:
            continue
        for x, c in (inner.inputs, inner.inputs[::-1]):
            if x is None or c is None or c.data is None:
                continue
            with np.errstate(over="ignore", under="ignore"):
                product = np.asarray(c.data * d.data)
            grown = product.size > max(c.data.size, d.data.size)
            if (
                not grown
                and np.all(np.isfinite(product))
                and not np.any((product == 0) & (c.data != 0) & (d.data != 0))
            ):
                merged = _constant(f"{op.output.name}_factor", product)
                return replace(op, inputs=[x, merged], origin=inner.origin.union(op.origin))
    return None


def merge_scales(op: Op, sweep: Sweep) -> list[Op] | None:
    """BATCH_MATMUL(x * c, y * d) = BATCH_MATMUL(x * (c d), y) for constants c and d of one element."""
    if op.code != "BATCH_MATMUL" or not _is_float(op.output):
        return None
    left, right = (sweep.sole_maker(t, frozenset({"MUL"})) for t in op.inputs)
    if left is None or right is None or not _is_linear(left) or not _is_linear(right):
        return None
    (x, c), (y, d) = _scaled(left), _scaled(right)
    if x is None or y is None or c is None or d is None:
        return None
    scale = _constant(f"{left.output.name}_scale", np.asarray([c * d], np.float32))
    whole = Tensor(f"{left.output.name}/scaled", x.shape, x.dtype)
    return [
        replace(left, inputs=[x, scale], outputs=[whole], origin=left.origin.union(right.origin)),
        replace(op, inputs=[whole, y]),
    ]


def _scaled(op: Op) -> tuple[Tensor | None, float | None]:
    """What a MUL by a constant of one element multiplies, and by how much."""
    for k in (0, 1):
        x, factor = op.inputs[k], op.inputs[1 - k]
        if x is None or factor is None or factor.data is None or x.shape != op.output.shape:
            continue
        if factor.data.size == 1 and factor.dtype == np.float32:
            return x, float(factor.data.reshape(-1)[0])
    return None, None


def fuse_pad(op: Op, sweep: Sweep) -> Op | None:
    """CONV_2D(PAD(x), VALID) = CONV_2D(x, SAME) where SAME pads exactly as much."""
    if op.code not in _PADDED or op.options.get("padding") != "VALID":
        return None
    pad = sweep.maker(op.inputs[0])
    if pad is None or pad.code != "PAD" or not _is_float(op.output):
        return None
    source, rows, filters = pad.inputs[0], pad.inputs[1], op.inputs[1]
    if source is None or rows is None or rows.data is None or filters is None or source.rank != 4:
        return None
    amounts = [tuple(int(n) for n in row) for row in rows.data]
    if amounts != [(0, 0), *_same_padding(op, source, filters), (0, 0)]:
        return None
    return replace(
        op,
        inputs=[source, *op.inputs[1:]],
        options=op.options | {"padding": "SAME"},
        origin=pad.origin.union(op.origin),
    )


def _same_padding(op: Op, source: Tensor, filters: Tensor) -> list[tuple[int, int]]:
    """What SAME pads before and after the height and the width of `source`."""
    amounts = []
    for axis, letter in ((1, "h"), (2, "w")):
        stride = op.options.get(f"stride_{letter}", 1)
        reach = (filters.shape[axis] - 1) * op.options.get(f"dilation_{letter}_factor", 1) + 1
        size = source.shape[axis]
        total = max((-(-size // stride) - 1) * stride + reach - size, 0)
        amounts.append((total // 2, total - total // 2))
    return amounts


def _merged(before: Op, op: Op, **changes: object) -> Op:
    """`before` with `changes`, which makes the result of `op`."""
    return replace(before, outputs=op.outputs, origin=before.origin.union(op.origin), **changes)  # type: ignore[arg-type]


def _is_linear(op: Op) -> bool:
    return bool(op.options.get("fused_activation_function", "NONE") == "NONE")


def _keeps_shape(before: Op, op: Op) -> bool:
    """Whether the result of `before` goes into `op` as it is: no activation, no broadcasting."""
    return _is_linear(before) and before.output.shape == op.output.shape


def _activation(op: Op) -> dict[str, object]:
    return {"fused_activation_function": op.options.get("fused_activation_function", "NONE")}


def _is_float(tensor: Tensor) -> bool:
    return tensor.dtype == np.float32 and tensor.quantization is None


def _per_channel(tensor: Tensor | None, result: Tensor) -> np.ndarray | None:
    """A constant as one value for each channel (last axis) of `result`, None if it is not that."""
    if tensor is None or tensor.data is None or tensor.data.dtype != np.float32 or not result.rank:
        return None
    if tensor.data.size != 1 and tensor.data.size != tensor.data.shape[-1]:
        return None
    return np.broadcast_to(tensor.data.reshape(-1), result.shape[-1:])


def _bias(op: Op) -> np.ndarray | None:
    """The bias of an operator with filters, zeros if it has none; None if it is not a float constant."""
    bias = op.inputs[2] if len(op.inputs) > 2 else None
    if bias is None:
        return np.zeros(op.output.shape[-1:], np.float32)
    return bias.data if bias.data is not None and bias.data.dtype == np.float32 else None


def _constant(name: str, data: np.ndarray) -> Tensor:
    return Tensor(name, data.shape, data.dtype, data)


FUSIONS: tuple[Rule, ...] = (fuse_activation, fuse_scale, fuse_bias, merge_factors, merge_scales, fuse_pad)
