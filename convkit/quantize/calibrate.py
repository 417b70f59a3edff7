"""Observe the activations of a float graph on sample data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from convkit.diagnostics import error
from convkit.dialects.tflite.graph import Graph, Tensor
from convkit.quantize.grid import Range
from convkit.quantize.observers import Observer
from convkit.quantize.operators import WEIGHTED
from convkit.quantize.run import Runner, Sample


@dataclass(frozen=True)
class Calibration:
    """What was seen: `ranges` by id(tensor), and the mean of each channel (last axis) of the tensors that
    operators with weights read."""

    ranges: dict[int, Range]
    means: dict[int, np.ndarray]


def calibrate(
    graph: Graph, tensors: Sequence[Tensor], samples: Sequence[Sample], observer: Callable[[], Observer]
) -> Calibration:
    """Run `graph` (float32) once per sample and observe `tensors`.

    Raises ConvkitError "calibration-not-finite" where an activation is NaN or infinite.
    """
    return calibrate_all(graph, tensors, samples, {"": observer})[""]


def calibrate_all(
    graph: Graph,
    tensors: Sequence[Tensor],
    samples: Sequence[Sample],
    observers: dict[str, Callable[[], Observer]],
) -> dict[str, Calibration]:
    """As `calibrate`, for several methods in one run over the samples."""
    seen = [t for t in tensors if 0 not in t.shape]
    watching = {name: {id(t): make() for t in seen} for name, make in observers.items()}
    weighted = {
        id(op.inputs[roles.activation]) for op in graph.ops if (roles := WEIGHTED.get(op.code)) is not None
    }
    sums = {id(t): np.zeros(t.shape[-1]) for t in seen if id(t) in weighted and t.rank}
    runner = Runner(graph, preserve=True)
    for sample in samples:
        runner.feed(sample)
        for tensor in seen:
            values = runner.read(tensor)
            if not np.isfinite(values).all():
                raise error(
                    "calibration-not-finite",
                    f"tensor {tensor.name!r} is not finite on the calibration data, so it has no range",
                    help="check the data and its preprocessing",
                )
            for watch in watching.values():
                watch[id(tensor)].see(values)
            if id(tensor) in sums:
                sums[id(tensor)] += values.reshape(-1, values.shape[-1]).mean(0, dtype=np.float64)
    empty = {id(t): (0.0, 0.0) for t in tensors if 0 in t.shape}
    means = {key: total / len(samples) for key, total in sums.items()}
    return {
        name: Calibration(empty | {key: o.range() for key, o in watch.items()}, means)
        for name, watch in watching.items()
    }
