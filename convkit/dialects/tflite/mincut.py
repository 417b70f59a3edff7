"""Minimum cut of a directed graph with integer capacities (Dinic's algorithm)."""

from __future__ import annotations

INFINITE = 1 << 62


class FlowNetwork:
    """A flow network; node 0 is the source and node 1 the sink."""

    SOURCE = 0
    SINK = 1

    def __init__(self) -> None:
        self._edges_of: list[list[int]] = [[], []]
        self._head: list[int] = []
        self._residual: list[int] = []  # edge e and its reverse e ^ 1 stand side by side

    def add_node(self) -> int:
        """A new node."""
        self._edges_of.append([])
        return len(self._edges_of) - 1

    def add_edge(self, tail: int, head: int, capacity: int) -> None:
        """An edge that costs `capacity` when `tail` is on the source's side and `head` is not."""
        for start, end, room in ((tail, head, capacity), (head, tail, 0)):
            self._edges_of[start].append(len(self._head))
            self._head.append(end)
            self._residual.append(room)

    def source_side(self) -> list[bool]:
        """For each node, whether it is on the source's side of the minimum cut nearest the source."""
        while (level := self._levels())[self.SINK] >= 0:
            self._augment(level)
        return [depth >= 0 for depth in level]

    def _levels(self) -> list[int]:
        level = [-1] * len(self._edges_of)
        level[self.SOURCE] = 0
        reached = [self.SOURCE]
        for node in reached:
            for edge in self._edges_of[node]:
                head = self._head[edge]
                if self._residual[edge] and level[head] < 0:
                    level[head] = level[node] + 1
                    reached.append(head)
        return level

    def _augment(self, level: list[int]) -> None:
        """Push a blocking flow through the layered network."""
        tried = [0] * len(self._edges_of)  # edges before this one lead nowhere any more
        path: list[int] = []
        node = self.SOURCE
        while True:
            if node == self.SINK:
                flow = min(self._residual[edge] for edge in path)
                for edge in path:
                    self._residual[edge] -= flow
                    self._residual[edge ^ 1] += flow
                # Go on from the first edge that is now full.
                full = next(i for i, edge in enumerate(path) if not self._residual[edge])
                node = self._head[path[full] ^ 1]
                del path[full:]
                continue
            edges = self._edges_of[node]
            while tried[node] < len(edges):
                edge = edges[tried[node]]
                if self._residual[edge] and level[self._head[edge]] == level[node] + 1:
                    break
                tried[node] += 1
            if tried[node] < len(edges):
                path.append(edge)
                node = self._head[edge]
            elif path:
                node = self._head[path.pop() ^ 1]
                tried[node] += 1
            else:
                return
