"""Operators that join, split, look up, sort and reduce."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from tests.probes.build import BOOL, F32, I32, I64, Half, Operand, Probe, c, maybe, v, w


def _split(
    code: str, name: str, operands: Sequence[Operand], count: int, dtype: np.dtype = F32
) -> Iterator[Probe]:
    yield from maybe(code, name, operands, [dtype] * count, num_splits=count)


def joins() -> Iterator[Probe]:
    for name, shapes, axis in (
        ("r4-c", [(1, 5, 3, 6), (1, 5, 3, 4)], 3),
        ("r4-c-neg", [(1, 5, 3, 6), (1, 5, 3, 4)], -1),
        ("r4-w", [(1, 5, 3, 6), (1, 5, 2, 6)], 2),
        ("r4-h", [(1, 5, 3, 6), (1, 2, 3, 6)], 1),
        ("r4-b", [(1, 5, 3, 6), (2, 5, 3, 6)], 0),
        ("r4-many", [(1, 5, 3, 6)] * 9, 3),
        ("r4-one", [(1, 5, 3, 6)], 3),
        ("r3-0", [(4, 3, 6), (2, 3, 6)], 0),
        ("r3-1", [(4, 3, 6), (4, 2, 6)], 1),
        ("r3-2", [(4, 3, 6), (4, 3, 5)], 2),
        ("r2-0", [(3, 6), (2, 6)], 0),
        ("r2-1", [(3, 6), (3, 5)], 1),
        ("r1", [(6,), (4,)], 0),
        ("r5", [(1, 2, 3, 2, 6), (1, 2, 3, 2, 6)], 4),
    ):
        yield from maybe("CONCATENATION", name, [v(*s) for s in shapes], axis=axis)
        if len(shapes) > 1:
            yield from maybe("CONCATENATION", name + "-const", [v(*shapes[0]), w(*shapes[1])], axis=axis)
            yield from maybe("CONCATENATION", name + "-constfirst", [w(*shapes[0]), v(*shapes[1])], axis=axis)
    yield from maybe("CONCATENATION", "consts", [w(3, 6), w(2, 6)], axis=0)
    yield from maybe("CONCATENATION", "act", [v(3, 6), v(2, 6)], axis=0, fused_activation_function="RELU")
    for dtype, name in ((I32, "i32"), (I64, "i64"), (BOOL, "bool")):
        yield from maybe("CONCATENATION", name, [v(3, 6, dtype=dtype), v(2, 6, dtype=dtype)], dtype, axis=0)
    for name, shape, axis, count in (
        ("r4-c", (1, 5, 3, 6), 3, 2),
        ("r4-c3", (1, 5, 3, 6), 3, 3),
        ("r4-w", (1, 5, 4, 6), 2, 2),
        ("r4-h", (1, 4, 3, 6), 1, 2),
        ("r4-b", (2, 4, 3, 6), 0, 2),
        ("r3", (4, 3, 6), 2, 2),
        ("r3-0", (4, 3, 6), 0, 2),
        ("r2", (3, 6), 1, 2),
        ("r2-0", (4, 6), 0, 2),
        ("r1", (6,), 0, 2),
        ("r4-one", (1, 5, 3, 6), 3, 1),
    ):
        yield from _split("SPLIT", name, [c(axis), v(*shape)], count)
        yield from _split("SPLIT", name + "-axis1d", [c([axis]), v(*shape)], count)
        each = shape[axis] // count
        sizes = [each] * count
        yield from _split("SPLIT_V", name, [v(*shape), c(sizes), c(axis)], count)
        yield from _split("SPLIT_V", name + "-axis1d", [v(*shape), c(sizes), c([axis])], count)
    yield from _split("SPLIT", "negative-axis", [c(-1), v(1, 5, 3, 6)], 2)
    yield from _split("SPLIT", "i32", [c(3), v(1, 5, 3, 6, dtype=I32)], 2, I32)
    yield from _split("SPLIT_V", "unequal", [v(1, 5, 3, 6), c([2, 4]), c(3)], 2)
    yield from _split("SPLIT_V", "unequal-axis1d", [v(1, 5, 3, 6), c([2, 4]), c([3])], 2)
    yield from _split("SPLIT_V", "rest", [v(1, 5, 3, 6), c([2, -1]), c(3)], 2)
    for name, shape, axis, count in (
        ("r1-0", (6,), 0, 2),
        ("r1-1", (6,), 1, 2),
        ("r2-0", (3, 6), 0, 2),
        ("r2-1", (3, 6), 1, 2),
        ("r3-0", (4, 3, 6), 0, 3),
        ("r3-1", (4, 3, 6), 1, 3),
        ("r3-2", (4, 3, 6), 2, 3),
        ("r3-3", (4, 3, 6), 3, 3),
        ("r3b1-1", (1, 3, 6), 1, 3),
        ("r4-1", (1, 5, 3, 6), 1, 2),
        ("r0", (), 0, 2),
    ):
        yield from maybe("PACK", name, [v(*shape)] * count, values_count=count, axis=axis)
    yield from maybe("PACK", "const", [v(3, 6), w(3, 6)], values_count=2, axis=0)
    for name, shape, axis in (
        ("r4-1", (1, 2, 3, 6), 1),
        ("r4-0", (2, 4, 3, 6), 0),
        ("r4-3", (1, 5, 3, 2), 3),
        ("r3-0", (2, 3, 6), 0),
        ("r3-1", (4, 2, 6), 1),
        ("r3-2", (4, 3, 2), 2),
        ("r2-0", (2, 6), 0),
        ("r2-1", (3, 2), 1),
        ("r5", (1, 2, 3, 2, 6), 1),
    ):
        yield from maybe("UNPACK", name, [v(*shape)], [F32] * shape[axis], num=shape[axis], axis=axis)


def lookups() -> Iterator[Probe]:
    for name, shape, index, axis, batch in (
        ("r4-axis1", (1, 5, 3, 6), [2, 0], 1, 0),
        ("r4-axis2", (1, 5, 3, 6), [2, 0], 2, 0),
        ("r4-axis3", (1, 5, 3, 6), [2, 0, 5], 3, 0),
        ("r4-axis0", (3, 5, 3, 6), [2, 0], 0, 0),
        ("r4-negaxis", (1, 5, 3, 6), [2, 0, 5], -1, 0),
        ("r3-axis1", (1, 3, 6), [2, 0], 1, 0),
        ("r3-axis2", (4, 3, 6), [2, 0], 2, 0),
        ("r2-axis0", (3, 6), [2, 0], 0, 0),
        ("r2-axis1", (3, 6), [2, 0], 1, 0),
        ("r1", (6,), [2, 0], 0, 0),
        ("r2-2d", (3, 6), [[2, 0], [1, 1]], 0, 0),
        ("r2-12d", (3, 6), [[2, 0]], 0, 0),
        ("r4-scalar", (1, 5, 3, 6), 2, 1, 0),
        ("r2-scalar", (3, 6), 2, 0, 0),
        ("r3-batchdims", (2, 3, 6), [[2, 0], [1, 1]], 1, 1),
        ("r5", (1, 5, 3, 6, 2), [2, 0], 1, 0),
    ):
        version = 5 if batch else 1
        options = {"axis": axis, "batch_dims": batch}
        yield from maybe("GATHER", name, [v(*shape), c(index)], version=version, **options)
        indices = v(*np.shape(index), dtype=I32, values=index)
        yield from maybe("GATHER", name + "-runtime", [v(*shape), indices], version=version, **options)
        yield from maybe("GATHER", name + "-table", [w(*shape), indices], version=version, **options)
    yield from maybe("GATHER", "i64-indices", [v(3, 6), c([2, 0], I64)], axis=0)
    yield from maybe("GATHER", "i64-indices-runtime", [v(3, 6), v(2, dtype=I64, values=[2, 0])], axis=0)
    yield from maybe("GATHER", "i32-data", [v(3, 6, dtype=I32), c([2, 0])], I32, axis=0)
    yield from maybe("GATHER", "half-table", [Half(w(3, 6)), v(2, dtype=I32, values=[2, 0])], axis=0)
    yield from maybe("GATHER_ND", "r2", [v(3, 6), c([[2, 0], [1, 1]])])
    yield from maybe("EMBEDDING_LOOKUP", "r2", [v(2, dtype=I32, values=[2, 0]), w(3, 6)])
    yield from maybe("SCATTER_ND", "r1", [c([[2], [0]]), v(2, 6), c([3, 6])])
    hot = {"axis": -1}
    yield from maybe("ONE_HOT", "r1", [v(3, dtype=I32), c(6), c(1, F32), c(0, F32)], **hot)
    yield from maybe("ONE_HOT", "r2", [v(3, 2, dtype=I32), c(6), c(1, F32), c(0, F32)], **hot)
    yield from maybe("ONE_HOT", "r1-first", [v(3, dtype=I32), c(6), c(1, F32), c(0, F32)], axis=0)
    yield from maybe("ONE_HOT", "r2-named-last", [v(3, 2, dtype=I32), c(6), c(1, F32), c(0, F32)], axis=2)
    start = v(4, dtype=I32, values=[0, 1, 0, 0])
    yield from maybe("DYNAMIC_UPDATE_SLICE", "runtime-start", [v(1, 5, 3, 6), v(1, 2, 3, 6), start])
    yield from maybe("DYNAMIC_UPDATE_SLICE", "r4", [v(1, 5, 3, 6), v(1, 2, 3, 6), c([0, 1, 0, 0])])
    for name, shape in (
        ("r4", (1, 5, 3, 6)),
        ("r3", (4, 3, 6)),
        ("r2", (3, 6)),
        ("r1", (6,)),
        ("r2b1", (1, 6)),
    ):
        yield from maybe("TOPK_V2", name, [v(*shape), c(2)], [F32, I32])
        for code in ("ARG_MAX", "ARG_MIN"):
            for axis in range(len(shape)):
                yield from maybe(code, f"{name}-{axis}", [v(*shape), c(axis)], I32, output_type="INT32")
        yield from maybe("ARG_MAX", f"{name}-i64", [v(*shape), c(len(shape) - 1)], I64, output_type="INT64")
        yield from maybe(
            "ARG_MAX", f"{name}-axis1d", [v(*shape), c([len(shape) - 1])], I32, output_type="INT32"
        )
        yield from maybe("ARG_MAX", f"{name}-negaxis", [v(*shape), c(-1)], I32, output_type="INT32")
        for axis in range(len(shape)):
            yield from maybe("CUMSUM", f"{name}-{axis}", [v(*shape), c(axis)], exclusive=False, reverse=False)
            yield from maybe("REVERSE_V2", f"{name}-{axis}", [v(*shape), c([axis])])
    for count in (1, 3, 5, 8):
        yield from maybe("TOPK_V2", f"c8-k{count}", [v(1, 1, 1, 8), c(count)], [F32, I32])
    for channels in (1, 3, 4, 5, 8):
        yield from maybe("REVERSE_V2", f"c{channels}", [v(1, 5, 3, channels), c([3])])
    yield from maybe("REVERSE_V2", "two-axes", [v(1, 5, 3, 4), c([1, 2])])
    yield from maybe("REVERSE_V2", "all-const", [w(3, 4), c([0])])
    yield from maybe("CUMSUM", "all-const", [w(3, 4), c(1)], exclusive=False, reverse=False)
    yield from maybe("STRIDED_SLICE", "all-const", [w(3, 6), c([0, 0]), c([2, 2]), c([1, 1])])
    yield from maybe("CONCATENATION", "one-r3", [v(4, 3, 6)], axis=2)
    yield from maybe("CONCATENATION", "one-r3b1", [v(1, 3, 6)], axis=2)
    yield from maybe("CUMSUM", "exclusive", [v(1, 5, 3, 6), c(1)], exclusive=True, reverse=False)
    yield from maybe("CUMSUM", "reverse", [v(1, 5, 3, 6), c(1)], exclusive=False, reverse=True)


def reductions() -> Iterator[Probe]:
    for code in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ALL", "REDUCE_ANY"):
        dtype = BOOL if code in {"REDUCE_ALL", "REDUCE_ANY"} else F32
        for name, shape in (
            ("r4", (1, 5, 3, 6)),
            ("r3", (4, 3, 6)),
            ("r2", (3, 6)),
            ("r1", (6,)),
            ("b2", (2, 5, 3, 6)),
        ):
            for count in range(1, len(shape) + 1):
                for axes in combinations(range(len(shape)), count):
                    for keep in (True, False):
                        label = f"{name}-{''.join(map(str, axes))}-{'keep' if keep else 'drop'}"
                        yield from maybe(
                            code, label, [v(*shape, dtype=dtype), c(list(axes))], dtype, keep_dims=keep
                        )
        yield from maybe(code, "scalar-axis", [v(1, 5, 3, 6, dtype=dtype), c(3)], dtype, keep_dims=True)
        yield from maybe(code, "negative-axis", [v(1, 5, 3, 6, dtype=dtype), c([-1])], dtype, keep_dims=True)
        yield from maybe(code, "r5", [v(*(1, 2, 3, 2, 6), dtype=dtype), c([4])], dtype, keep_dims=True)
        yield from maybe(code, "i32", [v(1, 5, 3, 6, dtype=I32), c([3])], I32, keep_dims=True)


def all_probes() -> Iterator[Probe]:
    for family in (
        joins,
        lookups,
        reductions,
    ):
        yield from family()
