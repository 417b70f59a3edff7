"""The predicates of the rule language: what a rule may ask about an operator of any dialect, or of TFLite's.

A fact takes the operator alone and is written without parentheses (`groups`, `kernel.h`); a
predicate takes tensors named by their role too (`rank(indices)`). Each returns None when the answer
is not known, which makes the rule undecided. The first line of a docstring is the documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from inspect import getdoc, signature
from typing import Any, TypeAlias, get_type_hints

import numpy as np

from convkit.dialects.tflite.graph import Op, Tensor
from convkit.dialects.tflite.roles import tensors_of_role
from convkit.dialects.tflite.schema import type_name

Tensors: TypeAlias = "list[Tensor | None]"
"""The tensors of a role: one, or several for a variadic input; None where left out."""


TFLITE = ("tflite",)


@dataclass(frozen=True)
class Predicate:
    """A word of the vocabulary: `arguments` are the kinds of its arguments after the operator."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    variadic: bool
    result: str
    doc: str
    needs: tuple[str, ...]


_KINDS = {bool: "truth", int: "number", float: "number", str: "constant", Tensors: "tensor"}
PREDICATES: dict[str, Predicate] = {}
"""The words for operators of TFLite, and those for every dialect."""
_OF_DIALECT: dict[str, dict[str, Predicate]] = {"tflite": PREDICATES, "onnx": {}, "caffe": {}}


def vocabulary(dialect: str) -> dict[str, Predicate]:
    """The words that may be said of an operator of a dialect."""
    if dialect == "onnx":
        from convkit.targets import vocabulary_onnx  # noqa: F401
    elif dialect == "caffe":
        from convkit.targets import vocabulary_caffe  # noqa: F401
    return _OF_DIALECT[dialect]


def _kind(hint: Any) -> str:
    for plain in (bool, int, float, str):
        if hint is plain or hint == plain | None:
            return _KINDS[plain]
    return "tensor"


