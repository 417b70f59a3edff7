"""Lowering: each ONNX node of the normal form becomes TFLite operators, one function per operator.

The result is naive and always right: values keep the order of dimensions they have in ONNX, and an
operator that wants channels last gets explicit TRANSPOSEs. The layout pass removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx_ir as ir

from convkit.diagnostics import ConvkitError, Diagnostic, error
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.kernels import computed_in, max_rank, value_input
from convkit.dialects.tflite.schema import held_in, not_computed, type_name
from convkit.dialects.unsupported import UnsupportedError
from convkit.ir.facts import dtype_of, input_at, ints, shape_of
from convkit.ir.normal import spell_out_nodes
from convkit.ir.origin import Origin, origin_of, place_of

if TYPE_CHECKING:
    from convkit.dialects.tflite.lowering.special import Special

Result = Tensor | Sequence[Tensor]
Lowering = Callable[["Builder", ir.Node], Result]

NHWC = (0, 2, 3, 1)
NCHW = (0, 3, 1, 2)

_SAME_BITS = ("ADD", "SUB", "MUL", "EQUAL", "NOT_EQUAL")
_SAME_ORDER = ("LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL", "MAXIMUM", "MINIMUM")

_LOWERINGS: dict[tuple[str, str], Lowering] = {}


def lowers(*op_types: str, domain: str = "") -> Callable[[Lowering], Lowering]:
    """Decorator: the function lowers these ONNX operators; it gives the tensors of the node's outputs."""

    def keep(function: Lowering) -> Lowering:
        for op_type in op_types:
            _LOWERINGS[domain, op_type] = function
        return function

    return keep


def lowered_operators() -> list[str]:
    """The ONNX operators that have a lowering, sorted."""
    return sorted(op_type for _, op_type in _LOWERINGS)


def constant_ints(node: ir.Node, index: int) -> tuple[int, ...]:
    """The integers of a constant input; UnsupportedError where they are computed."""
    found = ints(input_at(node, index))
    if found is None:
        raise UnsupportedError(f"input {index} is not constant")
    return found


