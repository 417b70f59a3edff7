"""What a model computes in float16: emulated in onnxruntime by rounding every value, and where it overflows.

Operators that sum over many values are spelled out first, as delegates compute them: the sum is a float16
value before it is divided, and so is the square before it is summed. Products of matrices and convolutions
are accumulated in float32 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import prod

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import attr, constant, ints, rank_of, shape_of
from convkit.ir.infer import infer_node
from convkit.ir.normal import spell_out_nodes
from convkit.ir.origin import origin_of
from convkit.rewrite.rewriter import Names, Rewriter
from convkit.verify.runners import Reference, give_back_memory

LARGEST = float(np.finfo(np.float16).max)
SMALLEST = 2.0**-24
"""The least positive float16; half of it rounds to zero."""

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Inner:
    """What an operator computes on the way, by its role: "sum", "squares" (a sum), "variance"."""

    node: ir.Node
    values: dict[str, ir.Value]


@dataclass
class Spelled:
    """A model with its sums spelled out; `inner` tells what came of which node of the original, `makers`
    which of its nodes a value belongs to, by the value's name."""

    model: ir.Model
    inner: list[Inner] = field(default_factory=list)
    makers: dict[str, ir.Node] = field(default_factory=dict)


def spell(model: ir.Model) -> Spelled:
    """The model with normalizations, means and softmax in the steps in which delegates compute them."""
    copy = model.clone()
    pairs = list(zip(copy.graph, model.graph, strict=True))
    names = Names(copy.graph)
    found = Spelled(copy)
    for node, original in pairs:
        made = _SPELLINGS.get(node.op_type) if node.domain == "" else None
        if made is not None:
            rw = Rewriter(copy.graph, node, origin_of(node), names)
            value, roles = made(rw, node)
            found.inner.append(Inner(original, roles))
            found.makers.update((v.name or "", original) for n in rw.added for v in n.outputs)
            old, name = node.outputs[0], node.outputs[0].name
            old.replace_all_uses_with(value, replace_graph_outputs=True)
            old.name, value.name = None, name
            if not any(v.uses() or v.is_graph_output() for v in node.outputs):
                copy.graph.remove(node, safe=True)
        found.makers.update((v.name or "", original) for v in original.outputs)
    spell_out_nodes(copy, [n for n in copy.graph if n.op_type == "Attention" and n.domain == ""])
    return found


Spelling = tuple[ir.Value, dict[str, ir.Value]]


def _axes(node: ir.Node) -> list[int]:
    rank = rank_of(node.inputs[0])  # type: ignore[arg-type]
    if node.op_type in ("LayerNormalization", "RMSNormalization"):
        return list(range(attr(node, "axis", -1) % rank, rank))
    if node.op_type in ("GlobalAveragePool", "InstanceNormalization"):
        return list(range(2, rank))
    axes = ints(node.inputs[1]) if len(node.inputs) > 1 else None
    return [a % rank for a in axes] if axes else list(range(rank))


def _mean(rw: Rewriter, x: ir.Value, axes: Sequence[int], keep: int = 1) -> tuple[ir.Value, ir.Value]:
    """The sum, and the mean."""
    count = prod(shape_of(x)[a] for a in axes)
    total = rw.op("ReduceSum", x, rw.ints(axes), keepdims=keep)
    return total, rw.op("Mul", total, rw.const(1 / count))


def _spelled_mean(rw: Rewriter, node: ir.Node) -> Spelling:
    x = node.inputs[0]
    assert x is not None
    total, mean = _mean(rw, x, _axes(node), attr(node, "keepdims", 1))
    return mean, {"sum": total}


