"""Operators of two operands: arithmetic, comparisons, logic; every way to broadcast, with constants too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.probes.build import BOOL, F16, F32, I32, I64, Half, Operand, Probe, c, maybe, probe, v, w

ARITHMETIC = ["ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "POW", "SQUARED_DIFFERENCE"]
ARITHMETIC += ["FLOOR_DIV", "FLOOR_MOD", "ATAN2"]
COMPARE = ["EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL"]
LOGIC = ["LOGICAL_AND", "LOGICAL_OR"]
# The operators that go through every form; the others, read by the same code, go through few.
_ALL_FORMS = {"ADD", "POW", "GREATER", "LOGICAL_AND", "ATAN2"}
_FEW = ("same", "scalar", "one", "channel", "pixel", "rank3", "both", "batch-broadcast", "r3-same", "r2-same")

Shape = tuple[int, ...]
FORMS: dict[str, tuple[Shape, Shape]] = {
    "same": ((1, 5, 3, 6), (1, 5, 3, 6)),
    "scalar": ((1, 5, 3, 6), ()),
    "one": ((1, 5, 3, 6), (1,)),
    "channel": ((1, 5, 3, 6), (6,)),
    "channel4": ((1, 5, 3, 6), (1, 1, 1, 6)),
    "channel2": ((1, 5, 3, 6), (1, 6)),
    "pixel": ((1, 5, 3, 6), (1, 5, 3, 1)),
    "row": ((1, 5, 3, 6), (1, 5, 1, 6)),
    "column": ((1, 5, 3, 6), (1, 1, 3, 6)),
    "rank3": ((1, 5, 3, 6), (5, 3, 6)),
    "rank2": ((1, 5, 3, 6), (3, 6)),
    "rank3-b1": ((1, 5, 3, 6), (1, 3, 6)),
    "both": ((1, 5, 1, 6), (1, 1, 3, 6)),
    "both-channel": ((1, 5, 3, 1), (1, 1, 1, 6)),
    "both-vector": ((1, 5, 3, 1), (6,)),
    "batch2": ((2, 5, 3, 6), (2, 5, 3, 6)),
    "batch2-channel": ((2, 5, 3, 6), (6,)),
    "batch2-rank3": ((2, 5, 3, 6), (5, 3, 6)),
    "batch2-map": ((2, 5, 3, 6), (2, 1, 1, 6)),
    "batch-broadcast": ((2, 5, 3, 6), (1, 5, 3, 6)),
    "batch-both": ((2, 1, 3, 6), (1, 5, 3, 6)),
    "r3-same": ((4, 3, 6), (4, 3, 6)),
    "r3-channel": ((4, 3, 6), (6,)),
    "r3-rank2": ((4, 3, 6), (3, 6)),
    "r3-last1": ((4, 3, 6), (4, 3, 1)),
    "r3-first1": ((4, 3, 6), (1, 3, 6)),
    "r3-middle1": ((4, 3, 6), (4, 1, 6)),
    "r3-one": ((4, 3, 6), (1, 1, 1)),
    "r3b1-same": ((1, 3, 6), (1, 3, 6)),
    "r3b1-rank2": ((1, 3, 6), (3, 6)),
    "r3b1-last1": ((1, 3, 6), (1, 3, 1)),
    "r3b1-both": ((1, 3, 1), (1, 1, 6)),
    "r2-same": ((3, 6), (3, 6)),
    "r2-channel": ((3, 6), (6,)),
    "r2-last1": ((3, 6), (3, 1)),
    "r2-both": ((3, 1), (1, 6)),
    "r2b1-same": ((1, 6), (1, 6)),
    "r2b1-channel": ((1, 6), (6,)),
    "r1-same": ((6,), (6,)),
    "r1-one": ((6,), (1,)),
    "r0-same": ((), ()),
    "r5-same": ((1, 2, 3, 2, 6), (1, 2, 3, 2, 6)),
}


def _dtype(code: str) -> np.dtype[Any]:
    return BOOL if code in LOGIC else F32


def _value(code: str, shape: Shape, constant: bool, seed: int) -> Operand:
    """An operand for `code`: whole numbers for comparisons, so that equal values occur; else not negative."""
    if code in LOGIC:
        return w(*shape, dtype=BOOL, seed=seed) if constant else v(*shape, dtype=BOOL)
    values = np.abs(w(*shape, seed=seed)) + np.float32(0.5)
    if code in COMPARE:
        values = np.floor(values * 2)
    return values.astype(F32) if constant else v(*shape, values=values)


def _pairs(code: str, name: str, a: Shape, b: Shape, **options: Any) -> Iterator[Probe]:
    out = F32 if code in ARITHMETIC else BOOL
    version = 2 if code == "FLOOR_DIV" else 1
    for suffix, first, second in (("", False, False), ("-const", False, True), ("-constlhs", True, False)):
        operands = [_value(code, a, first, 3), _value(code, b, second, 4)]
        yield from maybe(code, name + suffix, operands, out, version, **options)


def forms() -> Iterator[Probe]:
    for code in ARITHMETIC + COMPARE + LOGIC:
        for name, (a, b) in FORMS.items():
            if code in _ALL_FORMS or name in _FEW:
                yield from _pairs(code, name, a, b)


def kinds() -> Iterator[Probe]:
    for code in ARITHMETIC + COMPARE + LOGIC:
        for dtype, name in ((F16, "f16"), (I32, "i32"), (I64, "i64"), (BOOL, "bool")):
            out = dtype if code in ARITHMETIC else BOOL
            for version in range(1, 9):
                operands = [v(1, 5, 3, 6, dtype=dtype), v(1, 5, 3, 6, dtype=dtype)]
                made = list(maybe(code, name, operands, out, version))
                yield from made
                if made:
                    break
        for version in range(2, 9):
            operands = [_value(code, (1, 5, 3, 6), False, 3), _value(code, (1, 5, 3, 6), False, 4)]
            yield from maybe(code, f"v{version}", operands, F32 if code in ARITHMETIC else BOOL, version)
    for code in ("ADD", "SUB", "MUL", "DIV"):
        for act in ("RELU", "RELU6", "RELU_N1_TO_1", "TANH", "SIGN_BIT"):
            operands = [v(1, 5, 3, 6), v(1, 5, 3, 6, positive=True)]
            yield from maybe(code, f"act-{act}", operands, fused_activation_function=act)
        half = Half(np.abs(w(1, 1, 1, 6)) + np.float32(0.5))
        yield from maybe(code, "half-channel", [v(1, 5, 3, 6), half])
        yield from maybe(code, "half-vector", [v(1, 5, 3, 6), Half(np.abs(w(6)) + np.float32(0.5))])
        yield from maybe(code, "half-misplaced", [v(4, 3, 6), Half(np.abs(w(4, 3, 6)) + np.float32(0.5))])
        yield from maybe(code, "all-const", [w(3, 6), np.abs(w(3, 6)) + np.float32(0.5)])
    for count in (2, 3):
        yield from maybe("ADD_N", f"of{count}", [v(1, 5, 3, 6) for _ in range(count)])


def twice() -> Iterator[Probe]:
    """One value as both operands."""
    x = v(1, 5, 3, 6, positive=True)
    for code in ARITHMETIC:
        yield from maybe(code, "twice", [x, x])
    for code in COMPARE:
        yield from maybe(code, "twice", [x, x], BOOL)
    truth = v(1, 5, 3, 6, dtype=BOOL)
    for code in LOGIC:
        yield from maybe(code, "twice", [truth, truth], BOOL)
    for code in ("SELECT", "SELECT_V2"):
        yield from maybe(code, "twice", [truth, x, x])
    yield from maybe("CONCATENATION", "twice", [x, x], axis=3)
    yield from maybe("BATCH_MATMUL", "twice", [x, x], adj_y=True)


def powers() -> Iterator[Probe]:
    """A constant to the power of a value."""
    for base in (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0):
        yield probe("POW", f"base-{base}", [c(base, F32), v(1, 5, 3, 6, positive=True)])
        yield probe("POW", f"bases-{base}", [np.full(6, base, np.float32), v(1, 5, 3, 6, positive=True)])


def all_probes() -> Iterator[Probe]:
    for family in (forms, kinds, twice, powers):
        yield from family()
