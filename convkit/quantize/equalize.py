"""Cross-layer equalization: even out the ranges of channels between two layers, exactly.

A factor per channel may move from one layer's filters to the next one's where everything between them
commutes with it: f(s x) = s f(x) for s > 0, channel by channel. After Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019 (arXiv:1906.04721), section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.quantize.grid import FLOAT32
from convkit.quantize.operators import WEIGHTED

_HOMOGENEOUS = frozenset(
    {
        "RELU",
        "LEAKY_RELU",
        "MAX_POOL_2D",
        "AVERAGE_POOL_2D",
        "PAD",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
    }
)
_ACTIVATIONS = ("NONE", "RELU")
_ROUNDS = 40
_SETTLED = 1e-3
_LARGEST_FACTOR = 1e6


@dataclass(eq=False)
class _Layer:
    """Filters and bias of an operator, to be rescaled."""

    op: Op
    filters: np.ndarray
    bias: np.ndarray | None

    @classmethod
    def of(cls, op: Op) -> _Layer:
        roles = WEIGHTED[op.code]
        filters, bias = op.inputs[roles.filters], _bias(op)
        assert filters is not None
        assert filters.data is not None
        stored = None if bias is None or bias.data is None else bias.data.astype(np.float64)
        return cls(op, filters.data.astype(np.float64), stored)

    def range(self, axis: int) -> np.ndarray:
        """Greatest magnitude of the filters along every index of an axis."""
        return np.asarray(
            np.abs(self.filters).max(axis=tuple(a for a in range(self.filters.ndim) if a != axis))
        )

    def scale_outputs(self, factor: np.ndarray) -> None:
        self._scale(factor, WEIGHTED[self.op.code].channel)
        if self.bias is not None:
            self.bias = self.bias * factor

    def scale_inputs(self, factor: np.ndarray) -> None:
        self._scale(factor, WEIGHTED[self.op.code].depth)

    def _scale(self, factor: np.ndarray, axis: int) -> None:
        shape = [1] * self.filters.ndim
        shape[axis] = -1
        self.filters = self.filters * factor.reshape(shape)

    def written(self) -> Op:
        """The operator with the rescaled constants."""
        roles = WEIGHTED[self.op.code]
        inputs = list(self.op.inputs)
        for at, data in ((roles.filters, self.filters), (roles.bias, self.bias)):
            if data is not None:
                old = self.op.inputs[at]
                assert old is not None
                narrow = data.astype(np.float32)
                inputs[at] = Tensor(f"{old.name}/equalized", narrow.shape, FLOAT32, narrow)
        return replace(self.op, inputs=inputs)


def _bias(op: Op) -> Tensor | None:
    at = WEIGHTED[op.code].bias
    return op.inputs[at] if at < len(op.inputs) else None


def equalize(graph: Graph) -> tuple[Graph, int]:
    """The same function with channel ranges evened out between layers; and the number of pairs of layers."""
    pairs = _pairs(graph)
    layers: dict[int, _Layer] = {}
    for first, second in pairs:
        for op in (first, second):
            layers.setdefault(id(op), _Layer.of(op))
    for _ in range(_ROUNDS):
        moved = 0.0
        for first, second in pairs:
            moved = max(moved, _even_out(layers[id(first)], layers[id(second)]))
        if moved < _SETTLED:
            break
    ops = [layers[id(op)].written() if id(op) in layers else op for op in graph.ops]
    return replace(graph, ops=ops), len(pairs)


def _even_out(first: _Layer, second: _Layer) -> float:
    """Move the factors that give both layers' channels the same range; the greatest one's logarithm."""
    before = first.range(WEIGHTED[first.op.code].channel)
    after = second.range(WEIGHTED[second.op.code].depth)
    alive = (before > 0) & (after > 0)
    factor = np.ones_like(before)
    factor[alive] = np.sqrt(after[alive] / before[alive])
    factor = np.clip(factor, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
    first.scale_outputs(factor)
    second.scale_inputs(1 / factor)
    return float(np.abs(np.log(factor)).max(initial=0.0))


def _pairs(graph: Graph) -> list[tuple[Op, Op]]:
    """Layers that follow one another with nothing between but channelwise homogeneous operators."""
    consumers = graph.consumers()
    outputs = {id(t) for t in graph.outputs}
    readers: dict[int, int] = {}
    for op in graph.ops:
        for tensor in op.inputs:
            readers[id(tensor)] = readers.get(id(tensor), 0) + 1
    found = []
    for op in graph.ops:
        if not _rescalable(op, readers):
            continue
        tensor = op.output
        while (
            id(tensor) not in outputs
            and len(next_ops := consumers.get(id(tensor), [])) == 1
            and _passes(next_ops[0], tensor)
        ):
            tensor = next_ops[0].output
        if id(tensor) in outputs or len(next_ops := consumers.get(id(tensor), [])) != 1:
            continue
        if _takes_factor(next_ops[0], tensor, readers):
            found.append((op, next_ops[0]))
    return found


def _rescalable(op: Op, readers: dict[int, int]) -> bool:
    """Whether a layer's filters and bias are constants of its own, and its activation lets factors pass."""
    roles = WEIGHTED.get(op.code)
    if roles is None or op.options.get("fused_activation_function", "NONE") not in _ACTIVATIONS:
        return False
    return _own_constants(op, readers)


def _own_constants(op: Op, readers: dict[int, int]) -> bool:
    roles = WEIGHTED[op.code]
    filters, bias = op.inputs[roles.filters], _bias(op)
    constants = [filters] if bias is None else [filters, bias]
    return all(
        t is not None and t.data is not None and t.dtype == FLOAT32 and readers[id(t)] == 1 for t in constants
    )


def _passes(op: Op, tensor: Tensor) -> bool:
    """Whether an operator on `tensor` commutes with positive factors per channel (the last axis)."""
    if op.code == "PRELU":
        slope = op.inputs[1]
        return op.inputs[0] is tensor and slope is not None and slope.is_constant
    if op.code == "PAD" and tensor.rank and op.output.shape[-1] != tensor.shape[-1]:
        return False
    plain = op.options.get("fused_activation_function", "NONE") in _ACTIVATIONS
    return op.code in _HOMOGENEOUS and op.inputs[0] is tensor and plain


def _takes_factor(op: Op, tensor: Tensor, readers: dict[int, int]) -> bool:
    """Whether the inverse factors of `tensor`'s channels can move into the layer that reads it."""
    roles = WEIGHTED.get(op.code)
    if roles is None or op.inputs[roles.activation] is not tensor or not _own_constants(op, readers):
        return False
    filters = op.inputs[roles.filters]
    assert filters is not None
    # One filter channel per input channel: no groups, no depth multiplier, no flattening in between.
    return tensor.shape[-1] == filters.shape[roles.depth]
