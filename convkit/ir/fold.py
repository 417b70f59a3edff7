"""Evaluate one node whose inputs are constants."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.diagnostics import ConvkitError
from convkit.ir.facts import attr, constant, is_constant, shape_of
from convkit.ir.infer import NORMAL_OPSET, infer_node, node_proto, schema_of

Array = np.ndarray
Fold = Callable[[ir.Node, list[Array]], "Array | Sequence[Array] | None"]

BUDGET = 1 << 18
"""A folded constant may have this many elements, or twice its inputs' elements, whichever is more."""

_FEW = 1 << 9
"""Two inputs of this many elements together cannot exceed the budget in an operator of the table."""

_RANDOM = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Multinomial",
    "Bernoulli",
}


def fold_node(node: ir.Node) -> list[Array] | None:
    """The outputs of `node` if they can be computed now, else None.

    A repetition of one element (Expand, ConstantOfShape) comes back as a view that takes no memory. What else
    exceeds the budget is neither folded nor computed, so that folding never inflates a model. The budget is
    in elements: a change of type (DequantizeLinear of weights, Cast) is no inflation.
    """
    if node.domain != "" or node.op_type in _RANDOM:
        return None
    if node.op_type in ("Shape", "Size"):
        return _static_shape(node)
    arrays: list[Array] = []
    for value in node.inputs:
        if value is None:
            arrays.append(_ABSENT)
            continue
        if not is_constant(value):
            return None
        arrays.append(_array(value))
    if any(a.type in _GRAPHS for a in node.attributes.values()) or not _affordable(node, arrays):
        return None
    try:
        outputs = _FOLDS[node.op_type](node, arrays) if node.op_type in _FOLDS else _run(node, arrays)
    except (ValueError, IndexError, TypeError, ZeroDivisionError, MemoryError):
        return None
    if outputs is None:
        return None
    found = [outputs] if isinstance(outputs, (np.ndarray, np.generic)) else list(outputs)
    return [np.asarray(a) for a in found]


def _affordable(node: ir.Node, arrays: list[Array]) -> bool:
    """Whether the outputs stay in the budget, told without computing them."""
    total = sum(a.size for a in arrays)
    if node.op_type in _NEVER_LARGER:
        return True
    if node.op_type in _FOLDS and node.op_type != "Tile" and len(arrays) <= 2 and total <= _FEW:
        return True
    try:
        infer_node(node)
    except ConvkitError as e:
        return e.diagnostics[0].code == "dynamic-shape"  # a selection, no larger than its input
    return sum(prod(shape_of(v)) for v in node.outputs if v.shape is not None) <= max(BUDGET, 2 * total)


_ABSENT = np.empty(0, np.uint8)
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)


def _array(value: ir.Value) -> Array:
    array = constant(value)
    assert array is not None
    return array


def _static_shape(node: ir.Node) -> list[Array] | None:
    value = node.inputs[0]
    if value is None or value.shape is None or not value.shape.is_static():
        return None
    dims = shape_of(value)
    if node.op_type == "Size":
        return [np.array(prod(dims), np.int64)]
    return [np.array(dims[attr(node, "start", 0) : attr(node, "end", len(dims))], np.int64)]


def _present(arrays: list[Array], index: int) -> Array | None:
    return arrays[index] if index < len(arrays) and arrays[index] is not _ABSENT else None


def _alike(arrays: list[Array]) -> list[Array]:
    """The arrays, if they are of one type as ONNX demands; numpy would promote."""
    if any(a.dtype != arrays[0].dtype for a in arrays):
        raise TypeError
    return arrays


def _elementwise(function: Callable[..., Array], mixed: bool = False) -> Fold:
    def fold(node: ir.Node, arrays: list[Array]) -> Array:
        arrays = arrays if mixed else _alike(arrays)
        with np.errstate(all="ignore"):
            result = np.asarray(function(*arrays))
        return result if result.dtype == bool else result.astype(arrays[0].dtype, copy=False)

    return fold


def _div(node: ir.Node, arrays: list[Array]) -> Array:
    x, y = _alike(arrays)
    if x.dtype.kind not in "iu":
        with np.errstate(all="ignore"):
            return np.asarray(np.divide(x, y)).astype(x.dtype, copy=False)
    if not np.all(y):
        raise ZeroDivisionError
    quotient = np.abs(x) // np.abs(y)  # ONNX rounds towards zero
    return np.asarray(np.where((x < 0) != (y < 0), -quotient, quotient)).astype(x.dtype)


