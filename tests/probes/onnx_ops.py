"""Probes of ONNX operators: what a compiler that reads ONNX is asked, operator by operator."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from tests.probes.onnx_build import BOOL, F16, F32, I32, I64, KINDS, U8, OnnxProbe, R, ints, probe, r, w

UNARY: list[str] = []
UNARY += [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
]
UNARY += [
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
]
UNARY += [
    "LogSoftmax",
    "LpNormalization",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
]
UNARY += ["Sigmoid", "Sign", "Sin", "Sinh", "Softmax", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh"]
UNARY += ["ThresholdedRelu"]
BINARY: list[str] = []
BINARY += ["Add", "And", "BitShift", "BitwiseAnd", "Div", "Equal", "Greater", "GreaterOrEqual", "Less"]
BINARY += ["LessOrEqual", "Max", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Xor"]
REDUCTIONS = ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare"]
WAYS = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]
ROUNDED = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
SHAPES = {0: (), 1: (6,), 2: (3, 6), 3: (2, 3, 6), 4: (1, 4, 5, 6), 5: (1, 2, 3, 4, 6), 6: (1, 2, 1, 3, 2, 6)}
MAP = (1, 8, 6, 6)


def unary() -> Iterator[OnnxProbe]:
    for code in UNARY:
        for rank, shape in SHAPES.items():
            yield from probe(code, f"r{rank}", [r(*shape, dtype=BOOL if code == "Not" else F32)])
        for kind, dtype in KINDS.items():
            yield from probe(code, kind, [r(1, 4, 5, 6, dtype=dtype)])
    for code in ("Softmax", "LogSoftmax", "LpNormalization"):
        for axis in range(4):
            yield from probe(code, f"axis{axis}", [r(*MAP)], axis=axis)
    yield from probe("LpNormalization", "p1", [r(*MAP)], p=1)
    yield from probe("Gelu", "tanh", [r(*MAP)], approximate="tanh")
    yield from probe("Elu", "alpha", [r(*MAP)], alpha=0.5)
    yield from probe("Swish", "alpha", [r(*MAP)], alpha=1.7)


def binary() -> Iterator[OnnxProbe]:
    for code in BINARY:
        logical = code in {"And", "Or", "Xor"}
        base: Any = BOOL if logical else U8 if code.startswith("Bit") else F32
        options = {"direction": "LEFT"} if code == "BitShift" else {"fmod": 1} if code == "Mod" else {}
        for rank, shape in SHAPES.items():
            yield from probe(code, f"r{rank}", [r(*shape, dtype=base), r(*shape, dtype=base)], **options)
        for kind, dtype in KINDS.items():
            pair = [r(*MAP, dtype=dtype), r(*MAP, dtype=dtype)]
            yield from probe(code, kind, pair, **options)
            yield from probe(code, f"{kind}-const", [pair[0], w(*MAP, dtype=dtype)], **options)
            if code == "Mod":
                yield from probe(code, f"{kind}-integer", pair)
        for name, other in (("scalar", ()), ("channel", (8, 1, 1)), ("row", (6,)), ("pixel", (1, 1, 6, 6))):
            yield from probe(code, f"const-{name}", [r(*MAP, dtype=base), w(*other, dtype=base)], **options)
            yield from probe(code, f"runtime-{name}", [r(*MAP, dtype=base), r(*other, dtype=base)], **options)
            if code != "PRelu":
                first = [w(*other, dtype=base), r(*MAP, dtype=base)]
                yield from probe(code, f"{name}-first", first, **options)
        value = r(*MAP, dtype=base)
        yield from probe(code, "twice", [value, value], **options)
    yield from probe("Max", "three", [r(*MAP), r(*MAP), r(*MAP)])
    yield from probe("Sum", "three", [r(*MAP), r(*MAP), r(*MAP)])
    yield from probe("Mean", "three", [r(*MAP), r(*MAP), r(*MAP)])
    yield from probe("Pow", "i32-exponent", [r(*MAP), w(dtype=I32)])
    for rank in (1, 2, 3, 5, 6):
        shape = SHAPES[rank]
        yield from probe("PRelu", f"r{rank}-one", [r(*shape), w(1)])
        yield from probe("Add", f"r{rank}-scalar", [r(*shape), w()])


def convolutions() -> Iterator[OnnxProbe]:
    for code in ("Conv", "ConvTranspose"):
        for name, data, kernel, options in _windows(code):
            out = kernel[0] if code == "Conv" else kernel[1] * options.get("group", 1)
            yield from probe(code, name, [r(*data), w(*kernel), w(out)], **options)
            yield from probe(code, f"{name}-nobias", [r(*data), w(*kernel)], **options)
        yield from probe(code, "runtime-filter", [r(*MAP), r(8, 8, 3, 3), w(8)])
        yield from probe(code, "runtime-bias", [r(*MAP), w(8, 8, 3, 3), r(8)])
        yield from probe(code, "const-input", [w(*MAP), r(8, 8, 3, 3)])
        half = [r(*MAP, dtype=F16), w(8, 8, 3, 3, dtype=F16), w(8, dtype=F16)]
        yield from probe(code, "f16", half)
    yield from probe("ConvTranspose", "output-padding", [r(*MAP), w(8, 8, 3, 3)], strides=[2, 2],
                     pads=[1, 1, 1, 1], output_padding=[1, 1])  # fmt: skip


def _windows(code: str) -> Iterator[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]]:
    yield "1d", (1, 8, 12), (8, 8, 3), {}
    yield "1d-stride", (1, 8, 12), (8, 8, 3), {"strides": [2], "pads": [1, 1]}
    yield "2d", MAP, (8, 8, 3, 3), {"pads": [1, 1, 1, 1]}
    yield "2d-uneven", MAP, (8, 8, 3, 3), {"pads": [0, 0, 1, 1], "strides": [2, 2]}
    yield "2d-dilated", MAP, (8, 8, 3, 3), {"dilations": [2, 2]}
    yield "2d-1x1", MAP, (4, 8, 1, 1) if code == "Conv" else (8, 4, 1, 1), {}
    yield "2d-large", (1, 2, 20, 20), (2, 2, 17, 17), {}
    yield "2d-batch", (3, 8, 6, 6), (8, 8, 3, 3), {}
    yield "2d-stride3", MAP, (8, 8, 3, 3), {"strides": [3, 3]}
    for group in (2, 4, 8):
        kernel = (8, 8 // group, 3, 3)
        yield f"2d-group{group}", MAP, kernel, {"group": group}
        yield f"2d-group{group}-stride", MAP, kernel, {"group": group, "strides": [2, 2]}
    yield "2d-depthwise-multiplier", MAP, (16, 1, 3, 3) if code == "Conv" else (8, 2, 3, 3), {"group": 8}
    yield "2d-depthwise-dilated", MAP, (8, 1, 3, 3), {"group": 8, "dilations": [2, 2]}
    yield "3d", (1, 4, 5, 5, 5), (4, 4, 3, 3, 3), {}
    yield "3d-group", (1, 4, 5, 5, 5), (4, 2, 3, 3, 3), {"group": 2}
    yield "3d-dilated", (1, 4, 9, 9, 9), (4, 4, 3, 3, 3), {"dilations": [2, 2, 2]}


def pools() -> Iterator[OnnxProbe]:
    for code in ("MaxPool", "AveragePool", "LpPool"):
        for name, shape, options in (
            ("1d", (1, 8, 12), {"kernel_shape": [2]}),
            ("2d", MAP, {"kernel_shape": [2, 2], "strides": [2, 2]}),
            ("2d-pads", MAP, {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
            ("2d-ceil", (1, 8, 7, 7), {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
            ("2d-ceil-pads", (1, 8, 8, 8), {"kernel_shape": [3, 3], "strides": [3, 3], "pads": [1, 1, 1, 1],
                                            "ceil_mode": 1}),
            ("2d-dilated", MAP, {"kernel_shape": [2, 2], "dilations": [2, 2]}),
            ("2d-large", (1, 2, 40, 40), {"kernel_shape": [33, 33]}),
            ("3d", (1, 4, 6, 6, 6), {"kernel_shape": [2, 2, 2]}),
        ):  # fmt: skip
            yield from probe(code, name, [r(*shape)], **options)
    yield from probe("MaxPool", "indices", [r(*MAP)], 2, kernel_shape=[2, 2])
    yield from probe(
        "AveragePool", "include", [r(*MAP)], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1
    )
    yield from probe("LpPool", "p1", [r(*MAP)], kernel_shape=[2, 2], p=1)
    yield from probe("LpPool", "p3", [r(*MAP)], kernel_shape=[2, 2], p=3)
    for code in ("GlobalMaxPool", "GlobalAveragePool", "GlobalLpPool"):
        for rank in (3, 4, 5):
            yield from probe(code, f"r{rank}", [r(*SHAPES[rank])])
        yield from probe(code, "f16", [r(*MAP, dtype=F16)])


def resizes() -> Iterator[OnnxProbe]:
    for mode in ("nearest", "linear", "cubic"):
        for way in WAYS:
            for rounded in ROUNDED if mode == "nearest" else ("floor",):
                options = {"mode": mode, "coordinate_transformation_mode": way, "nearest_mode": rounded}
                for name, (height, width) in {"x2": (12, 12), "up": (9, 10), "down": (4, 3)}.items():
                    given = [r(*MAP), None, None, ints(1, 8, height, width)]
                    yield from probe("Resize", f"{mode}-{way}-{rounded}-{name}", given, **options)
        for rank, factors in ((1, [2]), (2, [1, 2]), (3, [1, 1, 2]), (5, [1, 1, 2, 2, 2])):
            given = [r(*SHAPES[rank]), None, np.float32(factors)]
            yield from probe("Resize", f"{mode}-r{rank}", given, mode=mode)
        scales, fraction = np.float32([1, 1, 2, 2]), np.float32([1, 1, 1.6, 0.7])
        yield from probe("Resize", f"{mode}-scales", [r(*MAP), None, scales], mode=mode)
        yield from probe("Resize", f"{mode}-fraction", [r(*MAP), None, fraction], mode=mode)
        yield from probe("Resize", f"{mode}-channels", [r(*MAP), None, np.float32([1, 2, 1, 1])], mode=mode)
        yield from probe("Resize", f"{mode}-antialias", [r(*MAP), None, scales], mode=mode, antialias=1)
        yield from probe("Resize", f"{mode}-f16", [r(*MAP, dtype=F16), None, scales], mode=mode)
    yield from probe(
        "Resize", "nearest-u8", [r(*MAP, dtype=U8), None, np.float32([1, 1, 2, 2])], mode="nearest"
    )


def reductions() -> Iterator[OnnxProbe]:
    for code in (f"Reduce{kind}" for kind in REDUCTIONS):
        for rank in (1, 2, 3, 4, 5, 6):
            yield from probe(code, f"r{rank}", [r(*SHAPES[rank]), ints(-1)])
        for name, axes in (("channels", (1,)), ("space", (2, 3)), ("all", (0, 1, 2, 3)), ("apart", (1, 3))):
            yield from probe(code, name, [r(*MAP), ints(*axes)])
            yield from probe(code, f"{name}-drop", [r(*MAP), ints(*axes)], keepdims=0)
        for kind, dtype in KINDS.items():
            yield from probe(code, kind, [r(*MAP, dtype=dtype), ints(1)])
        yield from probe(code, "runtime-axes", [r(*MAP), R((1,), I64)])
    for code in ("ArgMax", "ArgMin"):
        for rank in (1, 2, 3, 4, 5):
            yield from probe(code, f"r{rank}", [r(*SHAPES[rank])], axis=-1)
            yield from probe(code, f"r{rank}-drop", [r(*SHAPES[rank])], axis=0, keepdims=0)
        yield from probe(code, "last", [r(*MAP)], axis=1, select_last_index=1)
        yield from probe(code, "i32", [r(*MAP, dtype=I32)], axis=1)
    for name, options in (
        ("last", {}), ("axis1", {"axis": 1}), ("smallest", {"largest": 0}), ("unsorted", {"sorted": 0}),
    ):  # fmt: skip
        yield from probe("TopK", name, [r(*MAP), ints(2)], 2, **options)
    yield from probe("TopK", "r2", [r(3, 6), ints(2)], 2)
    yield from probe("TopK", "r5", [r(*SHAPES[5]), ints(2)], 2)
    yield from probe("TopK", "i32", [r(*MAP, dtype=I32), ints(2)], 2)
    for axis in (0, 1, 3):
        yield from probe("CumSum", f"axis{axis}", [r(*MAP), np.int64(axis)])
    yield from probe("CumSum", "exclusive", [r(*MAP), np.int64(1)], exclusive=1)
    yield from probe("CumSum", "reverse", [r(*MAP), np.int64(1)], reverse=1)
    yield from probe("CumSum", "runtime", [r(*MAP), R((), I64)])
    yield from probe("CumSum", "i32", [r(*MAP, dtype=I32), np.int64(1)])


def movements() -> Iterator[OnnxProbe]:
    for rank, shape in SHAPES.items():
        if rank:
            size = int(np.prod(shape))
            yield from probe("Reshape", f"from-r{rank}", [r(*shape), ints(size)])
            yield from probe("Reshape", f"to-r{rank}", [r(size), ints(*shape)])
            yield from probe("Concat", f"r{rank}", [r(*shape), r(*shape)], axis=-1)
            yield from probe("Concat", f"r{rank}-first", [r(*shape), r(*shape)], axis=0)
            yield from probe("Split", f"r{rank}", [r(*shape), ints(2, 4)], 2, axis=-1)
            yield from probe("Slice", f"r{rank}", [r(*shape), *(ints(n) for n in (1, 5, rank - 1, 1))])
            yield from probe("Slice", f"r{rank}-step", [r(*shape), *(ints(n) for n in (0, 6, rank - 1, 2))])
            yield from probe("Slice", f"r{rank}-back", [r(*shape), *(ints(n) for n in (5, -9, rank - 1, -1))])
            yield from probe("Tile", f"r{rank}", [r(*shape), ints(*[1] * (rank - 1), 2)])
            yield from probe("Expand", f"r{rank}", [r(*shape[:-1], 1), ints(*shape)])
            yield from probe("Gather", f"r{rank}", [r(*shape), ints(1, 0)], axis=rank - 1)
            yield from probe("Gather", f"r{rank}-scalar", [r(*shape), np.int64(1)], axis=rank - 1)
            yield from probe("Squeeze", f"r{rank}", [r(1, *shape[1:]), ints(0)])
            for mode in ("constant", "reflect", "edge", "wrap"):
                amounts = [0] * (2 * rank)
                amounts[rank - 1] = amounts[-1] = 1
                extra = [np.float32(0)] if mode == "constant" else []
                yield from probe("Pad", f"{mode}-r{rank}", [r(*shape), ints(*amounts), *extra], mode=mode)
        if rank > 1:
            yield from probe("Transpose", f"r{rank}", [r(*shape)], perm=list(reversed(range(rank))))
        yield from probe("Unsqueeze", f"r{rank}", [r(*shape), ints(0)])
        yield from probe("Where", f"r{rank}", [r(*shape, dtype=BOOL), r(*shape), r(*shape)])
    for kind, dtype in KINDS.items():
        value = r(*MAP, dtype=dtype)
        yield from probe("Reshape", kind, [value, ints(8, 36)])
        yield from probe("Concat", kind, [value, r(*MAP, dtype=dtype)], axis=1)
        yield from probe("Split", kind, [value, ints(4, 4)], 2, axis=1)
        yield from probe("Slice", kind, [value, *(ints(n) for n in (0, 4, 1, 1))])
        yield from probe("Tile", kind, [value, ints(1, 2, 1, 1)])
        yield from probe("Expand", kind, [r(1, 8, 1, 1, dtype=dtype), ints(*MAP)])
        yield from probe("Gather", kind, [value, ints(1, 0)], axis=1)
        yield from probe("Transpose", kind, [value], perm=[0, 2, 3, 1])
        yield from probe("Unsqueeze", kind, [value, ints(0)])
        yield from probe("Squeeze", kind, [value, ints(0)])
        yield from probe("Where", kind, [r(*MAP, dtype=BOOL), value, r(*MAP, dtype=dtype)])
        yield from probe("Pad", kind, [value, ints(0, 0, 1, 1, 0, 0, 1, 1)])
        yield from probe("DepthToSpace", kind, [value], blocksize=2)
        yield from probe("SpaceToDepth", kind, [value], blocksize=2)
        for other, to in KINDS.items():
            yield from probe("Cast", f"{kind}-{other}", [value], to=_number(to))
    yield from probe("DepthToSpace", "crd", [r(*MAP)], blocksize=2, mode="CRD")
    yield from probe("Pad", "runtime", [r(*MAP), R((8,), I64)])
    yield from probe("Pad", "runtime-value", [r(*MAP), ints(0, 0, 1, 1, 0, 0, 1, 1), R((), F32)])
    yield from probe("Pad", "axes", [r(*MAP), ints(1, 1, 1, 1), np.float32(0), ints(2, 3)])
    yield from probe("Pad", "crop", [r(*MAP), ints(0, 0, -1, -1, 0, 0, -1, -1)])
    yield from probe("Pad", "channels", [r(*MAP), ints(0, 1, 0, 0, 0, 1, 0, 0)])
    yield from probe("Pad", "reflect-channels", [r(*MAP), ints(0, 1, 0, 0, 0, 1, 0, 0)], mode="reflect")


def _number(dtype: np.dtype[Any]) -> int:
    from onnx import helper

    return int(helper.np_dtype_to_tensor_dtype(dtype))


def lookups() -> Iterator[OnnxProbe]:
    for kind, dtype in (("i32", I32), ("i64", I64)):
        yield from probe("Gather", f"runtime-{kind}", [r(*MAP), R((2, 3), dtype)], axis=1)
        yield from probe("Gather", f"table-{kind}", [w(10, 4), R((2, 3), dtype)])
        yield from probe("GatherElements", f"runtime-{kind}", [r(*MAP), R(MAP, dtype)], axis=1)
        yield from probe("GatherND", f"const-{kind}", [r(*MAP), w(3, 1, dtype=dtype) * 0])
        yield from probe("GatherND", f"batch-{kind}", [r(2, 4, 5), R((2, 1), dtype)], batch_dims=1)
        yield from probe("OneHot", f"{kind}", [R((2, 3), dtype), np.int64(4), np.float32([0, 1])])
        yield from probe("ScatterElements", f"{kind}", [r(*MAP), R(MAP, dtype), r(*MAP)], axis=1)
    yield from probe("Gather", "negative", [r(*MAP), ints(-1)], axis=1)
    yield from probe("GatherND", "runtime", [r(4, 5), R((3, 2), I64)])
    yield from probe("GatherND", "r6", [r(*SHAPES[6]), R((3, 6), I64)])
    for reduction in ("none", "add", "mul", "max", "min"):
        given = [r(4, 5), ints(0, 2).reshape(2, 1), r(2, 5)]
        yield from probe("ScatterND", reduction, given, reduction=reduction)
        elements = [r(4, 5), np.zeros((1, 5), np.int64), r(1, 5)]
        yield from probe("ScatterElements", reduction, elements, axis=0, reduction=reduction)
    yield from probe("ScatterND", "runtime", [r(4, 5), R((2, 1), I64), r(2, 5)])
    for mode in ("linear", "nearest", "cubic"):
        for padding in ("zeros", "border", "reflection"):
            for corners in (0, 1):
                yield from probe("GridSample", f"{mode}-{padding}-{corners}", [r(*MAP), r(1, 4, 4, 2)],
                                 mode=mode, padding_mode=padding, align_corners=corners)  # fmt: skip
    yield from probe("GridSample", "r5", [r(1, 2, 4, 4, 4), r(1, 3, 3, 3, 3)])
    yield from probe("NonZero", "r2", [r(3, 6)])
    yield from probe("Trilu", "r2", [r(6, 6)])
    yield from probe("Compress", "const", [r(4, 5), np.array([True, False, True, True])], axis=0)
    yield from probe("Det", "r3", [r(2, 3, 3)])


def products() -> Iterator[OnnxProbe]:
    for name, a, b in (
        ("r1", (6,), (6,)), ("r2", (3, 6), (6, 4)), ("r3", (2, 3, 6), (2, 6, 4)),
        ("r4", (1, 2, 3, 6), (1, 2, 6, 4)), ("r5", (1, 2, 2, 3, 6), (1, 2, 2, 6, 4)),
        ("r6", (1, 1, 2, 2, 3, 6), (1, 1, 2, 2, 6, 4)),
        ("vector", (2, 3, 6), (6,)), ("row", (6,), (6, 4)), ("broadcast", (2, 3, 6), (6, 4)),
        ("left", (3, 6), (2, 6, 4)), ("r5-flat", (1, 2, 2, 3, 6), (6, 4)),
    ):  # fmt: skip
        yield from probe("MatMul", name, [r(*a), r(*b)])
        yield from probe("MatMul", f"{name}-const", [r(*a), w(*b)])
        yield from probe("MatMul", f"{name}-constlhs", [w(*a), r(*b)])
    yield from probe("MatMul", "f16", [r(3, 6, dtype=F16), w(6, 4, dtype=F16)])
    yield from probe("MatMul", "i32", [r(3, 6, dtype=I32), w(6, 4, dtype=I32)])
    for name, options in (
        ("plain", {}), ("transB", {"transB": 1}), ("transA", {"transA": 1}), ("alpha", {"alpha": 0.5}),
        ("beta", {"beta": 0.5}), ("beta0", {"beta": 0.0}),
    ):  # fmt: skip
        a = r(6, 3) if "transA" in options else r(3, 6)
        b = (4, 6) if "transB" in options else (6, 4)
        yield from probe("Gemm", name, [a, w(*b), w(4)], **options)
        yield from probe("Gemm", f"{name}-nobias", [a, w(*b)], **options)
        yield from probe("Gemm", f"{name}-runtime", [a, r(*b), r(4)], **options)
        yield from probe("Gemm", f"{name}-matrix", [a, w(*b), w(3, 4)], **options)
    for equation, shapes in (
        ("ij,jk->ik", [(3, 6), (6, 4)]), ("bij,bjk->bik", [(2, 3, 6), (2, 6, 4)]),
        ("bhid,bhjd->bhij", [(1, 2, 3, 6)] * 2), ("bnc,bmc->bn", [(1, 3, 6), (1, 4, 6)]),
        ("ij->ji", [(3, 6)]), ("bchw,bkc->bkhw", [(1, 8, 4, 4), (1, 3, 8)]),
        ("bhwc,hkc->bhwk", [(1, 3, 4, 8), (3, 5, 8)]),
    ):  # fmt: skip
        name = equation.replace(",", ".").replace("->", "-")
        yield from probe("Einsum", name, [r(*s) for s in shapes], equation=equation)
    given = [r(1, 2, 3, 8), r(1, 2, 5, 8), r(1, 2, 5, 8)]
    yield from probe("Attention", "r4", given)
    yield from probe("Attention", "mask", [*given, r(3, 5)])
    yield from probe("Attention", "boolean-mask", [*given, r(3, 5, dtype=BOOL)])
    yield from probe("Attention", "grouped", [r(1, 4, 3, 8), *given[1:]])
    yield from probe("Attention", "causal", given, is_causal=1)


def norms() -> Iterator[OnnxProbe]:
    for rank in (2, 3, 4, 5):
        shape = SHAPES[rank]
        for axis in range(1, rank):
            scale = shape[axis:]
            yield from probe(
                "LayerNormalization", f"r{rank}-axis{axis}", [r(*shape), w(*scale), w(*scale)], axis=axis
            )
            yield from probe("RMSNormalization", f"r{rank}-axis{axis}", [r(*shape), w(*scale)], axis=axis)
        channels = shape[1]
        yield from probe("InstanceNormalization", f"r{rank}", [r(*shape), w(channels), w(channels)])
        yield from probe("BatchNormalization", f"r{rank}", [r(*shape), *[w(channels)] * 4])
        yield from probe(
            "GroupNormalization", f"r{rank}", [r(*shape), w(channels), w(channels)], num_groups=1
        )
        yield from probe("LRN", f"r{rank}", [r(*shape)], size=3)
        yield from probe("MeanVarianceNormalization", f"r{rank}", [r(*shape)], axes=[rank - 1])
    yield from probe("LayerNormalization", "nobias", [r(2, 3, 6), w(6)])
    yield from probe("LayerNormalization", "runtime", [r(2, 3, 6), r(6), r(6)])
    yield from probe("LayerNormalization", "outputs", [r(2, 3, 6), w(6), w(6)], 3)
    yield from probe("LayerNormalization", "f16", [r(2, 3, 6, dtype=F16), w(6, dtype=F16), w(6, dtype=F16)])
    yield from probe("BatchNormalization", "runtime", [r(*MAP), *[r(8)] * 4])
    yield from probe("InstanceNormalization", "runtime", [r(*MAP), r(8), r(8)])
    for name, low, high in (
        ("both", np.float32(0), np.float32(6)), ("low", np.float32(0), None), ("high", None, np.float32(6)),
        ("runtime", R((), F32), R((), F32)), ("none", None, None),
    ):  # fmt: skip
        yield from probe("Clip", name, [r(*MAP), low, high])
    for rank in (1, 5, 6):
        yield from probe("Clip", f"r{rank}", [r(*SHAPES[rank]), np.float32(0), np.float32(6)])
    yield from probe("Clip", "i32", [r(*MAP, dtype=I32), np.int32(0), np.int32(6)])


def others() -> Iterator[OnnxProbe]:
    for kind in ("u8", "i8", "i16"):
        zero = np.array(3, KINDS[kind])
        zeros = np.zeros(8, KINDS[kind])
        yield from probe("QuantizeLinear", f"{kind}-axis", [r(*MAP), w(8), zeros], axis=1)
        yield from probe(
            "DequantizeLinear", f"{kind}-axis", [r(*MAP, dtype=KINDS[kind]), w(8), zeros], axis=1
        )
        yield from probe("DequantizeLinear", f"{kind}-runtime", [r(*MAP, dtype=KINDS[kind]), r(), zero])
    for code, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for direction, ways in (("forward", 1), ("reverse", 1), ("bidirectional", 2)):
            given = [r(3, 1, 4), w(ways, gates * 5, 4), w(ways, gates * 5, 5), w(ways, 2 * gates * 5)]
            options = {"hidden_size": 5, "direction": direction}
            yield from probe(code, direction, given, 2, **options)
            yield from probe(code, f"{direction}-state", [*given, None, r(ways, 1, 5)], 2, **options)
            yield from probe(code, f"{direction}-nobias", given[:3], 2, **options)
        named = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}[code]
        given = [r(3, 1, 4), w(1, gates * 5, 4), w(1, gates * 5, 5)]
        yield from probe(code, "activations", given, 1, hidden_size=5, activations=named)
        yield from probe(code, "relu", given, 1, hidden_size=5, activations=["Relu"] * len(named))
        yield from probe(code, "clip", given, 1, hidden_size=5, clip=2.0)
        yield from probe(code, "layout", [r(1, 3, 4), *given[1:]], 1, hidden_size=5, layout=1)
    given = [r(3, 1, 4), w(1, 15, 4), w(1, 15, 5)]
    yield from probe("GRU", "linear", given, 1, hidden_size=5, linear_before_reset=1)
    given = [r(3, 1, 4), w(1, 20, 4), w(1, 20, 5), w(1, 40), None, None, None, w(1, 15)]
    yield from probe("LSTM", "peephole", given, 1, hidden_size=5)
    regions = [r(*MAP), r(2, 4), np.zeros(2, np.int64)]
    yield from probe("RoiAlign", "plain", regions, output_height=2, output_width=2)
    yield from probe("RotaryEmbedding", "plain", [r(1, 2, 3, 8), r(1, 3, 4), r(1, 3, 4)])
    yield from probe("Hardmax", "r2", [r(3, 6)])
    yield from probe("CastLike", "f16", [r(3, 6), w(1, dtype=F16)])
    for kind in ("u8", "i8", "i16"):
        yield from probe("QuantizeLinear", f"{kind}-runtime", [r(*MAP), r(), np.array(3, KINDS[kind])])


@cache
def all_onnx_probes() -> tuple[OnnxProbe, ...]:
    """Every probe, names unique."""
    families = (
        unary,
        binary,
        convolutions,
        pools,
        resizes,
        reductions,
        movements,
        lookups,
        products,
        norms,
        others,
    )
    found = tuple(p for family in families for p in family())
    assert len({p.name for p in found}) == len(found)
    return found
