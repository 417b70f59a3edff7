"""Which layers the loss comes from, and the fewest to keep in higher precision to bound it.

Every layer is quantized alone in one graph, behind gates: y' = y + g (Q(y) - y), and so for its weights.
One graph serves all layers; a run opens one gate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from convkit.dialects.tflite.cost import macs
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.quantize.calibrate import Calibration, calibrate
from convkit.quantize.dialect import results
from convkit.quantize.grid import FLOAT32, INT8, INT16, decode, encode, weight_grid
from convkit.quantize.observers import observer_factory
from convkit.quantize.operators import MOVEMENT, TFLITE, WEIGHTED
from convkit.quantize.plan import Grids, Plan, assign_grids, observed
from convkit.quantize.preview import fidelity, worst_sqnr
from convkit.quantize.quantizer import Quantized, Settings, finish, plan_for, prepare
from convkit.quantize.run import Runner, Sample


@dataclass(frozen=True)
class Sensitivity:
    """A layer by its first output's name: SQNR of the worst output, in decibel, when it alone is
    quantized; and its multiply-accumulates."""

    name: str
    code: str
    sqnr_db: float
    macs: int


def sensitivity(graph: Graph, settings: Settings, samples: Sequence[Sample]) -> list[Sensitivity]:
    """Layers by what they lose, the worst first. Operators that only move numbers lose nothing."""
    planned, seen = _calibrated(graph, settings, samples)
    return _ranked(planned, assign_grids(planned, seen.ranges), settings, samples)


def _calibrated(graph: Graph, settings: Settings, samples: Sequence[Sample]) -> tuple[Plan, Calibration]:
    """The plan on the prepared graph, and the ranges of all tensors that a plan of any width may ask for."""
    prepared, _ = prepare(graph, settings)
    planned = plan_for(prepared, settings)
    tensors = {
        id(t): t
        for scheme in (settings.scheme, "int16x8")
        for t in observed(plan_for(prepared, replace(settings, scheme=scheme, integer_only=False)))
    }
    return planned, calibrate(prepared, list(tensors.values()), samples, observer_factory(settings.method))


def _ranked(planned: Plan, grids: Grids, settings: Settings, samples: Sequence[Sample]) -> list[Sensitivity]:
    gated, layers = _gated(planned, grids, settings.per_channel)
    runner = Runner(gated)
    closed = np.zeros(len(layers), np.float32)

    def outputs(gates: np.ndarray) -> list[list[np.ndarray]]:
        return list(runner.run([[*sample, gates] for sample in samples]))

    reference = outputs(closed)
    found = []
    for index, op in enumerate(layers):
        gates = closed.copy()
        gates[index] = 1.0
        lost = _worst(reference, outputs(gates))
        found.append(Sensitivity(op.outputs[0].name, op.code, lost, macs(op)))
    return sorted(found, key=lambda s: s.sqnr_db)


def _worst(want: list[list[np.ndarray]], got: list[list[np.ndarray]]) -> float:
    ratios = []
    for a, b in zip(zip(*want, strict=True), zip(*got, strict=True), strict=True):
        signal = np.square(np.stack(a), dtype=np.float64).sum()
        noise = np.square(np.stack(a).astype(np.float64) - np.stack(b)).sum()
        ratios.append(float(10 * np.log10(signal / noise)) if noise > 0 and signal > 0 else np.inf)
    return min(ratios, default=np.inf)


def _gated(planned: Plan, grids: Grids, per_channel: bool) -> tuple[Graph, list[Op]]:
    """The float graph with a gate on every layer; its last input holds the gates."""
    graph = planned.graph
    layers = [op for op in graph.ops if planned.width(op) and op.code not in MOVEMENT and results(op)]
    gates = Tensor("gates", (len(layers),), FLOAT32)
    ops: list[Op] = []
    passed: dict[int, Tensor] = {}
    place = {id(op): index for index, op in enumerate(layers)}

    def blend(tensor: Tensor, other: Tensor, gate: Tensor, name: str) -> Tensor:
        """tensor + gate (other - tensor)."""
        off, part, made = (
            Tensor(f"{name}/{kind}", tensor.shape, FLOAT32) for kind in ("off", "part", "made")
        )
        ops.append(Op("SUB", [other, tensor], [off]))
        ops.append(Op("MUL", [off, gate], [part]))
        ops.append(Op("ADD", [tensor, part], [made]))
        return made

    for op in graph.ops:
        inputs = [passed.get(id(t), t) for t in op.inputs]
        index = place.get(id(op))
        if index is None:
            ops.append(replace(op, inputs=inputs))
            continue
        dtype = planned.widths[id(op)]
        gate = Tensor(f"gate_{index}", (1,), FLOAT32)
        bounds = [Tensor(f"gate_{index}/{k}", (1,), np.dtype(np.int32), np.array([v], np.int32))
                  for k, v in (("begin", index), ("size", 1))]  # fmt: skip
        ops.append(Op("SLICE", [gates, *bounds], [gate]))
        roles = WEIGHTED.get(op.code)
        if roles is not None:
            filters = op.inputs[roles.filters]
            assert filters is not None
            assert filters.data is not None
            grid = weight_grid(filters.data, roles.channel if per_channel else None)
            rounded = decode(encode(filters.data, grid, INT8), grid)
            name = f"{filters.name}/{index}"
            other = Tensor(f"{name}/rounded", filters.shape, FLOAT32, rounded)
            inputs[roles.filters] = blend(filters, other, gate, name)
        ops.append(replace(op, inputs=inputs))
        for tensor in results(op):
            stored = Tensor(f"{tensor.name}/q", tensor.shape, dtype, None, grids.wanted(op, tensor, dtype))
            real = Tensor(f"{tensor.name}/dq", tensor.shape, FLOAT32)
            ops.append(Op("QUANTIZE", [tensor], [stored]))
            ops.append(Op("DEQUANTIZE", [stored], [real]))
            passed[id(tensor)] = blend(tensor, real, gate, tensor.name)
    outputs = [passed.get(id(t), t) for t in graph.outputs]
    names = [*graph.signature_inputs, "gates"]
    return replace(
        graph, inputs=[*graph.inputs, gates], outputs=outputs, ops=ops, signature_inputs=names
    ), layers


@dataclass(frozen=True)
class Mixed:
    """A graph of mixed precision: the layers that are not int8, and the share of MACs that is."""

    quantized: Quantized
    raised: tuple[Sensitivity, ...]
    int8_share: float
    met: bool


def search_mixed(
    graph: Graph,
    settings: Settings,
    samples: Sequence[Sample],
    meets: Callable[[Graph], bool],
    raised_to: Literal["int16", "float"] = "int16",
) -> Mixed:
    """Raise the most sensitive layers, as few as `meets` asks for (by bisection along their ranking).

    Layers without an int16 kernel go to float. `met` is False where not even all of them suffice.
    """
    planned, seen = _calibrated(graph, settings, samples)
    ranking = _ranked(planned, assign_grids(planned, seen.ranges), settings, samples)
    ops = {op.outputs[0].name: op for op in planned.graph.ops}

    def build(count: int) -> Quantized:
        names = [layer.name for layer in ranking[:count]]
        wide = {n for n in names if raised_to == "int16" and TFLITE.has_kernel(ops[n], INT16)}
        mixed = replace(settings, widen=frozenset(wide), keep=frozenset(names) - wide)
        return finish(plan_for(planned.graph, mixed), seen, mixed)

    low, high = 0, len(ranking)
    while low < high:
        middle = (low + high) // 2
        if meets(build(middle).graph):
            high = middle
        else:
            low = middle + 1
    chosen = build(low)
    total = sum(macs(op) for op in planned.graph.ops) or 1
    wide_macs = sum(layer.macs for layer in ranking[:low])
    return Mixed(chosen, tuple(ranking[:low]), 1 - wide_macs / total, meets(chosen.graph))


def at_least(
    graph: Graph, samples: Sequence[Sample], sqnr_db: float | None = None, psnr_db: float | None = None
) -> Callable[[Graph], bool]:
    """Whether every output of a graph has an SQNR and a PSNR of at least so many decibel against `graph`."""
    reference = list(Runner(graph).run(samples))

    def meets(found: Graph) -> bool:
        outputs = fidelity(found, reference, samples)
        enough = sqnr_db is None or worst_sqnr(outputs) >= sqnr_db
        peaks = [o.psnr_db for o in outputs if o.psnr_db is not None]
        return enough and (psnr_db is None or all(peak >= psnr_db for peak in peaks))

    return meets