class Builder:
    """Builds the TFLite graph; `emit` appends one operator that carries the current node's origin."""

    def __init__(self, special: Special | None = None) -> None:
        self.ops: list[Op] = []
        self._special = special
        self.refused: list[ir.Node] = []
        self._tensors: dict[ir.Value, Tensor] = {}
        self._names: dict[str, int] = {}
        self._origin = Origin()
        self._base = ""

    # -- values ------------------------------------------------------------------------------

    def tensor(self, value: ir.Value) -> Tensor:
        """The tensor of an ONNX value, in ONNX order; a constant's data are not copied."""
        known = self._tensors.get(value)
        if known is None:
            if value.const_value is None:
                raise UnsupportedError(f"value {value.name!r} was never computed")
            array = np.asarray(value.const_value.numpy())
            array = array.astype(held_in(array.dtype), copy=False)
            name = self.name(value.name or "const")
            known = self._tensors[value] = Tensor(name, array.shape, array.dtype, array)
        return known

    def inputs(self, node: ir.Node, count: int | None = None) -> list[Tensor | None]:
        """The node's input tensors, None where one is left out, padded with None to `count`."""
        tensors = [None if v is None else self.tensor(v) for v in node.inputs]
        return tensors + [None] * ((count or 0) - len(tensors))

    def input(self, node: ir.Node, index: int = 0) -> Tensor:
        """A required input tensor."""
        value = node.inputs[index]
        assert value is not None
        return self.tensor(value)

    def const(self, array: Any, dtype: Any = None, hint: str = "const") -> Tensor:
        """A new constant; Python ints become int32, floats float32."""
        data = np.asarray(array, dtype=dtype)
        if dtype is None and data.dtype in (np.float64, np.int64) and not isinstance(array, np.ndarray):
            data = data.astype(np.float32 if data.dtype == np.float64 else np.int32)
        return Tensor(self.name(f"{self._base}/{hint}"), data.shape, data.dtype, data)

    def name(self, base: str) -> str:
        """A unique tensor name."""
        count = self._names.get(base, 0)
        self._names[base] = count + 1
        return base if count == 0 else self.name(f"{base}_{count}")

    # -- operators ---------------------------------------------------------------------------

    def emit(
        self,
        code: str,
        inputs: Iterable[Tensor | None],
        shape: Sequence[int],
        dtype: Any = None,
        **options: Any,
    ) -> Tensor:
        """Append an operator with one output; `dtype` defaults to the first input's."""
        kept = list(inputs)
        if dtype is None:
            assert kept[0] is not None
            dtype = kept[0].dtype
        return self.emit_many(code, kept, [(shape, dtype)], **options)[0]

    def emit_many(
        self,
        code: str,
        inputs: Iterable[Tensor | None],
        results: Sequence[tuple[Sequence[int], Any]],
        **options: Any,
    ) -> list[Tensor]:
        """Append an operator with several outputs of the given shapes and dtypes.

        Where the kernel lacks the element type, it computes in a wider one that holds every value.
        """
        kept = list(inputs)
        typed = kept[value_input(code)]
        assert typed is not None
        wide = computed_in(code, typed.dtype)
        if wide is None:
            raise UnsupportedError(f"the kernel of {code} does not take {typed.dtype}")
        rank = max([t.rank for t in kept if t is not None] + [len(shape) for shape, _ in results])
        if rank > max_rank(code):
            raise UnsupportedError(f"the kernel of {code} does not take rank {rank}")
        if wide != typed.dtype and code != "CAST":
            narrow = typed.dtype
            widened = [t if t is None or t.dtype != narrow else self.cast(t, wide) for t in kept]
            outer = [(shape, wide if np.dtype(dtype) == narrow else dtype) for shape, dtype in results]
            computed = self._append(code, widened, outer, options)
            return [self.cast(t, dtype) for t, (_, dtype) in zip(computed, results, strict=True)]
        return self._append(code, kept, results, options)

    def _append(
        self,
        code: str,
        inputs: list[Tensor | None],
        results: Sequence[tuple[Sequence[int], Any]],
        options: dict[str, Any],
    ) -> list[Tensor]:
        outputs = []
        for shape, dtype in results:
            dtype = np.dtype(dtype)
            why = not_computed(dtype)
            if why is not None:
                raise UnsupportedError(why)
            name = self.name(f"{self._base}/{code.lower()}")
            outputs.append(Tensor(name, tuple(int(d) for d in shape), dtype))
        self.ops.append(Op(code, inputs, outputs, options, self._origin))
        return outputs

    def convert(self, code: str, x: Tensor, dtype: Any) -> Tensor:
        """Append a QUANTIZE or DEQUANTIZE."""
        return self._append(code, [x], [(x.shape, dtype)], {})[0]

    def dtype_of(self, node: ir.Node) -> np.dtype[Any]:
        """The element type of a node's first output."""
        return np.dtype(dtype_of(node.outputs[0]).numpy())

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """x with its dimensions permuted; nothing for the identity, folded for a constant."""
        if list(perm) == list(range(x.rank)):
            return x
        if x.data is not None:
            return self.const(np.transpose(x.data, perm), hint="transposed")
        shape = [x.shape[p] for p in perm]
        return self.emit("TRANSPOSE", [x, self.const(perm, np.int32, "perm")], shape)

    def nhwc(self, x: Tensor) -> Tensor:
        """A rank-4 tensor from ONNX order to channels last."""
        return self.transpose(x, NHWC)

    def nchw(self, x: Tensor) -> Tensor:
        """A rank-4 tensor from channels last to ONNX order."""
        return self.transpose(x, NCHW)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """x with another shape; nothing for the same shape, folded for a constant."""
        shape = tuple(int(d) for d in shape)
        if shape == x.shape:
            return x
        if x.data is not None:
            return self.const(x.data.reshape(shape), hint="reshaped")
        return self.emit("RESHAPE", [x, self.const(shape, np.int32, "shape")], shape, new_shape=shape)

    def cast(self, x: Tensor, dtype: Any) -> Tensor:
        """x converted to another element type; nothing for the same one, folded for a constant."""
        dtype = np.dtype(dtype)
        if dtype == x.dtype:
            return x
        if x.data is not None:
            return self.const(x.data.astype(dtype), hint="cast")
        options = {"in_data_type": type_name(x.dtype), "out_data_type": type_name(dtype)}
        return self.emit("CAST", [x], x.shape, dtype, **options)

    def binary(self, code: str, a: Tensor, b: Tensor, dtype: Any = None, **options: Any) -> Tensor:
        """A binary elementwise operator with numpy broadcasting.

        The GPU delegate takes the first dimension of a value below rank 4 for the batch, but not that of a
        constant. So beside a constant of several elements a value gets all dimensions of the result, with
        one more in front where the constant has more than one batch. No value of rank 0 is broadcast.
        """
        if a.dtype == b.dtype == np.uint64 and code in (*_SAME_BITS, *_SAME_ORDER):
            return self._unsigned(code, a, b, dtype)
        shape = np.broadcast_shapes(a.shape, b.shape)
        arrays = [t for t in (a, b) if t.data is not None and t.data.size > 1]
        batched = len(shape) < 4 and any(t.rank == len(shape) and t.shape[0] > 1 for t in arrays)
        rank = len(shape) + batched

        def fitted(t: Tensor) -> Tensor:
            if t.data is None and t.rank == 0 < len(shape):
                return self.reshape(t, (1,))
            if batched or (arrays and t.data is None):
                return self.reshape(t, (1,) * (rank - t.rank) + t.shape)
            return t

        full = (1,) * batched + shape
        return self.reshape(self.emit(code, [fitted(a), fitted(b)], full, dtype, **options), shape)

    def _unsigned(self, code: str, a: Tensor, b: Tensor, dtype: Any) -> Tensor:
        """uint64 by way of int64: sums and products have the same bits, the order is that of x - 2^63."""
        ordered = code in _SAME_ORDER
        y = self.binary(code, self.as_signed(a, ordered), self.as_signed(b, ordered), dtype)
        return y if dtype is not None else self.as_unsigned(y, ordered)

    def as_signed(self, x: Tensor, ordered: bool) -> Tensor:
        """uint64 as int64: the same bits, or (`ordered`) x - 2^63."""
        if x.data is not None:
            x = self.const(x.data.view(np.int64), hint="signed")
        else:
            x = self.emit("BITCAST", [x], x.shape, np.int64)
        return self.binary("ADD", x, self.scalar_like(x, np.iinfo(np.int64).min)) if ordered else x

    def as_unsigned(self, x: Tensor, ordered: bool) -> Tensor:
        """The inverse of `as_signed`."""
        if ordered:
            x = self.binary("ADD", x, self.scalar_like(x, np.iinfo(np.int64).min))
        return self.emit("BITCAST", [x], x.shape, np.uint64)

    def unary(self, code: str, x: Tensor, dtype: Any = None, **options: Any) -> Tensor:
        """A unary elementwise operator."""
        return self.emit(code, [x], x.shape, dtype, **options)

    def square(self, x: Tensor) -> Tensor:
        """x * x, which more targets and types have than SQUARE."""
        return self.binary("MUL", x, x)

    def scalar_like(self, x: Tensor, value: float) -> Tensor:
        """A rank-0 constant of x's element type."""
        return self.const(np.asarray(value, x.dtype), hint="scalar")

    # -- the walk ----------------------------------------------------------------------------

    def lower_node(self, node: ir.Node) -> None:
        """Lower one node and bind its outputs; raises UnsupportedError."""
        lowering = _LOWERINGS.get((node.domain, node.op_type))
        if lowering is None:
            raise UnsupportedError("there is no TFLite lowering for this operator")
        self._origin = origin_of(node)
        self._base = node.outputs[0].name or node.name or node.op_type
        first = len(self.ops)
        own = self._special.lowerings.get((node.domain, node.op_type)) if self._special else None
        found = (own(self, node) if own is not None else None) or lowering(self, node)
        if self._special is not None:
            self._special.after(node, self.ops[first:])
        results = [found] if isinstance(found, Tensor) else list(found)
        for value, result in zip(node.outputs, results, strict=False):
            self._bind(value, result)

    def _bind(self, value: ir.Value, result: Tensor) -> None:
        if not value.uses() and not value.is_graph_output():
            return
        if result.shape != shape_of(value):
            raise AssertionError(f"{value.name}: lowered to {result.shape}, is {shape_of(value)}")
        self._tensors[value] = result
        if self.ops and result in self.ops[-1].outputs and value.name:
            result.name = self.name(value.name)

    def graph(self, model: ir.Model) -> Graph:
        """Lower a whole model in normal form; ConvkitError with a Diagnostic for every refused node."""
        source = model.graph
        inputs = [self._interface(value) for value in source.inputs]
        refused: list[Diagnostic] = []
        for node in source:
            try:
                self.lower_node(node)
            except UnsupportedError as why:
                refused.append(_refusal(node, why))
                self.refused.append(node)
                for value in node.outputs:  # go on, so that every refusal is reported at once
                    if value.uses() or value.is_graph_output():
                        self._interface(value)
        if refused:
            raise ConvkitError(*refused)
        outputs: list[Tensor] = []
        for value in source.outputs:
            try:
                outputs.append(self._output(value, [*inputs, *outputs]))
            except UnsupportedError as why:
                raise error("element-type", f"output {value.name!r} cannot be stored: {why}") from why
        return Graph(
            inputs,
            outputs,
            self.ops,
            [value.name or f"input_{i}" for i, value in enumerate(source.inputs)],
            [value.name or f"output_{i}" for i, value in enumerate(source.outputs)],
        )

    def _interface(self, value: ir.Value) -> Tensor:
        dtype = held_in(dtype_of(value).numpy())
        why = not_computed(dtype)
        if why is not None:
            raise error("element-type", f"{value.name!r} is of {dtype_of(value)}: {why}")
        tensor = Tensor(self.name(value.name or "input"), shape_of(value), dtype)
        self._tensors[value] = tensor
        return tensor

    def _output(self, value: ir.Value, taken: list[Tensor]) -> Tensor:
        """An output tensor; one that is a constant, an input or another output is copied, as TFLite needs."""
        tensor = self.tensor(value)
        if tensor.data is None and not any(tensor is t for t in taken):
            return tensor
        self._base, self._origin = value.name or "output", Origin()
        if tensor.dtype == np.float16 and tensor.data is None:
            # XNNPACK would take a RESHAPE and make its interface float32.
            return self.cast(self.cast(tensor, np.float32), tensor.dtype)
        shape = self.const(tensor.shape, np.int32, "shape")
        return self.emit("RESHAPE", [tensor, shape], tensor.shape, new_shape=tensor.shape)


