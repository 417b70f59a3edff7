"""The operators that only move data, TRANSPOSE and RESHAPE: making and reading them."""

from __future__ import annotations

import numpy as np

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.storage import Perm
from convkit.ir.origin import Origin


def transpose_op(source: Tensor, perm: Perm, target: Tensor, origin: Origin) -> Op:
    """`target` = `source` with its axes in the order `perm`."""
    order = np.asarray(perm, np.int32)
    constant = Tensor(f"{target.name}_perm", order.shape, order.dtype, order)
    return Op("TRANSPOSE", [source, constant], [target], {}, origin)


def reshape_op(source: Tensor, target: Tensor, origin: Origin) -> Op:
    """`target` = `source` in the shape of `target`."""
    shape = np.asarray(target.shape, np.int32)
    constant = Tensor(f"{target.name}_shape", shape.shape, shape.dtype, shape)
    return Op("RESHAPE", [source, constant], [target], {"new_shape": target.shape}, origin)


def is_runtime_transpose(op: Op) -> bool:
    """Whether `op` is a TRANSPOSE by a constant of a value known only at run time."""
    if op.code != "TRANSPOSE":
        return False
    source, perm = op.inputs
    quantization = op.output.quantization
    plain = quantization is None or np.size(quantization.scale) <= 1
    return source is not None and not source.is_constant and perm is not None and perm.is_constant and plain


def transposition(op: Op) -> tuple[Tensor, Perm]:
    """What a TRANSPOSE reads, and its permutation."""
    source, perm = op.inputs
    assert source is not None
    assert perm is not None
    assert perm.data is not None
    return source, tuple(int(axis) for axis in perm.data.reshape(-1))


def renaming(op: Op) -> tuple[Tensor, Perm] | None:
    """What `op` reads and by which permutation, if all it does is give the axes another order.

    A TRANSPOSE does, and a RESHAPE that only moves axes of size 1.
    """
    if is_runtime_transpose(op):
        return transposition(op)
    source = op.inputs[0] if op.code == "RESHAPE" else None
    if source is None or source.is_constant or source.rank != op.output.rank or source.quantization:
        return None
    wide = [axis for axis, size in enumerate(source.shape) if size != 1]
    ones = iter([axis for axis, size in enumerate(source.shape) if size == 1])
    if [source.shape[axis] for axis in wide] != [size for size in op.output.shape if size != 1]:
        return None
    axes = iter(wide)
    return source, tuple(next(ones) if size == 1 else next(axes) for size in op.output.shape)
