"""Oracle `xnnpack`: which operators XNNPACK takes inside LiteRT's interpreter (wheel `ai-edge-litert`).

The interpreter lists the original operators and, after them, one DELEGATE per partition: an operator
is XNNPACK's if it lies between the inputs and the outputs of a DELEGATE.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from convkit.dialects.tflite.graph import Graph
from convkit.dialects.tflite.writer import serialize


@dataclass(frozen=True)
class CpuAnswer:
    """Whether XNNPACK takes each operator, in order; `error` where the interpreter refuses the model."""

    taken: tuple[bool, ...]
    error: str | None = None


def ask(graph: Graph) -> CpuAnswer:
    """Load `graph` in LiteRT's interpreter, with its default delegate, and see what was taken."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_content=bytes(serialize(graph)), num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as problem:
        return CpuAnswer((False,) * len(graph.ops), str(problem))
    listed = interpreter._get_ops_details()
    producer = {int(t): op["index"] for op in listed[: len(graph.ops)] for t in op["outputs"]}
    reads = {op["index"]: [int(t) for t in op["inputs"]] for op in listed[: len(graph.ops)]}
    taken: set[int] = set()
    for delegate in listed[len(graph.ops) :]:
        taken |= _between(delegate["inputs"], delegate["outputs"], producer, reads)
    return CpuAnswer(tuple(index in taken for index in range(len(graph.ops))))


def _between(
    inputs: Iterable[int], outputs: Iterable[int], producer: dict[int, int], reads: dict[int, list[int]]
) -> set[int]:
    """The operators that make `outputs` out of `inputs`."""
    known = {int(t) for t in inputs}
    open_tensors = [int(t) for t in outputs]
    found: set[int] = set()
    while open_tensors:
        tensor = open_tensors.pop()
        op = producer.get(tensor)
        if tensor in known or op is None or op in found:
            continue
        found.add(op)
        open_tensors += reads[op]
    return found
