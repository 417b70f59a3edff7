"""Integers, booleans and halves through the operators that may carry them, with and without constants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.probes.build import BOOL, F16, I8, I32, U8, Operand, Probe, c, maybe, v, w

_Case = tuple[str, str, list[Operand], list[np.dtype[Any]], dict[str, Any]]


def _moves(t: np.dtype[Any]) -> Iterator[_Case]:
    """Operators that carry any type."""
    pads = c([[0, 0], [1, 1], [1, 1], [0, 0]])
    masks = {"begin_mask": 0, "end_mask": 0, "ellipsis_mask": 0, "new_axis_mask": 0, "shrink_axis_mask": 0}
    run, const, mask = v(3, 6, dtype=t), w(3, 6, dtype=t), v(3, 6, dtype=BOOL)
    yield "CONCATENATION", "", [run, v(3, 6, dtype=t)], [t], {"axis": 1}
    yield "CONCATENATION", "-const", [run, const], [t], {"axis": 1}
    yield "CONCATENATION", "-const4", [v(1, 2, 2, 8, dtype=t), w(1, 2, 2, 4, dtype=t)], [t], {"axis": 3}
    yield "PACK", "", [run, v(3, 6, dtype=t)], [t], {"values_count": 2, "axis": 0}
    yield "PACK", "-const", [run, const], [t], {"values_count": 2, "axis": 0}
    yield "UNPACK", "", [run], [t] * 3, {"num": 3, "axis": 0}
    yield "SPLIT", "", [c(1), run], [t] * 2, {"num_splits": 2}
    yield "SPLIT_V", "", [run, c([2, 4]), c(1)], [t] * 2, {"num_splits": 2}
    yield "SELECT_V2", "", [mask, run, v(3, 6, dtype=t)], [t], {}
    yield "SELECT_V2", "-const", [mask, run, const], [t], {}
    yield "SELECT_V2", "-one", [mask, run, w(1, dtype=t)], [t], {}
    yield "RESHAPE", "", [run, c([6, 3])], [t], {"new_shape": [6, 3]}
    yield "TRANSPOSE", "", [run, c([1, 0])], [t], {}
    yield "SLICE", "", [run, c([1, 2]), c([1, 2])], [t], {}
    yield "STRIDED_SLICE", "", [run, c([1, 0]), c([2, 2]), c([1, 1])], [t], masks
    yield "PAD", "", [v(1, 3, 3, 6, dtype=t), pads], [t], {}
    yield "PADV2", "", [v(1, 3, 3, 6, dtype=t), pads, w(dtype=t)], [t], {}
    yield "MIRROR_PAD", "", [v(1, 3, 3, 6, dtype=t), pads], [t], {"mode": "REFLECT"}
    yield "GATHER", "", [run, c([0, 2])], [t], {"axis": 0}
    yield "GATHER", "-table", [const, v(2, dtype=I32, values=[0, 2])], [t], {"axis": 0}
    yield "TILE", "", [run, c([1, 2])], [t], {}
    yield "REVERSE_V2", "", [v(3, 4, dtype=t), c([0])], [t], {}
    yield "ONE_HOT", "", [v(3, dtype=I32), c(6), w(dtype=t, seed=1), w(dtype=t, seed=9)], [t], {"axis": -1}
    yield "DEPTH_TO_SPACE", "", [v(1, 2, 2, 8, dtype=t)], [t], {"block_size": 2}
    yield "SPACE_TO_DEPTH", "", [v(1, 2, 2, 8, dtype=t)], [t], {"block_size": 2}


def _sums(t: np.dtype[Any]) -> Iterator[_Case]:
    """Operators that compute with numbers."""
    run, other = v(1, 5, 3, 6, dtype=t), v(1, 5, 3, 6, dtype=t)
    for code in (
        "ADD",
        "SUB",
        "MUL",
        "DIV",
        "MAXIMUM",
        "MINIMUM",
        "FLOOR_DIV",
        "FLOOR_MOD",
        "SQUARED_DIFFERENCE",
    ):
        yield code, "", [run, other], [t], {}
        yield code, "-one", [run, w(1, dtype=t)], [t], {}
        yield code, "-scalar", [run, w(dtype=t)], [t], {}
        yield code, "-channel", [run, w(6, dtype=t)], [t], {}
        yield code, "-const", [run, w(1, 5, 3, 6, dtype=t)], [t], {}
    for shape in ((1, 6), (1, 1, 6), (1, 1, 1, 6), (1, 5, 3, 1), (3, 6), (5, 3, 6), (5, 3, 1), (1, 1, 3, 6)):
        yield "ADD", "-by-" + "x".join(map(str, shape)), [run, w(*shape, dtype=t)], [t], {}
    for code in ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"):
        yield code, "", [run, other], [BOOL], {}
        yield code, "-one", [run, w(1, dtype=t)], [BOOL], {}
        yield code, "-channel", [run, w(6, dtype=t)], [BOOL], {}
    for code in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD"):
        yield code, "", [run, c([3])], [t], {"keep_dims": True}
    for code in ("ABS", "NEG", "SIGN", "SQUARE", "RELU"):
        yield code, "", [run], [t], {}
    yield "CUMSUM", "", [run, c(1)], [t], {"exclusive": False, "reverse": False}
    yield "TOPK_V2", "", [v(3, 8, dtype=t), c(2)], [t, I32], {}
    yield "ARG_MAX", "", [v(3, 8, dtype=t), c(1)], [I32], {"output_type": "INT32"}


def all_probes() -> Iterator[Probe]:
    names = ((I32, "i32"), (F16, "f16"), (BOOL, "bool"), (I8, "i8"), (U8, "u8"))
    for t, name in names:
        cases = [*_moves(t), *(_sums(t) if t in (I32, F16) else ())]
        for code, suffix, operands, out, options in cases:
            for version in range(1, 10):
                made = list(maybe(code, f"of-{name}{suffix}", operands, out, version, **options))
                yield from made
                if made:
                    break
