"""Lowering: each ONNX node of the normal form becomes Caffe layers, one function per operator.

Caffe's blobs have ONNX's order of dimensions and hold float32. What has no form in Caffe stays in the graph
as `Custom`, so that a target judges every operator; `refuse_custom` names them all where a file is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.diagnostics import ConvkitError, Diagnostic, Location
from convkit.dialects.caffe.schema import NO_LAYER
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.unsupported import UnsupportedError
from convkit.ir.facts import constant, dtype_of, input_at, ints, shape_of
from convkit.ir.origin import Origin, origin_of

Result = Tensor | Sequence[Tensor]
Lowering = Callable[["Builder", ir.Node], Result]

_LOWERINGS: dict[str, Lowering] = {}
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_LONGEST = 28
"""Characters of a name that leave room for a number in NNIE's 32 (hi_nnie.h)."""


def lowers(*op_types: str) -> Callable[[Lowering], Lowering]:
    """Decorator: the function lowers these ONNX operators; it gives the tensors of the node's outputs."""

    def keep(function: Lowering) -> Lowering:
        _LOWERINGS.update(dict.fromkeys(op_types, function))
        return function

    return keep


def lowered_operators() -> list[str]:
    """The ONNX operators that have a lowering, sorted."""
    return sorted(_LOWERINGS)


def constant_of(node: ir.Node, index: int) -> np.ndarray:
    """A constant input as float32; UnsupportedError where it is computed."""
    found = constant(input_at(node, index))
    if found is None:
        raise UnsupportedError(f"input {index} is not constant")
    return np.asarray(found, np.float32)


def ints_of(node: ir.Node, index: int) -> tuple[int, ...]:
    """The integers of a constant input; UnsupportedError where they are computed."""
    found = ints(input_at(node, index))
    if found is None:
        raise UnsupportedError(f"input {index} is not constant")
    return found