def _mod(node: ir.Node, arrays: list[Array]) -> Array:
    x, y = _alike(arrays)
    if x.dtype.kind in "iu" and not np.all(y):
        raise ZeroDivisionError
    return np.asarray((np.fmod if attr(node, "fmod", 0) else np.mod)(x, y)).astype(x.dtype)


def _cast(node: ir.Node, arrays: list[Array]) -> Array | None:
    x, to = arrays[0], ir.DataType(attr(node, "to")).numpy()
    if x.dtype.kind == "O" or to.kind == "O" or (to.itemsize == 1 and to.kind not in "iub"):
        return None
    if x.dtype.kind not in "iub" and to.kind in "iu":
        limits = np.iinfo(to)
        wide = x.astype(np.float64)
        if (
            not np.all(np.isfinite(wide))
            or np.any(wide < float(limits.min))
            or np.any(wide >= float(limits.max) + 1)
        ):
            return None  # undefined in ONNX
    return x.astype(to)


def _gather(node: ir.Node, arrays: list[Array]) -> Array:
    return np.take(arrays[0], arrays[1], axis=attr(node, "axis", 0))


def _slice(node: ir.Node, arrays: list[Array]) -> Array:
    x, starts, ends = arrays[:3]
    axes, steps = _present(arrays, 3), _present(arrays, 4)
    index = [slice(None)] * x.ndim
    for i, start in enumerate(starts):
        axis = int(axes[i]) if axes is not None else i
        step = int(steps[i]) if steps is not None else 1
        size, end = x.shape[axis], int(ends[i])
        low, high = (0, size) if step > 0 else (-1, size - 1)
        begin = min(max(int(start) + (size if start < 0 else 0), 0), size if step > 0 else size - 1)
        stop = min(max(end + (size if end < 0 else 0), low), high)
        index[axis] = slice(begin, None if stop < 0 else stop, step)
    return x[tuple(index)]