def _spelled_norm(rw: Rewriter, node: ir.Node) -> Spelling:
    x, scale = node.inputs[0], node.inputs[1]
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    assert x is not None
    shape, axes, kept = shape_of(x), _axes(node), x
    roles: dict[str, ir.Value] = {}
    if node.op_type == "GroupNormalization":
        groups = attr(node, "num_groups")
        x = rw.op("Reshape", x, rw.ints([shape[0], groups, -1]))
        axes = [2]
    d = x
    if node.op_type != "RMSNormalization":
        roles["sum"], mean = _mean(rw, x, axes)
        d = rw.op("Sub", x, mean)
    roles["squares"], roles["variance"] = _mean(rw, rw.op("Mul", d, d), axes)
    shifted = rw.op("Add", roles["variance"], rw.const(float(attr(node, "epsilon", 1e-5))))
    y = rw.op("Div", d, rw.op("Sqrt", shifted))
    if node.op_type == "GroupNormalization":
        y = rw.op("Reshape", y, rw.ints(shape))
    for op_type, vector in (("Mul", scale), ("Add", bias)):
        if vector is not None:
            channels = node.op_type in ("GroupNormalization", "InstanceNormalization")
            along = [1, -1, *(1,) * (rank_of(kept) - 2)]
            y = rw.op(op_type, y, rw.op("Reshape", vector, rw.ints(along)) if channels else vector)
    return y, roles


def _spelled_softmax(rw: Rewriter, node: ir.Node) -> Spelling:
    x, axis = node.inputs[0], rw.ints([attr(node, "axis", -1)])
    assert x is not None
    power = rw.op("Exp", rw.op("Sub", x, rw.op("ReduceMax", x, axis, keepdims=1)))
    return rw.op("Div", power, rw.op("ReduceSum", power, axis, keepdims=1)), {}


_SPELLINGS: dict[str, Callable[[Rewriter, ir.Node], Spelling]] = {
    "ReduceMean": _spelled_mean,
    "GlobalAveragePool": _spelled_mean,
    "LayerNormalization": _spelled_norm,
    "RMSNormalization": _spelled_norm,
    "InstanceNormalization": _spelled_norm,
    "GroupNormalization": _spelled_norm,
    "Softmax": _spelled_softmax,
}


def emulated(model: ir.Model) -> ir.Model:
    """A model in normal form that computes, in float32, what float16 arithmetic would."""
    found = spell(model).model
    graph = found.graph
    for value in list(graph.initializers.values()):
        array = constant(value)
        if array is not None and array.dtype == np.float32:
            with np.errstate(over="ignore"):
                value.const_value = ir.Tensor(_half(array), name=value.name)
    for value in graph.inputs:
        first = next((n for n in graph), None)
        if value.dtype == ir.DataType.FLOAT and first is not None:
            _round(graph, value, partial(graph.insert_before, first))
    for node in list(graph):
        for value in node.outputs:
            if value.dtype == ir.DataType.FLOAT and node.op_type != "Cast":
                _round(graph, value, _Behind(graph, node))
    return found


def _half(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float16).astype(np.float32)


class _Behind:
    """Puts nodes behind a node, one behind the other."""

    def __init__(self, graph: ir.Graph, anchor: ir.Node) -> None:
        self._graph, self._anchor = graph, anchor

    def __call__(self, node: ir.Node) -> None:
        self._graph.insert_after(self._anchor, node)
        self._anchor = node


def _round(graph: ir.Graph, value: ir.Value, put: Callable[[ir.Node], object]) -> None:
    """Let everybody read `value` rounded to float16."""
    uses = list(value.uses())
    made, kinds = value, (ir.DataType.FLOAT16, ir.DataType.FLOAT)
    for kind in kinds:
        node = ir.node("Cast", [made], {"to": int(kind)}, name=f"{value.name}/{kind.name}")
        infer_node(node)
        node.outputs[0].name = f"{value.name}/{kind.name}"
        put(node)
        made = node.outputs[0]
    for use in uses:
        use.node.replace_input_with(use.idx, made)
    for at, output in enumerate(graph.outputs):
        if output is value and not value.is_graph_input():
            graph.outputs[at] = made
            value.name, made.name = f"{value.name}/exact", value.name


