"""The probes in integers: every floating-point probe that the quantizer has kernels for, in int8 and int16x8,
and some whose scales and types the quantizer would not choose."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np

from convkit.diagnostics import ConvkitError
from convkit.dialects.tflite.graph import Graph, Op, Quantization, Tensor
from convkit.dialects.tflite.versions import assign_versions
from convkit.quantize.quantizer import Settings, provisional
from tests.probes.build import F32, I8, U8, Probe

SCHEMES = ("int8", "int16x8")
_SHAPE = (1, 4, 4, 8)


@cache
def quantized_probes() -> tuple[Probe, ...]:
    """Every probe in integers, names unique; the ranges of those in floating point are -1 to 1."""
    from tests.probes import all_probes

    return (*_quantized(p for p in all_probes() if _is_float(p)), *_by_hand())


def _is_float(probe: Probe) -> bool:
    return len(probe.graph.ops) == 1 and any(t.dtype == F32 for t in probe.op.outputs)


def _quantized(probes: Iterable[Probe]) -> Iterator[Probe]:
    for probe in probes:
        for scheme in SCHEMES:
            settings = Settings(scheme, io="int", equalize=False, correct_bias=False)  # type: ignore[arg-type]
            try:
                graph = provisional(probe.graph, settings)
            except ConvkitError:
                continue
            if len(graph.ops) == 1 and graph.ops[0].outputs[0].quantization is not None:
                assign_versions(graph)
                yield Probe(f"{probe.name}/{scheme}", graph)


def _by_hand() -> Iterator[Probe]:
    """Scales far apart, zero points, unsigned bytes."""
    one, coarse, fine = 2.0**-7, 2.0**4, 2.0**-18
    for code in ("ADD", "SUB"):
        yield _probe(f"{code}/coarse-output", code, [one, one], coarse)
        yield _probe(f"{code}/fine-output", code, [one, one], fine)
        yield _probe(f"{code}/fine-input", code, [one, fine], one)
    yield _probe("MUL/coarse-output", "MUL", [2.0**-9, 2.0**-9], 1.0)
    yield _probe("MUL/fine-output", "MUL", [1.0, 1.0], 2.0**-9)
    yield _probe("LEAKY_RELU/fine-output", "LEAKY_RELU", [1.0], 2.0**-9, alpha=0.1)
    yield _probe("LEAKY_RELU/flat", "LEAKY_RELU", [one], one, alpha=0.0)
    yield _probe("LEAKY_RELU/slope", "LEAKY_RELU", [one], one, alpha=0.1)
    yield _probe("QUANTIZE/fine-output", "QUANTIZE", [1.0], 2.0**-9)
    yield _probe("QUANTIZE/to-unsigned", "QUANTIZE", [one], one, to=U8)
    yield _probe("MAX_POOL_2D/huge-scale", "MAX_POOL_2D", [2.0**33], 2.0**33, filter_height=1, filter_width=1)
    for code in ("ELU", "LOGISTIC", "TANH", "RELU", "SOFTMAX"):
        scale = {"LOGISTIC": 2.0**-8, "SOFTMAX": 2.0**-8, "TANH": 2.0**-7}.get(code, one)
        zero = 128 if code == "TANH" else 0
        options = {"beta": 1.0} if code == "SOFTMAX" else {}
        yield _probe(f"{code}/unsigned", code, [one], scale, dtype=U8, zero=zero, **options)
    yield _probe("BATCH_MATMUL/zero-point", "BATCH_MATMUL", [one, one], one, zero=5, shapes=((1, 8, 8),) * 2)
    yield _probe("BATCH_MATMUL/unsigned", "BATCH_MATMUL", [one, one], one, dtype=U8, shapes=((1, 8, 8),) * 2)


def _probe(
    name: str,
    code: str,
    scales: Sequence[float],
    scale: float,
    *,
    zero: int = 0,
    dtype: np.dtype[Any] = I8,
    to: np.dtype[Any] | None = None,
    shapes: Sequence[tuple[int, ...]] = (_SHAPE, _SHAPE),
    **options: Any,
) -> Probe:
    def tensor(label: str, shape: tuple[int, ...], kind: np.dtype[Any], step: float) -> Tensor:
        grid = Quantization(np.array([step], np.float32), np.array([zero], np.int64))
        return Tensor(label, shape, kind, None, grid)

    inputs = [tensor(f"in{i}", shapes[i], dtype, step) for i, step in enumerate(scales)]
    output = tensor("out", shapes[0], to or dtype, scale)
    if code == "MAX_POOL_2D":
        options |= {"stride_h": 1, "stride_w": 1, "padding": "VALID"}
    graph = Graph(inputs, [output], [Op(code, inputs, [output], options)], [t.name for t in inputs], ["out"])
    assign_versions(graph)
    return Probe(f"{name}/by-hand", graph)
