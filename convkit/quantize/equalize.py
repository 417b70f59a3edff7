"""Cross-layer equalization: even out the ranges of channels between two layers, exactly.

A factor per channel may move from one layer's filters to the next one's where everything between them
commutes with it: f(s x) = s f(x) for s > 0, channel by channel. After Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019 (arXiv:1906.04721), section 4.1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.quantize.dialect import Operators, Weighted
from convkit.quantize.grid import FLOAT32

_ACTIVATIONS = ("NONE", "RELU")
_ROUNDS = 40
_SETTLED = 1e-3
_LARGEST_FACTOR = 1e6


@dataclass(eq=False)
class _Layer:
    """Filters and bias of an operator, to be rescaled."""

    op: Op
    roles: Weighted
    filters: np.ndarray
    bias: np.ndarray | None

    @classmethod
    def of(cls, op: Op, roles: Weighted) -> _Layer:
        filters, bias = op.inputs[roles.filters], _bias(op, roles)
        assert filters is not None
        assert filters.data is not None
        stored = None if bias is None or bias.data is None else bias.data.astype(np.float64)
        return cls(op, roles, filters.data.astype(np.float64), stored)

    def range(self, axis: int | None) -> np.ndarray:
        """Greatest magnitude of the filters along every index of an axis."""
        return np.asarray(
            np.abs(self.filters).max(axis=tuple(a for a in range(self.filters.ndim) if a != axis))
        )

    def scale_outputs(self, factor: np.ndarray) -> None:
        self._scale(factor, self.roles.channel)
        if self.bias is not None:
            self.bias = self.bias * factor

    def scale_inputs(self, factor: np.ndarray) -> None:
        self._scale(factor, self.roles.depth)

    def _scale(self, factor: np.ndarray, axis: int | None) -> None:
        assert axis is not None
        shape = [1] * self.filters.ndim
        shape[axis] = -1
        self.filters = self.filters * factor.reshape(shape)

    def written(self) -> Op:
        """The operator with the rescaled constants."""
        inputs = list(self.op.inputs)
        for at, data in ((self.roles.filters, self.filters), (self.roles.bias, self.bias)):
            if data is not None:
                old = self.op.inputs[at]
                assert old is not None
                narrow = data.astype(np.float32)
                inputs[at] = Tensor(f"{old.name}/equalized", narrow.shape, FLOAT32, narrow)
        return replace(self.op, inputs=inputs)


def _bias(op: Op, roles: Weighted) -> Tensor | None:
    return op.inputs[roles.bias] if roles.bias < len(op.inputs) else None


def equalize(graph: Graph, operators: Operators) -> tuple[Graph, int]:
    """The same function with channel ranges evened out between layers; and the number of pairs of layers.

    The operators of the result stand in the order of those that they replace.
    """
    pairs = _Pairs(graph, operators).find()
    layers: dict[int, _Layer] = {}
    for pair in pairs:
        for op in pair:
            if id(op) not in layers and (roles := operators.weighted(op)) is not None:
                layers[id(op)] = _Layer.of(op, roles)
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
    before = first.range(first.roles.channel)
    after = second.range(second.roles.depth)
    alive = (before > 0) & (after > 0)
    factor = np.ones_like(before)
    factor[alive] = np.sqrt(after[alive] / before[alive])
    factor = np.clip(factor, 1 / _LARGEST_FACTOR, _LARGEST_FACTOR)
    first.scale_outputs(factor)
    second.scale_inputs(1 / factor)
    return float(np.abs(np.log(factor)).max(initial=0.0))


class _Pairs:
    """Finds layers that follow one another with nothing between but channelwise homogeneous operators."""

    def __init__(self, graph: Graph, operators: Operators) -> None:
        self._graph, self._operators = graph, operators
        self._consumers = graph.consumers()
        self._outputs = {id(t) for t in graph.outputs}
        self._reads: dict[int, int] = {}
        for op in graph.ops:
            for tensor in op.inputs:
                self._reads[id(tensor)] = self._reads.get(id(tensor), 0) + 1

    def find(self) -> list[tuple[Op, Op]]:
        """The pairs, in order."""
        found = []
        for op in self._graph.ops:
            if self._rescalable(op) and (second := self._follower(op)) is not None:
                found.append((op, second))
        return found

    def _follower(self, op: Op) -> Op | None:
        """The layer into which factors on the output of `op` can move."""
        tensor, axis = op.output, self._operators.channel(op)
        while True:
            readers = self._consumers.get(id(tensor), [])
            if id(tensor) in self._outputs or len(readers) != 1:
                return None
            (reader,) = readers
            if not self._passes(reader, tensor):
                return reader if self._takes_factor(reader, tensor, axis % max(tensor.rank, 1)) else None
            tensor = reader.output

    def _rescalable(self, op: Op) -> bool:
        """Whether a layer's filters and bias are constants of its own, and factors pass its activation."""
        roles = self._operators.weighted(op)
        if roles is None or roles.channel is None or not _lets_factors_pass(op):
            return False
        return self._own_constants(op, roles)

    def _own_constants(self, op: Op, roles: Weighted) -> bool:
        filters, bias = op.inputs[roles.filters], _bias(op, roles)
        constants = [filters] if bias is None else [filters, bias]
        return all(
            t is not None and t.data is not None and t.dtype == FLOAT32 and self._reads[id(t)] == 1
            for t in constants
        )

    def _passes(self, op: Op, tensor: Tensor) -> bool:
        """Whether an operator on `tensor` commutes with positive factors per channel."""
        return self._operators.homogeneous(op) and op.inputs[0] is tensor and _lets_factors_pass(op)

    def _takes_factor(self, op: Op, tensor: Tensor, axis: int) -> bool:
        """Whether the inverse factors along an axis of `tensor` can move into the layer that reads it."""
        roles = self._operators.weighted(op)
        if roles is None or roles.depth is None or op.inputs[roles.activation] is not tensor:
            return False
        if self._operators.channel(op) % tensor.rank != axis or not self._own_constants(op, roles):
            return False
        filters = op.inputs[roles.filters]
        assert filters is not None
        # One filter channel per input channel: no groups, no depth multiplier, no flattening in between.
        return tensor.shape[axis] == filters.shape[roles.depth]


def _lets_factors_pass(op: Op) -> bool:
    return op.options.get("fused_activation_function", "NONE") in _ACTIVATIONS