def run(model: ir.Model, samples: Iterable[Arrays]) -> dict[str, np.ndarray]:
    """Outputs by name, all samples along a new first axis."""
    reference = Reference(ir.to_proto(model).SerializeToString())
    runs = [reference.run(sample) for sample in samples]
    return {name: np.stack([found[name] for found in runs]) for name in runs[0]}


@dataclass(frozen=True)
class Extent:
    """The greatest and the least magnitude that a value takes."""

    largest: float
    smallest: float


def measure(spelled: Spelled, samples: Sequence[Arrays]) -> dict[str, Extent]:
    """The extent of every float value of a spelled model in float32, by name.

    It is taken inside the run, so that no more of the values is held than the run itself needs.
    """
    probe = spelled.model.clone()
    names = [
        v.name or ""
        for n in probe.graph
        for v in n.outputs
        if v.dtype == ir.DataType.FLOAT and 0 not in shape_of(v)
    ]
    values = {v.name: v for n in probe.graph for v in n.outputs}
    for name in names:
        size = _added(probe.graph, probe.graph.append, "Abs", values[name], f"{name}/size")
        for op_type in ("ReduceMax", "ReduceMin"):
            most = _added(probe.graph, probe.graph.append, op_type, size, f"{name}/{op_type}", keepdims=0)
            probe.graph.outputs.append(most)
    reference = Reference(ir.to_proto(probe).SerializeToString())
    found = dict.fromkeys(names, Extent(0.0, np.inf))
    for sample in samples:
        seen = reference.run(sample)
        for name, old in found.items():
            largest, smallest = (float(seen[f"{name}/{op}"]) for op in ("ReduceMax", "ReduceMin"))
            found[name] = Extent(max(old.largest, largest), min(old.smallest, smallest))
    return found


def bounds(model: ir.Model, nodes: Iterable[ir.Node], sample: Arrays) -> list[float]:
    """Upper bounds of what `nodes` of a model compute inside, in one run: the squares that a normalization
    sums, the sum that a mean divides, else the result."""
    wanted = {node.name: node for node in nodes}
    probe = model.clone()
    factors = []
    for node in [n for n in probe.graph if n.name in wanted]:
        name, x, y = node.name or "", node.inputs[0], node.outputs[0]
        assert x is not None
        put = _Behind(probe.graph, node)  # at once: what is read at the end is held until then
        if node.op_type.endswith("Normalization"):
            groups = attr(node, "num_groups", 0)
            axes = list(range(1, rank_of(x))) if groups else _axes(node)
            size = _added(probe.graph, put, "ReduceSumSquare", x, f"{name}/size", axes)
            factors.append(1.0)
        else:
            size = _added(probe.graph, put, "Abs", y, f"{name}/size")
            mean = node.op_type in ("GlobalAveragePool", "ReduceMean")
            factors.append(prod(shape_of(x)) / prod(shape_of(y)) if mean else 1.0)
        probe.graph.outputs.append(_added(probe.graph, put, "ReduceMax", size, f"{name}/most", keepdims=0))
    found = Reference(ir.to_proto(probe).SerializeToString()).run(sample)
    give_back_memory()
    most = [float(found[v.name or ""]) for v in probe.graph.outputs[-len(factors) :]]
    return [size * factor for size, factor in zip(most, factors, strict=True)]


def _added(
    graph: ir.Graph,
    put: Callable[[ir.Node], object],
    op_type: str,
    x: ir.Value,
    name: str,
    axes: Sequence[int] = (),
    **attributes: int,
) -> ir.Value:
    inputs = [x]
    if axes:
        along = ir.tensor(np.array(axes, np.int64), name=f"{name}/axes")
        inputs.append(
            ir.Value(
                name=along.name,
                shape=ir.Shape([len(axes)]),
                type=ir.TensorType(along.dtype),
                const_value=along,
            )
        )
        graph.register_initializer(inputs[1])
    node = ir.node(op_type, inputs, attributes, name=name)
    infer_node(node)
    node.outputs[0].name = name
    put(node)
    return node.outputs[0]
