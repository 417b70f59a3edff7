"""How TFLite cuts a graph into the partitions a delegate is given (tflite/graph_info.cc, delegates/utils.cc).

Operators are taken in execution order: the first one that is ready starts a subset of its own kind
(taken by the delegate, or not), which then swallows every operator of that kind that becomes ready.
The delegate is given the largest subsets of its kind.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from convkit.dialects.tflite.graph import Graph


def node_subsets(graph: Graph, taken: Sequence[bool]) -> list[tuple[bool, list[int]]]:
    """TFLite's subsets in order, each with whether the delegate takes it and the operators' indices."""
    producers = {id(t): index for index, op in enumerate(graph.ops) for t in op.outputs}
    waiting: list[int] = []
    readers: list[list[int]] = [[] for _ in graph.ops]
    ready: dict[bool, list[int]] = {True: [], False: []}
    for index, op in enumerate(graph.ops):
        needs = {producers[id(t)] for t in op.inputs if t is not None and id(t) in producers}
        waiting.append(len(needs))
        for producer in needs:
            readers[producer].append(index)
        if not needs:
            heapq.heappush(ready[taken[index]], index)
    subsets: list[tuple[bool, list[int]]] = []
    while ready[True] or ready[False]:
        kind = not ready[False] or (bool(ready[True]) and ready[True][0] < ready[False][0])
        members: list[int] = []
        while ready[kind]:
            index = heapq.heappop(ready[kind])
            members.append(index)
            for reader in readers[index]:
                waiting[reader] -= 1
                if waiting[reader] == 0:
                    heapq.heappush(ready[taken[reader]], reader)
        subsets.append((kind, sorted(members)))
    return subsets


def supported(graph: Graph, taken: Sequence[bool], folded: frozenset[int]) -> list[list[int]]:
    """The subsets that the delegate could be given, as indices of operators.

    `folded` are operators that cost nothing (DEQUANTIZE of a constant): they belong to the
    partitions that read them and do not count.
    """
    return [m for kind, members in node_subsets(graph, taken) if kind and (m := _real(members, folded))]


def largest(subsets: Sequence[list[int]], max_partitions: int, min_ops: int) -> list[list[int]]:
    """Those of `subsets` that the delegate is given, in graph order; `max_partitions` 0 means all."""
    large = [members for members in subsets if len(members) >= min_ops]
    if max_partitions:
        large = sorted(large, key=len, reverse=True)[:max_partitions]
    return sorted(large)


def delegated(
    graph: Graph, taken: Sequence[bool], max_partitions: int, min_ops: int, folded: frozenset[int]
) -> list[list[int]]:
    """The partitions the delegate gets, in graph order, as indices of operators (see the two above)."""
    return largest(supported(graph, taken, folded), max_partitions, min_ops)


def _real(members: list[int], folded: frozenset[int]) -> list[int]:
    return [index for index in members if index not in folded]