class Builder:
    """Builds the Caffe graph; `emit` appends one layer that carries the current node's origin."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.tensors: dict[ir.Value, Tensor] = {}
        self._names: set[str] = set()
        self._flattened: dict[int, Tensor] = {}
        self._permuted: dict[int, tuple[Tensor, list[int]]] = {}
        self._origin = Origin()
        self._base = ""

    # -- values ------------------------------------------------------------------------------

    def input(self, node: ir.Node, index: int = 0) -> Tensor:
        """A computed input; UnsupportedError for a constant, which is no blob of its own in Caffe."""
        value = node.inputs[index]
        assert value is not None
        if value not in self.tensors:
            raise UnsupportedError(f"input {index} is constant")
        if dtype_of(value) not in _FLOATS:
            raise UnsupportedError(f"{value.name!r} is of {dtype_of(value)}, and Caffe's blobs hold floats")
        return self.tensors[value]

    def const(self, array: Any) -> Tensor:
        """A blob of the layer's own, in float32."""
        data = np.ascontiguousarray(array, np.float32)
        return Tensor(self._base, data.shape, data.dtype, data)

    def name(self, base: str) -> str:
        """A unique name of letters, digits and `_`, short enough for NNIE."""
        plain = re.sub(r"\W", "_", base, flags=re.ASCII)[-_LONGEST:] or "blob"
        found, count = plain, 1
        while found in self._names:
            found, count = f"{plain}_{count}", count + 1
        self._names.add(found)
        return found

    # -- layers ------------------------------------------------------------------------------

    def emit(
        self, code: str, inputs: Sequence[Tensor | None], shape: Sequence[int], /, **options: Any
    ) -> Tensor:
        """Append a layer with one top."""
        return self.emit_many(code, inputs, [shape], **options)[0]

    def emit_many(
        self, code: str, inputs: Sequence[Tensor | None], shapes: Sequence[Sequence[int]], /, **options: Any
    ) -> list[Tensor]:
        """Append a layer with tops of these shapes."""
        dtype = np.dtype(np.float32)
        tops = [Tensor(self.name(f"{self._base}_{code.lower()}"), tuple(shape), dtype) for shape in shapes]
        self.ops.append(Op(code, list(inputs), tops, options, self._origin))
        return tops

    def unary(self, code: str, x: Tensor, **options: Any) -> Tensor:
        """A layer that keeps the shape."""
        return self.emit(code, [x], x.shape, **options)

    def power(self, x: Tensor, power: float = 1.0, scale: float = 1.0, shift: float = 0.0) -> Tensor:
        """(shift + scale * x) ** power; nothing where that is x."""
        if (power, scale, shift) == (1.0, 1.0, 0.0):
            return x
        return self.unary("Power", x, power=float(power), scale=float(scale), shift=float(shift))

    def eltwise(self, operation: str, *values: Tensor, coeff: tuple[float, ...] = ()) -> Tensor:
        """PROD, MAX, or SUM (with coefficients) of values of one shape."""
        options: dict[str, Any] = {"operation": operation} | ({"coeff": coeff} if coeff else {})
        return self.emit("Eltwise", values, values[0].shape, **options)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """x with another shape; nothing for the same. A kept first dimension is written 0, as NNIE asks."""
        shape = tuple(int(d) for d in shape)
        if shape == x.shape:
            return x
        kept = bool(shape) and bool(x.shape) and shape[0] == x.shape[0]
        y = self.emit("Reshape", [x], shape, shape=(0, *shape[1:]) if kept else shape)
        if kept and len(shape) == 2:
            self._flattened[id(y)] = x
        return y

    def unflattened(self, x: Tensor) -> Tensor:
        """What x is the flattened form of: a layer that flattens by itself needs no Reshape."""
        return self._flattened.get(id(x), x)

    def permute(self, x: Tensor, order: Sequence[int]) -> Tensor:
        """x with its dimensions permuted, in one step with the last; a Reshape where only ones move."""
        x, first = self.unpermuted(x)
        order = [first[p] for p in order]
        shape = [x.shape[p] for p in order]
        real = [p for p in order if x.shape[p] != 1]
        if real == sorted(real):
            return self.reshape(x, shape)
        if x.rank > 4:
            raise UnsupportedError(f"a permutation of rank {x.rank}")
        y = self.emit("Permute", [x], shape, order="P" + "".join(map(str, order)))
        self._permuted[id(y)] = x, order
        return y

    def unpermuted(self, x: Tensor) -> tuple[Tensor, list[int]]:
        """What x is a permutation of, and the order of its dimensions there."""
        return self._permuted.get(id(x), (x, list(range(x.rank))))

    # -- the walk ----------------------------------------------------------------------------

    def lower_node(self, node: ir.Node) -> None:
        """Lower one node and bind its outputs; as `Custom` where it has no form in Caffe."""
        self._origin, done = origin_of(node), len(self.ops)
        self._base = node.outputs[0].name or node.op_type
        try:
            lowering = _LOWERINGS.get(node.op_type) if node.domain == "" else None
            if lowering is None:
                raise UnsupportedError("Caffe has no such layer")
            found = lowering(self, node)
        except UnsupportedError as why:
            del self.ops[done:]
            found = self._custom(node, str(why))
        results = [found] if isinstance(found, Tensor) else list(found)
        made = self.ops[-1].outputs if len(self.ops) > done else []
        for value, result in zip(node.outputs, results, strict=False):
            if result.shape != shape_of(value):
                raise AssertionError(f"{value.name}: lowered to {result.shape}, is {shape_of(value)}")
            self.tensors[value] = result
            if any(result is top for top in made):
                result.name = self.name(value.name or node.op_type)

    def _custom(self, node: ir.Node, why: str) -> list[Tensor]:
        read = [self._operand(value) for value in node.inputs if value is not None]
        shapes = [shape_of(value) for value in node.outputs]
        return self.emit_many(NO_LAYER, read, shapes, operator=node.op_type, why=why)

    def _operand(self, value: ir.Value) -> Tensor:
        """What a node reads: a computed value, or a constant of any type as it is."""
        array = constant(value)
        return (
            self.tensors[value]
            if array is None
            else Tensor(value.name or "", array.shape, array.dtype, array)
        )

    def graph(self, model: ir.Model) -> Graph:
        """Lower a whole model in normal form."""
        source = model.graph
        for value in source.inputs:
            tensor = Tensor(self.name(value.name or "input"), shape_of(value), np.dtype(np.float32))
            self.tensors[value] = tensor
        inputs = [self.tensors[value] for value in source.inputs]
        for node in source:
            self.lower_node(node)
        outputs = [self._output(value, inputs) for value in source.outputs]
        ops = _alive(self.ops, outputs)
        given, made = ([v.name or "" for v in values] for values in (source.inputs, source.outputs))
        return Graph(inputs, outputs, ops, given, made)

    def _output(self, value: ir.Value, inputs: list[Tensor]) -> Tensor:
        """An output blob; an input is copied. A constant has no layer that makes it."""
        self._base, self._origin = value.name or "output", Origin()
        tensor = self.tensors.get(value)
        if tensor is None:
            given = self._operand(value)
            return self.emit(NO_LAYER, [given], given.shape, operator="Constant", why="a constant output")
        if any(tensor is x for x in inputs):
            return self.unary("Power", tensor)
        return tensor


def _alive(ops: list[Op], outputs: list[Tensor]) -> list[Op]:
    """The layers that an output depends on."""
    read, kept = {id(t) for t in outputs}, []
    for op in reversed(ops):
        if any(id(t) in read for t in op.outputs):
            read |= {id(t) for t in op.inputs}
            kept.append(op)
    return kept[::-1]


def lower(model: ir.Model) -> Graph:
    """Lower a model in normal form to Caffe layers; half-precision values become float32."""
    import convkit.dialects.caffe.lowering  # noqa: F401 - registers the lowerings

    return Builder().graph(model)


def refuse_custom(graph: Graph) -> None:
    """Raise ConvkitError with a "lower-unsupported" Diagnostic for every operator without a form in Caffe."""
    refused = [_refusal(op) for op in graph.ops if op.code == NO_LAYER]
    if refused:
        raise ConvkitError(*refused)


def _refusal(op: Op) -> Diagnostic:
    notes = [f"at {source}" for source in op.origin.sources]
    notes += [f"in module {module}" for module in op.origin.modules]
    return Diagnostic(
        "lower-unsupported",
        f"{op.options['operator']} cannot be lowered to Caffe: {op.options['why']}",
        location=Location(node=", ".join(op.origin.nodes) or op.outputs[0].name),
        notes=tuple(notes),
    )
