"""Operators of one operand, PRELU, selection and conversion."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Quantization, Tensor
from tests.probes.build import BOOL, F16, F32, I8, I16, I32, I64, U8, Half, Probe, c, maybe, probe, v, w

UNARY: list[str] = []
UNARY += ["ABS", "CEIL", "COS", "ELU", "EXP", "FLOOR", "GELU", "HARD_SWISH"]
UNARY += ["LEAKY_RELU", "LOG", "LOGISTIC", "NEG", "RELU", "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1"]
UNARY += ["ROUND", "RSQRT", "SIGN", "SIN", "SQRT", "SQUARE", "TANH", "LOG_SOFTMAX"]
UNARY += ["L2_NORMALIZATION"]
SHAPES = {0: (), 1: (6,), 2: (3, 6), 3: (2, 3, 6), 4: (1, 5, 3, 6), 5: (1, 2, 3, 2, 6), 6: (1, 2, 1, 3, 2, 6)}


def unary() -> Iterator[Probe]:
    for code in UNARY:
        options = {"alpha": 0.1} if code == "LEAKY_RELU" else {}
        for rank, shape in SHAPES.items():
            if code in {"LOG_SOFTMAX", "L2_NORMALIZATION"} and rank == 0:
                continue
            yield probe(code, f"r{rank}", [v(*shape, positive=True)], **options)
        yield probe(code, "batch2", [v(2, 5, 3, 6, positive=True)], **options)
        for version in (2, 3, 4):
            try:
                yield probe(code, f"v{version}", [v(1, 5, 3, 6, positive=True)], version=version, **options)
            except ValueError:
                break
        for dtype, name in ((F16, "f16"), (I32, "i32"), (I64, "i64")):
            for version in (1, 2, 3, 5):
                try:
                    yield probe(code, name, [v(1, 5, 3, 6, dtype=dtype)], dtype, version=version, **options)
                    break
                except ValueError:
                    continue
        yield probe(code, "const", [np.abs(w(1, 5, 3, 6)) + np.float32(0.5)], **options)
    yield probe("GELU", "tanh", [v(1, 5, 3, 6)], approximate=True)
    yield probe("LOGICAL_NOT", "r4", [v(1, 5, 3, 6, dtype=BOOL)], BOOL)
    yield probe("LOGICAL_NOT", "r2", [v(3, 6, dtype=BOOL)], BOOL)


def prelu() -> Iterator[Probe]:
    for data, slope in (
        ((1, 5, 3, 6), (6,)),
        ((1, 5, 3, 6), (1,)),
        ((1, 5, 3, 6), (3, 6)),
        ((1, 5, 3, 6), (1, 1, 6)),
        ((1, 5, 3, 6), (1, 3, 6)),
        ((1, 5, 3, 6), (5, 1, 6)),
        ((1, 5, 3, 6), (5, 3, 1)),
        ((1, 5, 3, 6), (5, 3, 6)),
        ((1, 5, 3, 6), (1, 1, 1)),
        ((1, 5, 3, 6), (1, 1, 1, 6)),
        ((1, 5, 3, 6), (1, 5, 3, 6)),
        ((1, 5, 3, 1), (1,)),
        ((1, 5, 3, 1), (1, 1, 1)),
        ((2, 5, 3, 6), (1, 1, 6)),
        ((2, 5, 3, 6), (6,)),
        ((4, 3, 6), (6,)),
        ((4, 3, 6), (1, 1, 6)),
        ((4, 3, 6), (3, 6)),
        ((1, 3, 6), (6,)),
        ((1, 3, 6), (1, 6)),
        ((1, 3, 6), (3, 6)),
        ((3, 6), (6,)),
        ((3, 6), (1,)),
    ):
        name = "x".join(map(str, data)) + "-by-" + "x".join(map(str, slope))
        yield from maybe("PRELU", name, [v(*data), w(*slope)])
    yield from maybe("PRELU", "runtime-slope", [v(1, 5, 3, 6), v(1, 1, 6)])
    yield from maybe("PRELU", "half-slope", [v(1, 5, 3, 6), Half(w(1, 1, 6))])


def select() -> Iterator[Probe]:
    for code in ("SELECT", "SELECT_V2"):
        for name, cond, a, b in (
            ("same", v(1, 5, 3, 6, dtype=BOOL), v(1, 5, 3, 6), v(1, 5, 3, 6)),
            ("const-cond", w(1, 5, 3, 6, dtype=BOOL), v(1, 5, 3, 6), v(1, 5, 3, 6)),
            ("const-b", v(1, 5, 3, 6, dtype=BOOL), v(1, 5, 3, 6), w(1, 5, 3, 6)),
            ("scalar-b", v(1, 5, 3, 6, dtype=BOOL), v(1, 5, 3, 6), c(0.5, F32)),
            ("one-b", v(1, 5, 3, 6, dtype=BOOL), v(1, 5, 3, 6), c([0.5], F32)),
            ("scalar-a", v(1, 5, 3, 6, dtype=BOOL), c(0.5, F32), v(1, 5, 3, 6)),
            ("scalars", v(1, 5, 3, 6, dtype=BOOL), c(0.5, F32), c(0.25, F32)),
            ("channel-a", v(1, 5, 3, 6, dtype=BOOL), w(6), v(1, 5, 3, 6)),
            ("runtime-scalar", v(1, 5, 3, 6, dtype=BOOL), v(1, 5, 3, 6), v(1)),
            ("channel-b", v(1, 5, 3, 6, dtype=BOOL), v(1, 5, 3, 6), w(6)),
            ("cond-pixel", v(1, 5, 3, 1, dtype=BOOL), v(1, 5, 3, 6), v(1, 5, 3, 6)),
            ("cond-channel", v(6, dtype=BOOL), v(1, 5, 3, 6), v(1, 5, 3, 6)),
            ("cond-one", v(1, dtype=BOOL), v(1, 5, 3, 6), v(1, 5, 3, 6)),
            ("cond-const-pixel", w(1, 5, 3, 1, dtype=BOOL), v(1, 5, 3, 6), v(1, 5, 3, 6)),
            ("r3", v(4, 3, 6, dtype=BOOL), v(4, 3, 6), v(4, 3, 6)),
            ("r2", v(3, 6, dtype=BOOL), v(3, 6), v(3, 6)),
            ("r1", v(6, dtype=BOOL), v(6), v(6)),
            ("r5", v(1, 2, 3, 2, 6, dtype=BOOL), v(1, 2, 3, 2, 6), v(1, 2, 3, 2, 6)),
            ("batch2", v(2, 5, 3, 6, dtype=BOOL), v(2, 5, 3, 6), v(2, 5, 3, 6)),
        ):
            try:
                yield probe(code, name, [cond, a, b])
            except ValueError:
                continue
        yield probe(
            code, "i32", [v(1, 5, 3, 6, dtype=BOOL), v(1, 5, 3, 6, dtype=I32), v(1, 5, 3, 6, dtype=I32)], I32
        )


def cast() -> Iterator[Probe]:
    kinds = {"F32": F32, "F16": F16, "I32": I32, "I64": I64, "I8": I8, "U8": U8, "I16": I16, "BOOL": BOOL}
    for a, source in kinds.items():
        for b, result in kinds.items():
            if a == b:
                continue
            for version in (1, 3, 5):
                try:
                    yield probe("CAST", f"{a}-{b}", [v(1, 5, 3, 6, dtype=source)], result, version=version)
                    break
                except ValueError:
                    continue
    yield probe("CAST", "F32-I32-r5", [v(1, 2, 3, 2, 6)], I32)
    yield probe("CAST", "I32-F32-r2", [v(3, 6, dtype=I32)], F32)
    yield probe("DEQUANTIZE", "f16-runtime", [v(1, 5, 3, 6, dtype=F16)], F32, version=3)


def quantized() -> Iterator[Probe]:
    data = np.arange(90, dtype=np.int8).reshape(1, 5, 3, 6)
    source = Tensor("in0", data.shape, I8, quantization=Quantization(np.float32([0.5]), np.int64([3])))
    result = Tensor("out0", data.shape, F32)
    graph = Graph([source], [result], [Op("DEQUANTIZE", [source], [result], version=2)], ["in0"], ["out0"])
    yield Probe("DEQUANTIZE/i8", graph, {"in0": data})


def all_probes() -> Iterator[Probe]:
    for family in (unary, prelu, select, cast, quantized):
        yield from family()
