"""Graphs of one operator each: how an oracle is asked about every operator of a graph."""

from __future__ import annotations

from dataclasses import replace

from convkit.dialects.tflite.graph import Graph, Op, Tensor


def folded_constants(graph: Graph) -> dict[int, Op]:
    """The DEQUANTIZE operators that read a constant, by id of their output: delegates fold them."""
    return {
        id(op.output): op
        for op in graph.ops
        if op.code == "DEQUANTIZE" and op.inputs[0] is not None and op.inputs[0].is_constant
    }


def isolate(op: Op, folded: dict[int, Op]) -> Graph:
    """A graph of `op` alone; what it reads is a graph input, a constant, or a DEQUANTIZE in `folded`.

    Tensors are renamed by position, so equal operators give equal graphs.
    """
    renamed: dict[int, Tensor] = {}

    def rename(tensor: Tensor) -> Tensor:
        if id(tensor) not in renamed:
            copy = Tensor(f"t{len(renamed)}", tensor.shape, tensor.dtype, tensor.data, tensor.quantization)
            renamed[id(tensor)] = copy
        return renamed[id(tensor)]

    read = {id(t): t for t in op.inputs if t is not None}
    ops = [folded[key] for key in read if key in folded] if op.code != "DEQUANTIZE" else []
    copies = [
        replace(o, inputs=[t and rename(t) for t in o.inputs], outputs=[rename(t) for t in o.outputs])
        for o in (*ops, op)
    ]
    inputs = [rename(t) for key, t in read.items() if not t.is_constant and key not in folded]
    outputs = [rename(t) for t in op.outputs]
    return Graph(inputs, outputs, copies, [t.name for t in inputs], [t.name for t in outputs])
