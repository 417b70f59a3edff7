"""Write the graph in which every value is stored in the orders that a layout assignment chose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from convkit.dialects.tflite.assignment import LayoutProblem, Node
from convkit.dialects.tflite.axes import FlattenAxes, LabelledAxes, MatrixAxes
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.movement import renaming, reshape_op, transpose_op, transposition
from convkit.dialects.tflite.reorder import (
    broadcast_shape,
    is_broadcasting,
    named,
    reordered,
    with_features,
)
from convkit.dialects.tflite.storage import Form, Perm, Shape, compose, form, identity, stored
from convkit.ir.origin import Origin


def materialize(problem: LayoutProblem) -> Graph:
    """The graph of `problem` in the orders chosen, with the TRANSPOSEs and RESHAPEs those need."""
    return _Writer(problem).write()


def fold_constant_transposes(graph: Graph) -> Graph:
    """`graph` with every TRANSPOSE of a constant done now."""
    folded: dict[int, Tensor] = {}
    ops: list[Op] = []
    for op in graph.ops:
        inputs = [folded.get(id(t), t) if t is not None else None for t in op.inputs]
        op = replace(op, inputs=inputs)
        source = inputs[0] if inputs else None
        if op.code == "TRANSPOSE" and source is not None and source.is_constant and _constant(inputs[1]):
            _, perm = transposition(op)
            folded[id(op.output)] = stored(source, perm, op.output.name)
        else:
            ops.append(op)
    outputs = [folded.get(id(t), t) for t in graph.outputs]
    return replace(graph, ops=ops, outputs=outputs)


def _constant(tensor: Tensor | None) -> bool:
    return tensor is not None and tensor.is_constant


class _Writer:
    """The graph being written, and which forms of each value it has so far."""

    def __init__(self, problem: LayoutProblem) -> None:
        self._problem = problem
        self._ops: list[Op] = []
        self._taken = {t.name for t in problem.graph.tensors()}
        self._tensor_for: dict[int, dict[Form, Tensor]] = {}
        self._have: dict[int, dict[Form, tuple[Tensor, Perm]]] = {}
        self._elements: dict[int, np.ndarray] = {}  # for what flattens to an order of its own
        self._claimed: dict[int, Tensor] = {}
        self._delivered: set[int] = set()
        self._reshaped: dict[tuple[int, Shape], Tensor] = {}
        self._origin: dict[int, Origin] = {}

    def write(self) -> Graph:
        graph = self._problem.graph
        inputs, outputs = self._problem.inputs, self._problem.outputs
        for node, tensor in zip(inputs, graph.inputs, strict=True):
            self._claim(node, tensor)
        results = [self._claim(node, tensor) for node, tensor in zip(outputs, graph.outputs, strict=True)]
        made = [self._make(node.values[0], _order(node, 0)) for node in inputs]
        for op in graph.ops:
            if renaming(op) is None:
                self._write_op(op)
        for node, result in zip(outputs, results, strict=True):
            if not result.is_constant:
                index = node.values[0]
                origin = self._origin.get(index, Origin())
                self._deliver(self._fetch(index, _order(node, 0), origin), result, origin)
        return replace(graph, inputs=made, outputs=results, ops=self._ops)

    def _claim(self, node: Node, tensor: Tensor) -> Tensor:
        """The tensor of a graph input or output as it will be, claimed for that form of its value."""
        if tensor.is_constant:
            return tensor
        if id(tensor) not in self._claimed:
            straight = node.mode[0] == identity(tensor.rank)
            self._claimed[id(tensor)] = tensor if straight else stored(tensor, node.mode[0])
        wanted = form(_order(node, 0), self._problem.values[node.values[0]].tensor.shape)
        table = self._tensor_for.setdefault(node.values[0], {})
        table.setdefault(wanted, self._claimed[id(tensor)])
        return self._claimed[id(tensor)]

    def _deliver(self, found: Tensor, result: Tensor, origin: Origin) -> None:
        """Copy `found` to a graph output that is not the first to show that form of the value."""
        if found is not result and id(result) not in self._delivered:
            self._ops.append(reshape_op(found, result, origin))
        self._delivered.add(id(result))

    def _table(self, index: int) -> dict[Form, Tensor]:
        """The tensor for each form that a value is wanted in; names are kept where they can be."""
        value = self._problem.values[index]
        table = self._tensor_for.setdefault(index, {})
        wanted = value.forms()
        if wanted.keys() <= table.keys():
            return table
        names = {t.name for t in table.values()}
        for tensor, naming in value.aliases:
            alias = form(naming, value.tensor.shape)
            if alias in wanted and tensor.name not in names:
                names.add(table.setdefault(alias, tensor).name)
        for missing, order in wanted.items():
            if missing not in table:
                name = value.tensor.name
                if name in names:
                    name = self._unused(named(name, order))
                names.add(name)
                table[missing] = stored(value.tensor, order, name)
        return table

    def _unused(self, name: str) -> str:
        candidate, count = name, 1
        while candidate in self._taken:
            candidate, count = f"{name}_{count}", count + 1
        self._taken.add(candidate)
        return candidate

    def _make(self, index: int, order: Perm) -> Tensor:
        """The tensor in which a value comes into being."""
        wanted = form(order, self._problem.values[index].tensor.shape)
        tensor = self._table(index)[wanted]
        self._have[index] = {wanted: (tensor, order)}
        return tensor

    def _fetch(self, index: int, order: Perm, origin: Origin) -> Tensor:
        """A value in the order asked for, transposed or reshaped if it was not there yet."""
        wanted = form(order, self._problem.values[index].tensor.shape)
        have = self._have[index]
        if wanted in have:
            return have[wanted][0]
        target = self._table(index)[wanted]
        alike = next((found for (wide, _), found in have.items() if wide == wanted[0]), None)
        if alike is not None:
            self._ops.append(reshape_op(alike[0], target, origin))
        else:
            source, stored_by = next(iter(have.values()))
            perm = tuple(stored_by.index(axis) for axis in order)
            self._ops.append(transpose_op(source, perm, target, origin))
        have[wanted] = (target, order)
        return target

    def _write_op(self, op: Op) -> None:
        nodes = self._problem.nodes_of[id(op)]
        inputs, options = self._inputs(op, nodes)
        outputs: dict[int, Tensor] = {}
        for node in nodes:
            for k, slot in enumerate(node.axes.slots):
                if slot >= len(inputs):
                    outputs[slot] = self._make(node.values[k], _order(node, k))
                    self._origin[node.values[k]] = op.origin
        made = [outputs[slot] for slot in sorted(outputs)]
        if op.code == "RESHAPE" and made[0].shape != op.output.shape and inputs[0] is not None:
            self._ops.append(reshape_op(inputs[0], made[0], op.origin))
        else:
            self._ops.append(replace(op, inputs=inputs, outputs=made, options=options))
        axes, mode = nodes[0].axes, nodes[0].mode
        if isinstance(axes, FlattenAxes) and axes.plain.follow(0, mode[0], mode) is None:
            elements = axes.elements(mode[0])
            assert elements is not None
            self._elements[id(made[0])] = elements

    def _inputs(self, op: Op, nodes: list[Node]) -> tuple[list[Tensor | None], dict[str, Any]]:
        """The inputs and options of an operator in its mode."""
        runtime: dict[int, Tensor] = {}
        inputs, options = list(op.inputs), dict(op.options)
        for node in nodes:
            turned = node.mode != tuple(identity(len(perm)) for perm in node.mode)
            if isinstance(node.axes, LabelledAxes) and turned:
                inputs, options = reordered(op, node.axes, node.mode)
            elif isinstance(node.axes, MatrixAxes) and turned:
                flag = "adj_x" if node.axes.slots == (0,) else "adj_y"
                options[flag] = not options.get(flag, False)
            for k, slot in enumerate(node.axes.slots):
                if slot < len(inputs) and node.values[k] >= 0:
                    runtime[slot] = self._input(op, node, k, turned)
        for slot, tensor in runtime.items():
            inputs[slot] = tensor
        if (elements := self._elements.get(id(inputs[0]))) is not None:
            inputs[1] = with_features(op, elements)
        return inputs, options

    def _input(self, op: Op, node: Node, k: int, turned: bool) -> Tensor:
        """The tensor for slot number `k` of `node`, aligned with the others if it has fewer axes."""
        tensor = self._fetch(node.values[k], _order(node, k), op.origin)
        if not turned or not isinstance(node.axes, LabelledAxes) or not is_broadcasting(op):
            return tensor
        order = node.mode[node.axes.widest]
        shape = broadcast_shape(node.axes, k, order)
        if shape[len(shape) - tensor.rank :] == tensor.shape:
            return tensor
        if (id(tensor), shape) not in self._reshaped:
            aligned = Tensor(self._unused(f"{tensor.name}_aligned"), shape, tensor.dtype)
            self._ops.append(reshape_op(tensor, aligned, op.origin))
            self._reshaped[id(tensor), shape] = aligned
        return self._reshaped[id(tensor), shape]


def _order(node: Node, slot: int) -> Perm:
    """The order of a slot's value in terms of the value's own axes."""
    return compose(node.namings[slot], node.mode[slot])