def _refusal(node: ir.Node, why: UnsupportedError) -> Diagnostic:
    origin = origin_of(node)
    shapes = ", ".join(f"{v.dtype}{list(v.shape or ())}" for v in node.inputs if v is not None)
    notes = [f"inputs: {shapes}"] if shapes else []
    notes += [f"in module {module}" for module in origin.modules]
    name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
    return Diagnostic(
        "lower-unsupported",
        f"{name} cannot be lowered to TFLite: {why}",
        location=place_of(node),
        notes=tuple(notes),
    )


def lower(model: ir.Model, special: Special | None = None) -> Graph:
    """Lower a model in normal form to a TFLite graph (naive layout: ONNX order everywhere).

    Half-precision arithmetic becomes float32 in the model itself; its interface keeps its types.
    Nodes that have no lowering, or whose lowering refuses them, are spelled out where ONNX defines their
    operator by others. `special` lowerings go before the registered ones. Raises ConvkitError with one
    "lower-unsupported" Diagnostic per node that TFLite cannot express.
    """
    import convkit.dialects.tflite.lowering  # noqa: F401 - registers the lowerings
    from convkit.dialects.tflite.widen import widen_floats

    widen_floats(model)
    while True:
        builder = Builder(special)
        try:
            return builder.graph(model)
        except ConvkitError:
            if not spell_out_nodes(model, builder.refused):
                raise


__all__ = [
    "NCHW",
    "NHWC",
    "Builder",
    "Lowering",
    "UnsupportedError",
    "constant_ints",
    "lower",
    "lowered_operators",
    "lowers",
]