def predicate(
    name: str | None = None, needs: str = "", dialects: tuple[str, ...] = ("tflite", "onnx", "caffe")
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function as a word of the language; `needs` are roles that the operator must have."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function)
        parameters = list(signature(function).parameters.values())[1:]
        word = name or function.__name__.rstrip("_")
        found = Predicate(
            word,
            function,
            tuple(_kind(hints[p.name]) for p in parameters),
            bool(parameters) and parameters[-1].kind is parameters[-1].VAR_POSITIONAL,
            _kind(hints["return"]),
            (getdoc(function) or "").split("\n")[0],
            tuple(needs.split()),
        )
        for dialect in dialects:
            _OF_DIALECT[dialect][word] = found
        return function

    return register


def _only(tensors: Tensors) -> Tensor | None:
    return tensors[0] if len(tensors) == 1 else None


def _role(op: Op, role: str) -> Tensor | None:
    return _only(tensors_of_role(op, role) or [])


def _known(*sizes: int) -> bool:
    return all(size >= 0 for size in sizes)


def _values(tensor: Tensor | None) -> list[int] | None:
    """The numbers of a constant integer tensor."""
    if tensor is None or tensor.data is None:
        return None
    return [int(x) for x in tensor.data.reshape(-1)]


def _present(op: Op) -> list[Tensor]:
    return [t for t in op.inputs if t is not None]


def _runtime(op: Op) -> list[Tensor]:
    return [t for t in _present(op) if not t.is_constant]


# --- of one tensor -------------------------------------------------------------------------------


@predicate()
def rank(op: Op, tensor: Tensors) -> int | None:
    """Number of dimensions of a tensor."""
    only = _only(tensor)
    return None if only is None else only.rank


@predicate()
def elements(op: Op, tensor: Tensors) -> int | None:
    """Number of elements of a tensor."""
    only = _only(tensor)
    return None if only is None or not _known(*only.shape) else int(np.prod(only.shape, dtype=np.int64))


@predicate()
def dtype(op: Op, tensor: Tensors) -> str | None:
    """TFLite type of a tensor, such as FLOAT32."""
    only = _only(tensor)
    return None if only is None else type_name(only.dtype)


@predicate()
def present(op: Op, tensor: Tensors) -> bool:
    """Whether an optional input is there."""
    return any(t is not None for t in tensor)


@predicate()
def const(op: Op, tensor: Tensors) -> bool:
    """Whether an input is there and stored in the file."""
    return bool(tensor) and all(t is not None and t.is_constant for t in tensor)


@predicate()
def runtime(op: Op, tensor: Tensors) -> bool:
    """Whether an input is there and known at run time only."""
    return any(t is not None and not t.is_constant for t in tensor)


@predicate(dialects=TFLITE)
def channels(op: Op, tensor: Tensors) -> int | None:
    """Size of the last dimension of a tensor (1 for a scalar)."""
    only = _only(tensor)
    if only is None:
        return None
    last = only.shape[-1] if only.shape else 1
    return last if _known(last) else None


@predicate()
def batch(op: Op, tensor: Tensors) -> int | None:
    """Size of the first dimension of a tensor (1 for a scalar)."""
    only = _only(tensor)
    if only is None:
        return None
    first = only.shape[0] if only.shape else 1
    return first if _known(first) else None


@predicate()
def value(op: Op, tensor: Tensors) -> float | None:
    """The number in a constant tensor of one element."""
    only = _only(tensor)
    if only is None or only.data is None or only.data.size != 1:
        return None
    return float(only.data.reshape(-1)[0])


@predicate()
def smallest(op: Op, tensor: Tensors) -> float | None:
    """The smallest number in a constant tensor."""
    only = _only(tensor)
    return None if only is None or only.data is None or not only.data.size else float(only.data.min())


@predicate()
def largest(op: Op, tensor: Tensors) -> float | None:
    """The largest number in a constant tensor."""
    only = _only(tensor)
    return None if only is None or only.data is None or not only.data.size else float(only.data.max())


@predicate()
def entry(op: Op, tensor: Tensors, index: int) -> float | None:
    """The number at position `index` of a constant list (-1: the last one)."""
    only = _only(tensor)
    if only is None or only.data is None or not -only.data.size <= index < only.data.size:
        return None
    return float(only.data.reshape(-1)[int(index)])


@predicate()
def magnitude(op: Op, tensor: Tensors) -> float | None:
    """The largest finite magnitude in a constant tensor."""
    only = _only(tensor)
    if only is None or only.data is None:
        return None
    finite = only.data[np.isfinite(only.data)]
    return float(np.abs(finite.astype(np.float64)).max()) if finite.size else 0.0


@predicate(dialects=TFLITE)
def per_channel(op: Op, tensor: Tensors) -> bool:
    """Whether a tensor has one scale per channel."""
    return any(t is not None and t.quantization is not None and t.quantization.scale.size > 1 for t in tensor)


@predicate(dialects=TFLITE)
def scale(op: Op, tensor: Tensors) -> float | None:
    """The scale of a tensor that has one for all channels."""
    only = _only(tensor)
    if only is None or only.quantization is None or only.quantization.scale.size != 1:
        return None
    return float(only.quantization.scale.reshape(-1)[0])


@predicate(dialects=TFLITE)
def largest_scale(op: Op) -> float:
    """The largest scale among inputs and outputs (0 where nothing is quantized)."""
    quantized = (t.quantization for t in (*_present(op), *op.outputs) if t.quantization is not None)
    return max((float(q.scale.max()) for q in quantized if q.scale.size), default=0.0)


@predicate(dialects=TFLITE)
def zero_point(op: Op, tensor: Tensors) -> int | None:
    """The zero point of a quantized tensor (the first one, where channels have their own)."""
    only = _only(tensor)
    if only is None or only.quantization is None:
        return None
    return int(only.quantization.zero_point.reshape(-1)[0])


@predicate()
def wide_dimensions(op: Op, tensor: Tensors) -> int | None:
    """Number of dimensions of a tensor that are larger than 1."""
    only = _only(tensor)
    return None if only is None or not _known(*only.shape) else sum(size > 1 for size in only.shape)


# --- of numbers ----------------------------------------------------------------------------------


@predicate()
def power_of_two(op: Op, number: float) -> bool | None:
    """Whether a number is 1, 2, 4, 8, ..."""
    if number is None:
        return None
    return number >= 1 and float(number).is_integer() and int(number).bit_count() == 1


@predicate()
def larger(op: Op, number: float, other: float) -> float | None:
    """The larger of two numbers."""
    return None if number is None or other is None else max(number, other)


# --- of the operator -----------------------------------------------------------------------------


@predicate()
def unknown(op: Op) -> bool | None:
    """What neither the file nor a public source tells: always unknown, which makes a rule undecided."""
    return None


@predicate()
def version(op: Op) -> int:
    """Version of the operator (in ONNX the opset)."""
    return op.version


@predicate()
def max_rank(op: Op) -> int:
    """The largest rank among the inputs known at run time and the outputs."""
    return max(t.rank for t in (*_runtime(op), *op.outputs))


@predicate()
def min_rank(op: Op) -> int:
    """The smallest rank among the inputs known at run time and the outputs."""
    return min(t.rank for t in (*_runtime(op), *op.outputs))


@predicate()
def const_rank(op: Op) -> int:
    """The largest rank among the constant inputs (0 if there is none)."""
    return max((t.rank for t in _present(op) if t.is_constant), default=0)


@predicate()
def inputs(op: Op) -> int:
    """Number of inputs that are there."""
    return len(_present(op))


@predicate()
def outputs(op: Op) -> int:
    """Number of outputs."""
    return len(op.outputs)


@predicate()
def const_inputs(op: Op) -> int:
    """Number of constant inputs."""
    return len(_present(op)) - len(_runtime(op))


@predicate()
def runtime_inputs(op: Op) -> int:
    """Number of inputs known at run time only."""
    return len(_runtime(op))


@predicate()
def touches(op: Op, *types: str) -> bool:
    """Whether an input known at run time or an output has one of these types."""
    return any(type_name(t.dtype) in types for t in (*_runtime(op), *op.outputs))


@predicate()
def stores(op: Op, *types: str) -> bool:
    """Whether a constant input has one of these types."""
    return any(t.is_constant and type_name(t.dtype) in types for t in _present(op))


@predicate(dialects=TFLITE)
def bytes_without_scale(op: Op) -> bool:
    """Whether a run-time input or an output of bytes is not quantized."""
    tensors = (*_runtime(op), *op.outputs)
    return any(t.quantization is None and type_name(t.dtype) in {"INT8", "UINT8"} for t in tensors)


@predicate()
def runtime_scalar(op: Op) -> bool:
    """Whether an input known at run time has rank 0 while another does not."""
    ranks = {t.rank for t in _runtime(op)}
    return 0 in ranks and len(ranks) > 1


@predicate()
def value_batch(op: Op) -> int:
    """The largest first dimension among inputs known at run time and outputs (1 for scalars)."""
    return max(t.shape[0] if t.shape else 1 for t in (*_runtime(op), *op.outputs))


@predicate()
def repeated_input(op: Op) -> bool:
    """Whether one value known at run time is read twice."""
    runtime = [id(t) for t in _runtime(op)]
    return len(set(runtime)) < len(runtime)


@predicate()
def dynamic(op: Op) -> bool:
    """Whether a dimension of an input or output is not known before the model runs."""
    return any(not _known(*t.shape) for t in (*_present(op), *op.outputs))


# --- convolutions and pooling --------------------------------------------------------------------


def _side(op: Op, axis: str) -> int | None:
    size = op.options.get(f"filter_{'height' if axis == 'h' else 'width'}")
    kernel = _role(op, "filter")
    if size is None and kernel is not None and kernel.rank == 4:
        size = kernel.shape[1 if axis == "h" else 2]
    return size


@predicate("kernel.h", dialects=TFLITE)
def kernel_h(op: Op) -> int | None:
    """Height of the kernel or pooling window."""
    return _side(op, "h")


@predicate("kernel.w", dialects=TFLITE)
def kernel_w(op: Op) -> int | None:
    """Width of the kernel or pooling window."""
    return _side(op, "w")


@predicate(needs="filter input", dialects=TFLITE)
def groups(op: Op) -> int | None:
    """Number of groups of a convolution."""
    kernel, data = _role(op, "filter"), _role(op, "input")
    if kernel is None or data is None or kernel.rank != 4 or data.rank != 4 or kernel.shape[3] <= 0:
        return None
    if op.code == "DEPTHWISE_CONV_2D":
        return data.shape[3]
    return data.shape[3] // kernel.shape[3]


@predicate(needs="filter input", dialects=TFLITE)
def group_channels(op: Op) -> int | None:
    """Input channels of one group of a convolution."""
    kernel = _role(op, "filter")
    return None if kernel is None or kernel.rank != 4 else kernel.shape[3]


@predicate(needs="filter input", dialects=TFLITE)
def group_outputs(op: Op) -> int | None:
    """Output channels of one group of a convolution."""
    kernel, count = _role(op, "filter"), groups(op)
    return None if kernel is None or not count else kernel.shape[0] // count


@predicate(needs="output_shape filter input", dialects=TFLITE)
def same_padding_differs(op: Op) -> bool | None:
    """Whether the padding that ML Drift derives for SAME from the input's size is not TFLite's.

    TFLite pads a transposed convolution by what the output asks for, ML Drift as a convolution of
    its input would be padded; only the part before the first row or column matters.
    """
    paddings = _same_paddings(op)
    return (
        None if paddings is None else any(max(0, wanted) // 2 != derived // 2 for wanted, derived in paddings)
    )


@predicate(needs="output_shape filter input", dialects=TFLITE)
def same_padding_cuts(op: Op) -> bool | None:
    """Whether the padding that QNN's mapping derives for SAME from the input's size cuts another output.

    As `same_padding_differs`, but the amount before and after counts together.
    """
    paddings = _same_paddings(op)
    return None if paddings is None else any(wanted != derived for wanted, derived in paddings)


def _same_paddings(op: Op) -> list[tuple[int, int]] | None:
    """For height and width: what SAME cuts off a transposed convolution by TFLite, and the padding that a
    convolution of the input would have; nothing for another padding, None where a size is not known."""
    kernel, data, output = _role(op, "filter"), _role(op, "input"), op.output
    if kernel is None or data is None or {kernel.rank, data.rank, output.rank} != {4}:
        return None
    if op.options.get("padding", "SAME") != "SAME":
        return []
    found = []
    for axis, name in ((1, "h"), (2, "w")):
        size, side, stride = data.shape[axis], kernel.shape[axis], int(op.options.get(f"stride_{name}", 1))
        found.append(
            ((size - 1) * stride + side - output.shape[axis], max(0, side - (size % stride or stride)))
        )
    return found


# --- axes ----------------------------------------------------------------------------------------


@predicate(dialects=TFLITE)
def names_axis(op: Op, axes: Tensors, index: int) -> bool | None:
    """Whether a constant list of axes names dimension `index` of the input (-1: the last one)."""
    only, data = _only(axes), _role(op, "input")
    listed = _values(only)
    if listed is None or data is None:
        return None
    return int(index) % max(data.rank, 1) in [axis % max(data.rank, 1) for axis in listed]


@predicate(needs="input paddings", dialects=TFLITE)
def pads(op: Op, index: int) -> bool | None:
    """Whether dimension `index` of the input is padded (-1: the last one)."""
    amounts, data = _values(_role(op, "paddings")), _role(op, "input")
    if amounts is None or data is None:
        return None
    row = int(index) % max(data.rank, 1)
    return any(amounts[2 * row : 2 * row + 2])


@predicate(needs="input begin", dialects=TFLITE)
def short_parameters(op: Op) -> bool | None:
    """Whether a slice has fewer parameters than its input has dimensions."""
    begin, data = _role(op, "begin"), _role(op, "input")
    return None if begin is None or data is None else begin.shape[0] != data.rank


# --- how ML Drift reads shapes -------------------------------------------------------------------
# Values of rank r are read as BHWC; a constant of floats in an elementwise operator is read differently.
_VALUE_AXES = {1: "B", 2: "BC", 3: "BWC", 4: "BHWC"}
_CONSTANT_AXES = {1: "C", 2: "WC", 3: "HWC", 4: "BHWC"}


@predicate(needs="lhs rhs", dialects=TFLITE)
def constant_misplaced(op: Op) -> bool:
    """Whether a constant operand's dimensions land on other BHWC axes than the result's."""
    constants = [t for t in _present(op) if t.is_constant]
    out = op.output
    if not constants or not _runtime(op) or not 1 <= out.rank <= 4:
        return False
    result = _VALUE_AXES[out.rank]
    for tensor in _present(op):
        as_weights = tensor.is_constant and tensor.dtype.kind == "f"
        axes = (_CONSTANT_AXES if as_weights else _VALUE_AXES).get(tensor.rank, "")
        for index, (axis, size) in enumerate(zip(axes, tensor.shape, strict=False)):
            if size != 1 and axis != result[out.rank - tensor.rank + index]:
                return True
    first = [t.shape[0] for t in _runtime(op) if t.rank == out.rank]
    return any(t.rank == out.rank == 4 and t.shape[0] > 1 and 1 in first for t in constants)


@predicate(needs="lhs rhs", dialects=TFLITE)
def batches_differ(op: Op) -> bool:
    """Whether the leading (all but the last two) dimensions of a matrix product's operands differ."""
    one, two = (list(t.shape[:-2]) for t in _present(op))
    longer, shorter = (one, two) if len(one) >= len(two) else (two, one)
    return longer != [1] * (len(longer) - len(shorter)) + shorter
