"""TFLite graphs for tests: built op by op in ONNX order, run in LiteRT's interpreter."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.lowering.builder import Builder
from convkit.dialects.tflite.writer import serialize


class NaiveGraph(Builder):
    """Operators over values in ONNX order; what wants channels last is wrapped in TRANSPOSEs."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.rng = np.random.default_rng(seed)
        self.feeds: list[Tensor] = []

    def feed(self, *shape: int, dtype: Any = np.float32) -> Tensor:
        """A new graph input."""
        self.feeds.append(Tensor(self.name("input"), shape, np.dtype(dtype)))
        return self.feeds[-1]

    def emit_many(
        self,
        code: str,
        inputs: Iterable[Tensor | None],
        results: Sequence[tuple[Sequence[int], Any]],
        **options: Any,
    ) -> list[Tensor]:
        """An operator as it is asked for: what the kernels take is for the test to know."""
        return self._append(code, list(inputs), results, options)

    def weights(self, *shape: int) -> Tensor:
        """A random constant."""
        return self.const(self.rng.normal(0, 0.5, shape).astype(np.float32), hint="weights")

    def conv(self, x: Tensor, channels: int, size: int = 1) -> Tensor:
        """A convolution with SAME padding on a value in NCHW order."""
        n, c, h, w = x.shape
        filters, bias = self.weights(channels, size, size, c), self.weights(channels)
        options = {"padding": "SAME", "stride_w": 1, "stride_h": 1}
        options |= {"dilation_w_factor": 1, "dilation_h_factor": 1}
        return self.nchw(self.emit("CONV_2D", [self.nhwc(x), filters, bias], (n, h, w, channels), **options))

    def pool(self, x: Tensor) -> Tensor:
        """A 2x2 average pooling, stride 2, on a value in NCHW order."""
        n, c, h, w = x.shape
        options = {"padding": "VALID", "stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2}
        return self.nchw(self.emit("AVERAGE_POOL_2D", [self.nhwc(x)], (n, h // 2, w // 2, c), **options))

    def concat(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """The parts joined along an axis."""
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        return self.emit("CONCATENATION", parts, shape, axis=axis)

    def reduce(self, code: str, x: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
        """A reduction over axes."""
        shape = [1 if a in axes else d for a, d in enumerate(x.shape) if keep or a not in axes]
        return self.emit(code, [x, self.const(axes, np.int32)], shape, keep_dims=keep)

    def softmax(self, x: Tensor, axis: int) -> Tensor:
        """Softmax over any axis: the axis is brought to the end and back."""
        perm = [a for a in range(x.rank) if a != axis] + [axis]
        back = np.argsort(perm).tolist()
        return self.transpose(self.unary("SOFTMAX", self.transpose(x, perm), beta=1.0), back)

    def pad(self, x: Tensor, rows: Sequence[tuple[int, int]]) -> Tensor:
        """x with zeros before and after."""
        shape = [d + sum(row) for d, row in zip(x.shape, rows, strict=True)]
        return self.emit("PAD", [x, self.const(rows, np.int32)], shape)

    def slice(self, x: Tensor, begin: Sequence[int], size: Sequence[int]) -> Tensor:
        """A box out of x."""
        return self.emit("SLICE", [x, self.const(begin, np.int32), self.const(size, np.int32)], size)

    def matmul(self, x: Tensor, y: Tensor) -> Tensor:
        """A batched matrix product."""
        shape = (*np.broadcast_shapes(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1])
        return self.emit("BATCH_MATMUL", [x, y], shape, adj_x=False, adj_y=False)

    def dense(self, x: Tensor, units: int) -> Tensor:
        """A fully connected layer on the last axis."""
        weights, bias = self.weights(units, x.shape[-1]), self.weights(units)
        options = {"keep_num_dims": True}
        return self.emit("FULLY_CONNECTED", [x, weights, bias], (*x.shape[:-1], units), **options)

    def finish(self, *outputs: Tensor) -> Graph:
        """The graph with these outputs; it keeps its own copy of the operators."""
        ops = [Op(op.code, list(op.inputs), list(op.outputs), dict(op.options), op.origin) for op in self.ops]
        return Graph(
            list(self.feeds),
            list(outputs),
            ops,
            [t.name for t in self.feeds],
            [f"result_{i}" for i in range(len(outputs))],
        )


def run(graph: Graph, feeds: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of `graph` for `feeds`, in the graph's order."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=bytes(serialize(graph)), num_threads=1)
    runner = interpreter.get_signature_runner()
    for name, tensor in zip(graph.signature_inputs, graph.inputs, strict=True):
        assert tuple(runner.get_input_details()[name]["shape"]) == tensor.shape
    results = runner(**dict(zip(graph.signature_inputs, feeds, strict=True)))
    for name, tensor in zip(graph.signature_outputs, graph.outputs, strict=True):
        assert results[name].shape == tensor.shape, name
    return [results[name] for name in graph.signature_outputs]


def random_feeds(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Values for the inputs of `graph`."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, t.shape).astype(t.dtype) for t in graph.inputs]


def count(graph: Graph, code: str) -> int:
    """How many operators of a kind there are."""
    return sum(op.code == code for op in graph.ops)


def check_sound(graph: Graph) -> None:
    """Every tensor is made before it is read, once, and names are unique."""
    made = {id(t) for t in graph.inputs}
    for op in graph.ops:
        for tensor in op.inputs:
            assert tensor is None or tensor.is_constant or id(tensor) in made, (op.code, tensor)
        for tensor in op.outputs:
            assert id(tensor) not in made
            made.add(id(tensor))
    runtime = [t.name for t in graph.tensors() if not t.is_constant]
    assert len(runtime) == len(set(runtime))
    for tensor in graph.tensors():
        assert tensor.data is None or tensor.data.shape == tensor.shape, tensor
