"""How probes are written: graphs of one operator, completed with the output shapes TFLite computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.schema import dtype_named
from convkit.dialects.tflite.writer import serialize

F32, F16, I8, U8, I16, I32, I64, BOOL = (
    dtype_named(n) for n in ("FLOAT32", "FLOAT16", "INT8", "UINT8", "INT16", "INT32", "INT64", "BOOL")
)


@dataclass(frozen=True)
class Probe:
    """A graph about one operator (the last; DEQUANTIZEs of constants may precede it)."""

    name: str
    graph: Graph
    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def op(self) -> Op:
        """The operator the probe is about."""
        return self.graph.ops[-1]


@dataclass(frozen=True)
class Var:
    """A value known at run time only; `values` fixes what it is fed."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any] = F32
    values: np.ndarray | None = None
    positive: bool = False


@dataclass(frozen=True)
class Half:
    """A constant stored as float16 and read through DEQUANTIZE."""

    data: np.ndarray


def v(*shape: int, dtype: np.dtype[Any] = F32, values: object = None, positive: bool = False) -> Var:
    """A run-time value of a shape."""
    fixed = None if values is None else np.asarray(values, dtype).reshape(shape)
    return Var(shape, dtype, fixed, positive)


def c(data: object, dtype: np.dtype[Any] = I32) -> np.ndarray:
    """A constant."""
    return np.asarray(data, dtype)


def w(*shape: int, dtype: np.dtype[Any] = F32, seed: int = 7) -> np.ndarray:
    """A constant of random values."""
    return sample(shape, dtype, np.random.default_rng(seed))


def sample(shape: Sequence[int], dtype: np.dtype[Any], rng: np.random.Generator) -> np.ndarray:
    """Random values of a dtype, small enough for every operator."""
    if dtype == BOOL:
        return rng.integers(0, 2, shape).astype(np.bool_)
    if dtype.kind in "iu":
        return rng.integers(1, 6, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


Operand = Var | Half | np.ndarray | None


def probe(
    code: str,
    variant: str,
    inputs: Sequence[Operand],
    out: np.dtype[Any] | Sequence[np.dtype[Any]] = F32,
    version: int = 1,
    **options: Any,
) -> Probe:
    """A probe of `code` on `inputs`; its output shapes are what TFLite's own kernel computes.

    A Var that stands there twice is one value.

    Raises ValueError where TFLite itself refuses the operator.
    """
    rng = np.random.default_rng(1)
    ops: list[Op] = []
    tensors: list[Tensor | None] = []
    feeds: dict[str, np.ndarray] = {}
    for index, operand in enumerate(inputs):
        name = f"in{index}"
        twin = next((i for i in range(index) if inputs[i] is operand), None)
        if operand is None:
            tensors.append(None)
        elif twin is not None:
            tensors.append(tensors[twin])
        elif isinstance(operand, Var):
            values = (
                operand.values if operand.values is not None else sample(operand.shape, operand.dtype, rng)
            )
            feeds[name] = np.abs(values) + values.dtype.type(0.5) if operand.positive else values
            tensors.append(Tensor(name, operand.shape, operand.dtype))
        elif isinstance(operand, Half):
            stored = Tensor(name + "_half", operand.data.shape, F16, operand.data.astype(np.float16))
            tensors.append(Tensor(name, operand.data.shape, F32))
            ops.append(Op("DEQUANTIZE", [stored], [tensors[-1]], version=3))
        else:
            tensors.append(Tensor(name, operand.shape, operand.dtype, operand))
    dtypes = [out] if isinstance(out, np.dtype) else list(out)
    first = _slice_shape(inputs) if code == "SLICE" else (1,)
    outputs = [Tensor(f"out{i}", first, dtype) for i, dtype in enumerate(dtypes)]
    ops.append(Op(code, tensors, outputs, options, version=version))
    runtime = list({t.name: t for t in tensors if t is not None and t.name in feeds}.values())
    graph = Graph(runtime, outputs, ops, [t.name for t in runtime], [t.name for t in outputs])
    made = Probe(f"{code}/{variant}", graph, feeds)
    for tensor, value in zip(outputs, compute(made).values(), strict=True):
        tensor.shape = value.shape
    return made


def _slice_shape(inputs: Sequence[Operand]) -> tuple[int, ...]:
    """The result of a SLICE, whose kernel wants it in the file."""
    data, begin, size = inputs
    assert isinstance(data, Var | np.ndarray)
    if not isinstance(begin, np.ndarray) or not isinstance(size, np.ndarray):
        return (1,) * len(data.shape)
    bounds = zip(data.shape, begin.tolist(), size.tolist(), strict=True)
    return tuple(full - low if length < 0 else length for full, low, length in bounds)


def maybe(
    code: str,
    variant: str,
    inputs: Sequence[Operand],
    out: np.dtype[Any] | Sequence[np.dtype[Any]] = F32,
    version: int = 1,
    **options: Any,
) -> Iterator[Probe]:
    """The probe, or nothing where TFLite itself refuses the operator."""
    try:
        yield probe(code, variant, inputs, out, version, **options)
    except ValueError:
        return


def compute(made: Probe) -> dict[str, np.ndarray]:
    """What TFLite's reference kernels compute, by output name."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=bytes(serialize(made.graph)),
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    try:
        interpreter.allocate_tensors()
        details = interpreter.get_input_details()
        for detail, name in zip(details, made.graph.signature_inputs, strict=True):
            interpreter.set_tensor(detail["index"], made.inputs[name])
        interpreter.invoke()
    except RuntimeError as problem:
        raise ValueError(f"{made.name}: {problem}") from problem
    found = interpreter.get_output_details()
    return {
        n: interpreter.get_tensor(d["index"])
        for n, d in zip(made.graph.signature_outputs, found, strict=True)
    }
