"""Operators that change shapes: reshapes, transposes, slices, padding, tiling."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from tests.probes.build import BOOL, F16, F32, I32, I64, Probe, c, maybe, v, w


def reshape() -> Iterator[Probe]:
    for name, source, shape in (
        ("r4-r4", (1, 5, 3, 6), (1, 3, 5, 6)),
        ("r4-r3", (1, 5, 3, 6), (1, 15, 6)),
        ("r4-r2", (1, 5, 3, 6), (15, 6)),
        ("r4-r1", (1, 5, 3, 6), (90,)),
        ("r3-r4", (1, 15, 6), (1, 5, 3, 6)),
        ("r2-r4", (15, 6), (1, 5, 3, 6)),
        ("r1-r4", (90,), (1, 5, 3, 6)),
        ("r3-batch", (4, 3, 6), (2, 6, 6)),
        ("r4-heads", (1, 4, 6), (1, 4, 2, 3)),
        ("r4-b4", (1, 8, 3, 6), (4, 2, 3, 6)),
        ("r4-b2-r4", (4, 2, 3, 6), (1, 8, 3, 6)),
        ("r4-b2-r3", (2, 4, 3, 6), (2, 12, 6)),
        ("r2-r0", (1, 1), ()),
        ("r0-r2", (), (1, 1)),
        ("r0-r1", (), (1,)),
        ("r5-r4", (1, 2, 2, 3, 6), (4, 1, 3, 6)),
        ("r4-r5", (1, 4, 3, 6), (1, 2, 2, 3, 6)),
        ("r4-r6", (1, 4, 3, 6), (1, 2, 2, 3, 2, 3)),
        ("channels", (1, 5, 3, 6), (1, 5, 6, 3)),
    ):
        yield from maybe("RESHAPE", name, [v(*source), c(shape)], new_shape=list(shape))
    yield from maybe("RESHAPE", "option-only", [v(1, 5, 3, 6)], new_shape=[1, 15, 6])
    yield from maybe("RESHAPE", "runtime-shape", [v(1, 5, 3, 6), v(3, dtype=I32, values=[1, 15, 6])])
    yield from maybe("RESHAPE", "const", [w(1, 5, 3, 6), c([1, 15, 6])], new_shape=[1, 15, 6])
    for dtype, name in ((I32, "i32"), (I64, "i64"), (BOOL, "bool"), (F16, "f16")):
        yield from maybe(
            "RESHAPE", name, [v(1, 5, 3, 6, dtype=dtype), c([1, 15, 6])], dtype, new_shape=[1, 15, 6]
        )
    yield from maybe("SQUEEZE", "r4", [v(1, 1, 3, 6)], squeeze_dims=[1])
    yield from maybe("EXPAND_DIMS", "r3", [v(1, 3, 6), c(1)])
    yield from maybe("SHAPE", "r4", [v(1, 1, 3, 6)], I32, out_type="INT32")
    yield from maybe("BROADCAST_TO", "r4", [v(1, 1, 3, 6), c([1, 5, 3, 6])], version=2)
    yield from maybe("FILL", "const", [c([1, 2]), c(0.5, F32)])
    yield from maybe("RANK", "r4", [v(1, 1, 3, 6)], I32)
    yield from maybe("ZEROS_LIKE", "r4", [v(1, 1, 3, 6)])


def transpose() -> Iterator[Probe]:
    for perm in permutations(range(4)):
        yield from maybe("TRANSPOSE", "b1-" + "".join(map(str, perm)), [v(1, 5, 3, 6), c(perm)])
        yield from maybe("TRANSPOSE", "b2-" + "".join(map(str, perm)), [v(2, 5, 3, 6), c(perm)])
    for perm in permutations(range(3)):
        yield from maybe("TRANSPOSE", "r3-" + "".join(map(str, perm)), [v(4, 3, 6), c(perm)])
        yield from maybe("TRANSPOSE", "r3b1-" + "".join(map(str, perm)), [v(1, 3, 6), c(perm)])
    yield from maybe("TRANSPOSE", "r2", [v(3, 6), c([1, 0])])
    yield from maybe("TRANSPOSE", "r1", [v(6), c([0])])
    yield from maybe("TRANSPOSE", "r5", [v(1, 2, 3, 2, 6), c([0, 2, 1, 3, 4])], version=4)
    yield from maybe("TRANSPOSE", "r6", [v(1, 2, 3, 2, 2, 3), c([0, 2, 1, 3, 4, 5])], version=6)
    yield from maybe("TRANSPOSE", "runtime-perm", [v(1, 5, 3, 6), v(4, dtype=I32, values=[0, 2, 1, 3])])
    yield from maybe("TRANSPOSE", "const", [w(1, 5, 3, 6), c([0, 2, 1, 3])])
    for dtype, name, version in ((I32, "i32", 1), (I64, "i64", 1), (BOOL, "bool", 3), (F16, "f16", 9)):
        yield from maybe(
            "TRANSPOSE", name, [v(1, 5, 3, 6, dtype=dtype), c([0, 2, 1, 3])], dtype, version=version
        )


def slices() -> Iterator[Probe]:
    for name, shape, begin, size in (
        ("r4", (1, 5, 3, 6), [0, 1, 0, 2], [1, 3, 3, 4]),
        ("r4-minus1", (1, 5, 3, 6), [0, 1, 0, 2], [-1, 3, -1, 4]),
        ("r4-batch", (2, 5, 3, 6), [1, 0, 0, 0], [1, 5, 3, 6]),
        ("r3", (4, 3, 6), [1, 0, 2], [2, 3, 3]),
        ("r2", (3, 6), [1, 2], [2, 3]),
        ("r1", (6,), [2], [3]),
        ("r5", (1, 2, 3, 2, 6), [0, 1, 0, 0, 2], [1, 1, 3, 2, 3]),
        ("channel-odd", (1, 5, 3, 6), [0, 0, 0, 1], [1, 5, 3, 3]),
    ):
        version = 5 if len(shape) > 4 else 1
        yield from maybe("SLICE", name, [v(*shape), c(begin), c(size)], version=version)
    yield from maybe("SLICE", "i64-params", [v(3, 6), c([1, 2], I64), c([2, 3], I64)])
    yield from maybe("SLICE", "runtime-begin", [v(3, 6), v(2, dtype=I32, values=[1, 2]), c([2, 3])])
    yield from maybe("SLICE", "const", [w(3, 6), c([1, 2]), c([2, 3])])
    for dtype, name in ((I32, "i32"), (I64, "i64"), (BOOL, "bool")):
        yield from maybe("SLICE", name, [v(3, 6, dtype=dtype), c([1, 2]), c([2, 3])], dtype)
    masks = {"begin_mask": 0, "end_mask": 0, "ellipsis_mask": 0, "new_axis_mask": 0, "shrink_axis_mask": 0}
    for name, shape, begin, end, strides, extra in (
        ("r4", (1, 6, 4, 6), [0, 1, 0, 2], [1, 4, 3, 6], [1, 1, 1, 1], {}),
        ("r4-step2", (1, 6, 4, 6), [0, 0, 0, 0], [1, 6, 4, 6], [1, 2, 2, 1], {}),
        ("r4-step2-off", (1, 6, 4, 6), [0, 1, 1, 0], [1, 6, 4, 6], [1, 2, 2, 1], {}),
        ("r4-channel-step", (1, 6, 4, 6), [0, 0, 0, 0], [1, 6, 4, 6], [1, 1, 1, 2], {}),
        ("r4-negative", (1, 6, 4, 6), [0, 5, 0, 0], [1, -7, 4, 6], [1, -1, 1, 1], {}),
        ("r4-negative-index", (1, 6, 4, 6), [0, -3, 0, 0], [1, -1, 4, 6], [1, 1, 1, 1], {}),
        ("r4-begin-mask", (1, 6, 4, 6), [0, 9, 0, 0], [1, 3, 4, 6], [1, 1, 1, 1], {"begin_mask": 2}),
        ("r4-end-mask", (1, 6, 4, 6), [0, 1, 0, 0], [1, 0, 4, 6], [1, 1, 1, 1], {"end_mask": 2}),
        ("r4-shrink", (1, 6, 4, 6), [0, 1, 0, 0], [1, 2, 4, 6], [1, 1, 1, 1], {"shrink_axis_mask": 2}),
        ("r4-ellipsis", (1, 6, 4, 6), [0, 0], [0, 3], [1, 1], {"ellipsis_mask": 1}),
        ("r4-new-axis", (6, 4, 6), [0, 0, 0, 0], [1, 6, 4, 6], [1, 1, 1, 1], {"new_axis_mask": 1}),
        ("r4-short", (1, 6, 4, 6), [0, 1, 0], [1, 4, 3], [1, 1, 1], {}),
        ("r4-batch", (4, 6, 4, 6), [0, 0, 0, 0], [4, 6, 4, 6], [2, 1, 1, 1], {}),
        ("r3", (4, 3, 6), [1, 0, 2], [3, 3, 5], [1, 1, 1], {}),
        ("r2", (3, 6), [1, 2], [3, 5], [1, 1], {}),
        ("r1", (6,), [2], [5], [1], {}),
        ("r5", (1, 2, 3, 2, 6), [0, 1, 0, 0, 2], [1, 2, 3, 2, 5], [1, 1, 1, 1, 1], {}),
    ):
        options = {**masks, **extra}
        for version in (1, 4, 6):
            made = list(
                maybe(
                    "STRIDED_SLICE",
                    name,
                    [v(*shape), c(begin), c(end), c(strides)],
                    version=version,
                    **options,
                )
            )
            yield from made
            if made:
                break
    yield from maybe("STRIDED_SLICE", "v2", [v(3, 6), c([1, 2]), c([3, 5]), c([1, 1])], version=2, **masks)
    yield from maybe("STRIDED_SLICE", "v4", [v(3, 6), c([1, 2]), c([3, 5]), c([1, 1])], version=4, **masks)


def pads() -> Iterator[Probe]:
    for name, shape, amounts in (
        ("hw", (1, 5, 3, 6), [[0, 0], [1, 2], [2, 1], [0, 0]]),
        ("c", (1, 5, 3, 6), [[0, 0], [0, 0], [0, 0], [1, 2]]),
        ("b", (1, 5, 3, 6), [[1, 0], [0, 0], [0, 0], [0, 0]]),
        ("r3", (4, 3, 6), [[0, 0], [1, 2], [0, 0]]),
        ("r3-0", (4, 3, 6), [[1, 0], [1, 2], [0, 0]]),
        ("r2", (3, 6), [[0, 0], [1, 2]]),
        ("r2-0", (3, 6), [[1, 1], [1, 2]]),
        ("r1", (6,), [[1, 2]]),
        ("r3b1", (1, 3, 6), [[0, 0], [1, 2], [0, 0]]),
        ("r3b1-c", (1, 3, 6), [[0, 0], [1, 2], [1, 0]]),
        ("r3b1-b", (1, 3, 6), [[1, 0], [1, 2], [1, 0]]),
        ("batch2", (2, 5, 3, 6), [[0, 0], [1, 1], [1, 2], [0, 0]]),
        ("r5", (1, 2, 3, 2, 6), [[0, 0], [0, 0], [1, 1], [0, 0], [0, 0]]),
    ):
        version = 4 if len(shape) > 4 else 1
        yield from maybe("PAD", name, [v(*shape), c(amounts)], version=version)
        for value in (0.0, 1.5, -1e9, -np.inf):
            yield from maybe(
                "PADV2", f"{name}-{value}", [v(*shape), c(amounts), c(value, F32)], version=version
            )
        for mode in ("REFLECT", "SYMMETRIC"):
            yield from maybe("MIRROR_PAD", f"{name}-{mode}", [v(*shape), c(amounts)], mode=mode)
    yield from maybe(
        "PADV2", "hw-1d-value", [v(1, 5, 3, 6), c([[0, 0], [1, 2], [2, 1], [0, 0]]), c([1.5], F32)]
    )
    yield from maybe("PAD", "i64-params", [v(1, 5, 3, 6), c([[0, 0], [1, 2], [2, 1], [0, 0]], I64)])
    yield from maybe(
        "PAD", "runtime", [v(1, 5, 3, 6), v(4, 2, dtype=I32, values=[[0, 0], [1, 2], [2, 1], [0, 0]])]
    )
    yield from maybe("PAD", "i32", [v(1, 5, 3, 6, dtype=I32), c([[0, 0], [1, 2], [2, 1], [0, 0]])], I32)
    everything = c([[0, 0], [1, 2], [2, 1], [0, 0]])
    yield from maybe("PADV2", "lowest", [v(1, 5, 3, 6), everything, c(-3.4028235e38, F32)])
    yield from maybe("PADV2", "runtime-value", [v(1, 5, 3, 6), everything, v()])
    yield from maybe("PAD", "all-const", [w(1, 5, 3, 6), everything])
    yield from maybe("TILE", "all-const", [w(3, 6), c([1, 2])])
    for name, shape, times in (
        ("r4", (1, 5, 3, 6), [1, 2, 1, 2]),
        ("r4-b", (1, 5, 3, 6), [2, 1, 1, 1]),
        ("r4-one", (1, 5, 3, 1), [1, 1, 1, 4]),
        ("r3", (4, 3, 6), [1, 2, 1]),
        ("r2", (3, 6), [2, 1]),
        ("r1", (6,), [2]),
        ("r5", (1, 2, 3, 2, 6), [1, 1, 1, 1, 2]),
    ):
        yield from maybe("TILE", name, [v(*shape), c(times)])
    yield from maybe("TILE", "i64-params", [v(3, 6), c([2, 1], I64)])
    yield from maybe("TILE", "i32", [v(3, 6, dtype=I32), c([2, 1])], I32)
    yield from maybe("TILE", "bool", [v(3, 6, dtype=BOOL), c([2, 1])], BOOL)


def all_probes() -> Iterator[Probe]:
    for family in (
        reshape,
        transpose,
        slices,
        pads,
    ):
        yield from family()