def _reshape(node: ir.Node, arrays: list[Array]) -> Array:
    x, shape = arrays[0], [int(d) for d in arrays[1]]
    if not attr(node, "allowzero", 0):
        shape = [x.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return _respread(x, shape)


def _respread(x: Array, shape: Sequence[int]) -> Array:
    """Reshape that keeps a repetition of one element a view."""
    if x.size > 1 and not any(x.strides):
        known = -prod(shape) if -1 in shape else 1
        full = [x.size // known if d == -1 else d for d in shape]
        return np.broadcast_to(x[(0,) * x.ndim], full)
    return x.reshape(shape)


def _unsqueeze(node: ir.Node, arrays: list[Array]) -> Array:
    return np.expand_dims(arrays[0], tuple(int(a) for a in arrays[1]))


def _squeeze(node: ir.Node, arrays: list[Array]) -> Array:
    axes = _present(arrays, 1)
    return np.squeeze(arrays[0], None if axes is None else tuple(int(a) for a in axes))


def _constant_of_shape(node: ir.Node, arrays: list[Array]) -> Array:
    found = node.attributes.get("value")
    value = np.zeros((), np.float32) if found is None else found.as_tensor().numpy().reshape(())
    return np.broadcast_to(value, tuple(int(d) for d in arrays[0]))


def _expand(node: ir.Node, arrays: list[Array]) -> Array:
    shape = tuple(int(d) for d in arrays[1])
    return np.broadcast_to(arrays[0], np.broadcast_shapes(arrays[0].shape, shape))


def _split(node: ir.Node, arrays: list[Array]) -> list[Array] | None:
    x, sizes, axis = arrays[0], _present(arrays, 1), attr(node, "axis", 0)
    if sizes is None:
        parts = len(node.outputs)
        width = -(-x.shape[axis] // parts)
        if width * (parts - 1) >= x.shape[axis]:
            return None
        return np.split(x, [width * i for i in range(1, parts)], axis)
    return np.split(x, np.cumsum(sizes)[:-1], axis)


def _transpose(node: ir.Node, arrays: list[Array]) -> Array:
    return np.transpose(arrays[0], attr(node, "perm"))


def _range(node: ir.Node, arrays: list[Array]) -> Array | None:
    start, limit, delta = (a.reshape(()) for a in arrays)
    count = int(np.ceil((limit - start) / delta)) if delta else 0
    if count > BUDGET:
        return None
    return np.asarray(start + np.arange(max(count, 0)).astype(start.dtype) * delta, start.dtype)


def _reduce(function: Callable[..., Array]) -> Fold:
    def fold(node: ir.Node, arrays: list[Array]) -> Array:
        axes = _present(arrays, 1)
        keep = bool(attr(node, "keepdims", 1))
        if axes is None or axes.size == 0:
            if attr(node, "noop_with_empty_axes", 0):
                return arrays[0]
            return np.asarray(function(arrays[0], axis=None, keepdims=keep)).astype(arrays[0].dtype)
        axis = tuple(int(a) for a in axes)
        return np.asarray(function(arrays[0], axis=axis, keepdims=keep)).astype(arrays[0].dtype)

    return fold


def _extreme(function: Callable[..., Array], lowest: bool) -> Callable[..., Array]:
    """The maximum or minimum; of nothing, the number that never is one."""

    def extreme(x: Array, axis: Any, keepdims: bool) -> Array:
        if x.size:
            return function(x, axis=axis, keepdims=keepdims)
        shape = np.sum(x, axis=axis, keepdims=keepdims).shape
        if x.dtype.kind not in "iu":
            return np.full(shape, not lowest if x.dtype == bool else -np.inf if lowest else np.inf, x.dtype)
        limits = np.iinfo(x.dtype)
        return np.full(shape, limits.min if lowest else limits.max, x.dtype)

    return extreme


def _tile(node: ir.Node, arrays: list[Array]) -> Array:
    return np.tile(arrays[0], tuple(int(r) for r in arrays[1]))


def _constant(node: ir.Node, arrays: list[Array]) -> Array | None:
    name, attribute = next(iter(node.attributes.items()))
    if name == "value":
        return attribute.as_tensor().numpy()
    kind = {
        "value_float": np.float32,
        "value_floats": np.float32,
        "value_int": np.int64,
        "value_ints": np.int64,
    }
    return np.array(attribute.value, kind[name]) if name in kind else None


_FOLDS: dict[str, Fold] = {
    "Constant": _constant,
    "Identity": lambda node, arrays: arrays[0],
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _div,
    "Mod": _mod,
    "Pow": _elementwise(np.power, mixed=True),
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Sqrt": _elementwise(np.sqrt),
    "Reciprocal": _elementwise(np.reciprocal),
    "Max": _elementwise(lambda *arrays: np.maximum.reduce(np.broadcast_arrays(*arrays))),
    "Min": _elementwise(lambda *arrays: np.minimum.reduce(np.broadcast_arrays(*arrays))),
    "Equal": _elementwise(np.equal),
    "Less": _elementwise(np.less),
    "Greater": _elementwise(np.greater),
    "LessOrEqual": _elementwise(np.less_equal),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "Not": _elementwise(np.logical_not),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Xor": _elementwise(np.logical_xor),
    "Where": lambda node, arrays: np.where(arrays[0], *_alike(arrays[1:])),
    "Cast": _cast,
    "Concat": lambda node, arrays: np.concatenate(_alike(arrays), attr(node, "axis")),
    "Reshape": _reshape,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Gather": _gather,
    "Slice": _slice,
    "Split": _split,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Tile": _tile,
    "ReduceSum": _reduce(np.sum),
    "ReduceProd": _reduce(np.prod),
    "ReduceMax": _reduce(_extreme(np.max, lowest=True)),
    "ReduceMin": _reduce(_extreme(np.min, lowest=False)),
}


# What these return is a view, or no larger than their inputs together.
_NEVER_LARGER = frozenset(
    {
        *("Constant", "Identity", "ConstantOfShape", "Expand", "Reshape", "Squeeze", "Unsqueeze"),
        *("Transpose", "Slice", "Split", "Concat", "Cast", "Range"),
    }
)


def _run(node: ir.Node, arrays: list[Array]) -> list[Array] | None:
    """Run the one node in onnxruntime (about 8 ms); None where it has no kernel for it."""
    import onnxruntime
    from onnx import helper

    schema = schema_of(node.op_type)
    if schema is None or not arrays or any(a.dtype == object for a in arrays):
        return None
    present = [(f"i{i}", v, arrays[i]) for i, v in enumerate(node.inputs) if v is not None]
    inputs = [helper.make_tensor_value_info(n, int(v.const_value.dtype), a.shape) for n, v, a in present]  # type: ignore[union-attr]
    proto = node_proto(node)
    outputs = [helper.make_empty_tensor_value_info(name) for name in proto.output if name]
    graph = helper.make_graph([proto], "fold", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", NORMAL_OPSET)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        feed = {name: np.require(a, requirements=["C", "A"]) for name, _, a in present}
        return list(session.run(None, feed))
    except _runtime_errors():
        return None


def _runtime_errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    names = ("Fail", "InvalidArgument", "InvalidGraph", "NotImplemented", "RuntimeException", "EPFail")
    return (RuntimeError, *(getattr(state, name) for name in names if hasattr(state, name)))
