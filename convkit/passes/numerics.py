"""The numbers of a model in onnxruntime on fixed random inputs: what every pass must keep."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import dtype_of, shape_of

TOLERANCE = 1e-5
"""Error that rounding explains in a well-conditioned model, relative to an output's range."""

_AMPLIFIED = 16
"""Roundings inside the model count as this many of its inputs."""


def random_inputs(graph: ir.Graph, seed: int = 0) -> dict[str, np.ndarray]:
    """Normal floats, small non-negative integers, fair booleans; the same for the same seed."""
    rng = np.random.default_rng(seed)
    found: dict[str, np.ndarray] = {}
    for value in graph.inputs:
        dtype, shape = dtype_of(value).numpy(), shape_of(value)
        array: np.ndarray
        if dtype.kind in "iu":
            array = rng.integers(0, 4, shape)
        elif dtype.kind == "b":
            array = rng.integers(0, 2, shape)
        else:
            array = rng.standard_normal(shape)
        found[str(value.name)] = array.astype(dtype)
    return found


def run_model(model: ir.Model, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs in order, onnxruntime's own optimizations off."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    proto = ir.serde.serialize_model(model).SerializeToString()
    session = onnxruntime.InferenceSession(proto, options, ["CPUExecutionProvider"])
    return [np.asarray(a) for a in session.run(None, dict(inputs))]


def tolerance(model: ir.Model, inputs: Mapping[str, np.ndarray], expected: list[np.ndarray]) -> float:
    """The error that rounding explains in this model: what nudging its inputs does to its outputs.

    A trained network can amplify the last bit of its input a thousandfold; no order of summation is right
    to more than that.
    """
    rng = np.random.default_rng(1)
    nudged = {name: a if a.dtype.kind != "f" else _nudge(a, rng) for name, a in inputs.items()}
    return max(TOLERANCE, _AMPLIFIED * difference(expected, run_model(model, nudged)))


def _nudge(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every number to its next or previous one."""
    towards = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
    return np.nextafter(array, towards)


def difference(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    """The largest error of any output relative to its range; infinite where the outputs do not compare."""
    worst = 0.0
    for e, f in zip(expected, found, strict=True):
        if e.shape != f.shape or e.dtype != f.dtype:
            return float("inf")
        wide, other = e.astype(np.float64), f.astype(np.float64)
        finite = np.isfinite(wide)
        if not np.array_equal(finite, np.isfinite(other)):
            return float("inf")
        if finite.any():
            span = max(float(np.abs(wide[finite]).max()), 1e-6)
            worst = max(worst, float(np.abs(wide - other)[finite].max()) / span)
    return worst
