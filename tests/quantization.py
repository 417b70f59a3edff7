"""Graphs and samples for tests of quantization."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import nn

from convkit.compiler.emit.tflite import lower_to_tflite
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.ir.normal import normalize
from convkit.passes.pipeline import PassManager, default_pipeline
from convkit.quantize.run import Runner, Sample
from convkit.rewrite import Exactness

SHAPE = (1, 4, 6, 4)
_CONV = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "dilation_w_factor": 1, "dilation_h_factor": 1}
_WINDOW = {"padding": "VALID", "stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2}


def single(op: Op) -> Graph:
    """A graph of one operator: what is not constant among its inputs is a graph input."""
    inputs = list({id(t): t for t in op.inputs if t is not None and t.data is None}.values())
    names = [t.name for t in inputs]
    return Graph(inputs, list(op.outputs), [op], names, [t.name for t in op.outputs])


class Case:
    """One operator with random constants; `make(code, ...)` gives its graph."""

    def __init__(self, code: str, seed: int = 0) -> None:
        self.code, self.rng = code, np.random.default_rng(seed)

    def value(self, name: str, shape: tuple[int, ...] = SHAPE, dtype: Any = np.float32) -> Tensor:
        return Tensor(name, shape, np.dtype(dtype))

    def constant(self, name: str, data: Any, dtype: Any = np.float32) -> Tensor:
        array = np.asarray(data, dtype)
        return Tensor(name, array.shape, array.dtype, array)

    def weights(self, name: str, *shape: int) -> Tensor:
        return self.constant(name, self.rng.normal(0, 0.5, shape))

    def graph(
        self,
        *after: Tensor | None,
        before: tuple[Tensor, ...] = (),
        operands: int = 1,
        shapes: tuple[tuple[int, ...], ...] = (SHAPE,),
        dtype: Any = np.float32,
        of: tuple[int, ...] = SHAPE,
        **options: Any,
    ) -> Graph:
        read = [self.value(f"x{i}", of) for i in range(operands)]
        made = [self.value(f"y{i}", shape, dtype) for i, shape in enumerate(shapes)]
        return single(Op(self.code, [*before, *read, *after], made, options))


def _reduced(c: Case) -> Graph:
    return c.graph(c.constant("axes", [1, 2], np.int32), shapes=((1, 1, 1, 4),), keep_dims=True)


def _i32(c: Case, *values: Any) -> list[Tensor]:
    return [c.constant(f"c{i}", value, np.int32) for i, value in enumerate(values)]


def _resized(c: Case) -> Graph:
    return c.graph(*_i32(c, [8, 12]), shapes=((1, 8, 12, 4),), half_pixel_centers=True)


_PADS = [[0, 0], [1, 1], [1, 1], [0, 0]]
_FORMS: dict[str, Callable[[Case], Graph]] = {
    **dict.fromkeys(
        ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE"], lambda c: c.graph(operands=2)
    ),
    "SOFTMAX": lambda c: c.graph(beta=1.0),
    "LEAKY_RELU": lambda c: c.graph(alpha=0.2),
    "PRELU": lambda c: c.graph(c.constant("slope", c.rng.uniform(-0.1, 0.5, (1, 1, 4)))),
    "CONV_2D": lambda c: c.graph(
        c.weights("w", 5, 3, 3, 4), c.weights("b", 5), shapes=((1, 4, 6, 5),), **_CONV
    ),
    "DEPTHWISE_CONV_2D": lambda c: c.graph(
        c.weights("w", 1, 3, 3, 4), c.weights("b", 4), depth_multiplier=1, **_CONV
    ),
    "FULLY_CONNECTED": lambda c: c.graph(
        c.weights("w", 5, 4), c.weights("b", 5), shapes=((1, 4, 6, 5),), keep_num_dims=True
    ),
    "TRANSPOSE_CONV": lambda c: c.graph(
        c.weights("b", 5), before=(*_i32(c, [1, 8, 12, 5]), c.weights("w", 5, 2, 2, 4)),
        shapes=((1, 8, 12, 5),), padding="VALID", stride_w=2, stride_h=2,
    ),
    "BATCH_MATMUL": lambda c: c.graph(c.weights("w", 1, 4, 4, 5), shapes=((1, 4, 6, 5),)),
    **dict.fromkeys(
        ("AVERAGE_POOL_2D", "MAX_POOL_2D"), lambda c: c.graph(shapes=((1, 2, 3, 4),), **_WINDOW)
    ),
    "CONCATENATION": lambda c: c.graph(operands=2, shapes=((1, 4, 6, 8),), axis=3),
    "PACK": lambda c: c.graph(operands=2, shapes=((2, *SHAPE),), axis=0, values_count=2),
    "PAD": lambda c: c.graph(*_i32(c, _PADS), shapes=((1, 6, 8, 4),)),
    "PADV2": lambda c: c.graph(*_i32(c, _PADS), c.constant("v", [0.5]), shapes=((1, 6, 8, 4),)),
    "MIRROR_PAD": lambda c: c.graph(*_i32(c, _PADS), shapes=((1, 6, 8, 4),), mode="REFLECT"),
    "RESHAPE": lambda c: c.graph(*_i32(c, [4, 24]), shapes=((4, 24),)),
    "TRANSPOSE": lambda c: c.graph(*_i32(c, [0, 3, 1, 2]), shapes=((1, 4, 4, 6),)),
    "SLICE": lambda c: c.graph(*_i32(c, [0, 1, 1, 0], [1, 2, 3, 4]), shapes=((1, 2, 3, 4),)),
    "STRIDED_SLICE": lambda c: c.graph(
        *_i32(c, [0, 0, 0, 0], [1, 4, 6, 4], [1, 2, 2, 1]), shapes=((1, 2, 3, 4),)
    ),
    "SPLIT": lambda c: c.graph(before=tuple(_i32(c, 1)), shapes=((1, 2, 6, 4),) * 2, num_splits=2),
    "SPLIT_V": lambda c: c.graph(
        *_i32(c, [1, 3], 1), shapes=((1, 1, 6, 4), (1, 3, 6, 4)), num_splits=2
    ),
    "UNPACK": lambda c: c.graph(shapes=((1, 6, 4),) * 4, num=4, axis=1),
    "GATHER": lambda c: c.graph(*_i32(c, [1, 3]), shapes=((1, 4, 2, 4),), axis=2),
    "GATHER_ND": lambda c: c.graph(*_i32(c, [[0, 1], [0, 2]]), shapes=((2, 6, 4),)),
    "TILE": lambda c: c.graph(*_i32(c, [1, 2, 1, 1]), shapes=((1, 8, 6, 4),)),
    "REVERSE_V2": lambda c: c.graph(*_i32(c, [1])),
    "SELECT_V2": lambda c: c.graph(
        before=(c.constant("m", c.rng.integers(0, 2, SHAPE), np.bool_),), operands=2
    ),
    "DEPTH_TO_SPACE": lambda c: c.graph(shapes=((1, 8, 12, 1),), block_size=2),
    "SPACE_TO_DEPTH": lambda c: c.graph(shapes=((1, 2, 3, 16),), block_size=2),
    **dict.fromkeys(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"), _resized),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _reduced),
    **dict.fromkeys(
        ("ARG_MAX", "ARG_MIN"),
        lambda c: c.graph(*_i32(c, 3), shapes=((1, 4, 6),), dtype=np.int32, output_type="INT32"),
    ),
}  # fmt: skip
_POSITIVE = frozenset({"LOG", "SQRT", "RSQRT"})


def kernel_case(code: str, samples: int = 4) -> tuple[Graph, list[Sample]]:
    """A graph of one operator, and random samples in its domain."""
    graph = _FORMS.get(code, lambda c: c.graph())(Case(code))
    rng = np.random.default_rng(1)

    def draw(tensor: Tensor) -> np.ndarray:
        if code in _POSITIVE:
            return rng.uniform(0.2, 2, tensor.shape).astype(np.float32)
        return rng.normal(0.3, 1, tensor.shape).astype(np.float32)

    return graph, [[draw(t) for t in graph.inputs] for _ in range(samples)]


def normal_form(module: nn.Module, *shape: int) -> ir.Model:
    """A torch module in normal form, after the default passes."""
    program = torch.onnx.export(module.eval(), (torch.randn(shape),), dynamo=True, verbose=False)
    assert program is not None
    model: ir.Model = program.model
    normalize(model)
    PassManager(default_pipeline(Exactness.REASSOCIATED)).run(model)
    return model


def lowered(module: nn.Module, *shape: int) -> Graph:
    """The float TFLite graph of a torch module."""
    return lower_to_tflite(normal_form(module, *shape))[0]


def normal_samples(graph: Graph, count: int, seed: int = 0) -> list[Sample]:
    """Standard normal inputs."""
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(t.shape, np.float32) for t in graph.inputs] for _ in range(count)]


def sqnr(reference: Graph, graph: Graph, samples: list[Sample]) -> float:
    """Signal to quantization noise of all outputs, in decibel."""
    signal = noise = 0.0
    for want, got in zip(Runner(reference).run(samples), Runner(graph).run(samples), strict=True):
        for a, b in zip(want, got, strict=True):
            signal += float(np.square(a, dtype=np.float64).sum())
            noise += float(np.square(a.astype(np.float64) - b).sum())
    return float(10 * np.log10(signal / noise))


class Residual(nn.Module):
    """An inverted residual block with ReLU, which lets factors per channel pass."""

    def __init__(self, width: int, out: int, stride: int = 1, expansion: int = 6) -> None:
        super().__init__()
        middle = width * expansion
        self.expand = nn.Conv2d(width, middle, 1)
        self.depth = nn.Conv2d(middle, middle, 3, stride, 1, groups=middle)
        self.project = nn.Conv2d(middle, out, 1)
        self.adds = stride == 1 and width == out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(torch.relu(self.depth(torch.relu(self.expand(x)))))
        return x + y if self.adds else y


class MobileNet(nn.Module):
    """A small network of inverted residuals, 1x3x32x32 to ten numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.blocks = nn.Sequential(Residual(8, 8), Residual(8, 12, 2), Residual(12, 12), Residual(12, 16, 2))
        self.head, self.classes = nn.Conv2d(16, 32, 1), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.head(self.blocks(torch.relu(self.stem(x)))))
        return self.classes(y.mean((2, 3)))

    def scale_badly(self, seed: int = 1) -> None:
        """Multiply hidden channels by random factors and take them out in the next layer: same function."""
        draw = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for block in self.blocks:
                for first, second in ((block.expand, block.depth), (block.depth, block.project)):
                    factor = torch.exp(torch.randn(first.out_channels, generator=draw) * 1.5)
                    first.weight.mul_(factor[:, None, None, None])
                    first.bias.mul_(factor)
                    depthwise = second.groups > 1
                    second.weight.div_(factor[:, None, None, None] if depthwise else factor[:, None, None])
