"""Two models side by side: output by output in their own runtimes, and layer by layer along their origins."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from convkit.diagnostics import error
from convkit.ir.facts import dtype_of, shape_of, sole_user
from convkit.ir.normal import normalize
from convkit.ir.origin import origin_of
from convkit.report.model import OutputError
from convkit.verify.inputs import Binding
from convkit.verify.numeric import FLOAT32_TOLERANCE, compare, run_reference
from convkit.verify.runners import Reference, RunError

if TYPE_CHECKING:
    from convkit.frontends import Imported

_ORDERS = ((0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1))
"""Axis orders in which one model may hold what the other holds: channels last, channels first."""

_FUSED = 4
"""How many operators that follow one another in one model may be a single one in the other."""


@dataclass(frozen=True)
class Difference:
    """What two models (their runtimes' names in `runtimes`) give on the same inputs (`inputs` says which).

    `outputs` and, if asked for, `layers` are in the first model's order; `name` is the first model's.
    """

    runtimes: tuple[str, str]
    inputs: str
    outputs: tuple[OutputError, ...]
    layers: tuple[OutputError, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every output is within tolerance."""
        return all(found.passed for found in self.outputs)

    @property
    def first_departure(self) -> OutputError | None:
        """The first layer beyond tolerance, None if there is none."""
        return next((layer for layer in self.layers if not layer.passed), None)


def diff_models(
    first: Imported,
    second: Imported,
    data: Path | None = None,
    *,
    layers: bool = False,
    tolerance: float = FLOAT32_TOLERANCE,
) -> Difference:
    """Run two models on the same inputs: those of an .npz by the first model's names, else random ones.

    Inputs and outputs are matched by name, else by position; a tensor with its channels elsewhere is brought
    into the first model's order. Raises ConvkitError "different-interfaces" where they cannot be matched.
    """
    bindings = tuple(
        Binding(v.name or "", shape_of(v), dtype_of(v).numpy()) for v in first.model.graph.inputs
    )
    run = run_reference(first.reference, bindings, data)
    feed = _matched(run.inputs, [(v.name or "", shape_of(v)) for v in second.model.graph.inputs], "input")
    typed = {v.name or "": feed[v.name or ""].astype(dtype_of(v).numpy()) for v in second.model.graph.inputs}
    try:
        given = second.reference.run(typed)
    except RunError as failed:
        raise error("reference-failed", f"the second model cannot run: {failed}") from failed
    shapes = [(name, array.shape) for name, array in run.outputs.items()]
    found = _matched(given, shapes, "output")
    outputs = tuple(
        compare(name, array, _like(found[name], array), tolerance) for name, array in run.outputs.items()
    )
    along = _layers(first.model, second.model, run.inputs, typed, tolerance) if layers else ()
    return Difference((run.runtime, second.reference.description), run.described, outputs, tuple(along))


def _like(array: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Integers of another width are the same numbers."""
    return array.astype(wanted.dtype) if array.dtype.kind == wanted.dtype.kind else array


def _matched(
    arrays: Mapping[str, np.ndarray], wanted: Sequence[tuple[str, tuple[int, ...]]], what: str
) -> dict[str, np.ndarray]:
    """The arrays under the names wanted, in the axis order wanted."""
    if len(arrays) != len(wanted):
        raise _different(f"one model has {len(arrays)} {what}s, the other {len(wanted)}")
    by_name = {name for name, _ in wanted} == set(arrays)
    found = {}
    for (name, shape), (own, array) in zip(wanted, arrays.items(), strict=True):
        chosen = arrays[name] if by_name else array
        turned = next(_turned(chosen, shape), None)
        if turned is None:
            raise _different(f"{what} {own!r} has shape {list(chosen.shape)}, {name!r} has {list(shape)}")
        found[name] = turned
    return found


def _different(why: str) -> Exception:
    return error("different-interfaces", f"the two models cannot be compared: {why}")


def _turned(array: np.ndarray, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """The array in every axis order that has this shape, its own first."""
    if array.shape == shape:
        yield array
    for order in _ORDERS:
        if len(order) == array.ndim and tuple(array.shape[i] for i in order) == shape:
            yield array.transpose(order)
    if array.shape != shape and array.size == np.prod(shape) and _squeezed(array.shape) == _squeezed(shape):
        yield array.reshape(shape)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(n for n in shape if n != 1)


def _layers(
    first: ir.Model,
    second: ir.Model,
    given: Mapping[str, np.ndarray],
    other: Mapping[str, np.ndarray],
    tolerance: float,
) -> Iterator[OutputError]:
    """The values that both models compute for the same imported node, in the first model's order.

    A node of one may be several of the other, such as a convolution and its activation: among the values
    that follow a node in the first model the one that is nearest is meant.
    """
    (one, mine), (two, theirs) = _run_all(first, given), _run_all(second, other)
    last = {key: value for node in two.graph for key in _keys(node) for value in node.outputs[:1]}
    done: set[ir.Value] = set()
    for node in one.graph:
        value = next((last[key] for key in _keys(node) if key in last), None)
        if value is None or value in done or not value.name or value.name not in theirs:
            continue
        candidates = [
            compare(node.name or "", mine[v.name], turned, tolerance)
            for v in _following(node.outputs[0])
            if v.name and v.name in mine and mine[v.name].dtype.kind == theirs[value.name].dtype.kind
            for turned in _turned(theirs[value.name], mine[v.name].shape)
        ]
        if candidates:
            done.add(value)
            yield min(candidates, key=lambda e: (not e.passed, e.max_rel))


def _keys(node: ir.Node) -> list[str]:
    """The names a node goes by, those of the imported nodes and of its output: whole, and without the last
    part, which names one of several operators that a node was lowered to."""
    names = (*origin_of(node).nodes, *(value.name for value in node.outputs[:1] if value.name))
    return [*names, *(name.rpartition("/")[0] for name in names if "/" in name)]


def _following(value: ir.Value) -> Iterator[ir.Value]:
    """The value, and what is made of it alone, step by step."""
    for _ in range(_FUSED):
        yield value
        node = sole_user(value)
        if node is None or len(node.outputs) != 1:
            return
        value = node.outputs[0]


def _run_all(model: ir.Model, inputs: Mapping[str, np.ndarray]) -> tuple[ir.Model, dict[str, np.ndarray]]:
    """The model in normal form, and every value it computes."""
    normal = model.clone()
    normalize(normal)
    probe = normal.clone()
    known = {value.name for value in probe.graph.outputs}
    for node in probe.graph:
        probe.graph.outputs.extend(v for v in node.outputs if v.name and v.name not in known and v.dtype)
    run = Reference(ir.to_proto(probe).SerializeToString()).run
    return normal, run(inputs)
