"""Layout assignment: store every tensor so that the TRANSPOSEs left move the fewest bytes.

A TRANSPOSE computes nothing: its result is the same value under other axis names. So the graph is
read as values, each with the operators that make and use it, and an operator either wants its
tensors in one order or can run in several (`axes`). A value costs its bytes once for every order
it is wanted in beyond the first; the orders that make the sum least are found by expansion moves
(Boykov, Veksler, Zabih, PAMI 2001; with label costs, Delong et al., IJCV 2012): one order is
proposed to a whole region, and a minimum cut says exactly which operators had better take it.
With two orders in play, one move is the optimum.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from convkit.dialects.tflite.axes import Axes, Mode, axes_of, slot_tensors
from convkit.dialects.tflite.graph import Graph, Op, Tensor
from convkit.dialects.tflite.mincut import INFINITE, FlowNetwork
from convkit.dialects.tflite.movement import renaming
from convkit.dialects.tflite.storage import Form, Perm, compose, form, identity, inverse

IoLayout = Literal["keep", "nhwc"]

CHANNELS_LAST: Perm = (0, 2, 3, 1)
_BYTE = 1 << 10  # what moving one byte costs; a RESHAPE or the existence of a TRANSPOSE costs 1
_ROUNDS = 4
_NO_VALUE = -1  # stands for a constant
_PROPOSALS_PER_VALUE = 8


@dataclass(frozen=True, slots=True)
class InterfaceAxes:
    """A graph input or output that may be stored in one of `choices`."""

    choices: tuple[Perm, ...]
    slots: tuple[int, ...] = (0,)

    def follow(self, slot: int, perm: Perm, now: Mode) -> Mode | None:
        """See `Axes`."""
        return (perm,) if perm in self.choices else None


@dataclass(eq=False, slots=True)
class Node:
    """A group of slots that move together: the whole or a part of an operator, or the interface."""

    op: Op | None
    axes: Axes
    values: tuple[int, ...]
    namings: tuple[Perm, ...]
    """For each slot, which axis of the value each axis of the slot's tensor is."""
    mode: Mode

    def form(self, slot: int, shape: tuple[int, ...], mode: Mode) -> Form:
        """What the slot wants of its value, of shape `shape`, when the node runs in `mode`."""
        return form(compose(self.namings[slot], mode[slot]), shape)


@dataclass(eq=False, slots=True)
class Value:
    """A runtime value: its first tensor, the others with their axis names, and who uses it."""

    tensor: Tensor
    aliases: list[tuple[Tensor, Perm]] = field(default_factory=list)
    uses: list[tuple[Node, int]] = field(default_factory=list)
    weight: int = 0
    """What one more order of it costs."""

    def forms(self) -> dict[Form, Perm]:
        """The forms it is wanted in now, each with one order that has it."""
        found: dict[Form, Perm] = {}
        for node, slot in self.uses:
            order = compose(node.namings[slot], node.mode[slot])
            found.setdefault(form(order, self.tensor.shape), order)
        return found


class LayoutProblem:
    """The values and nodes of a graph, with the modes chosen so far."""

    def __init__(self, graph: Graph, io_layout: IoLayout) -> None:
        self.graph = graph
        self.values: list[Value] = []
        self.nodes: list[Node] = []
        self.nodes_of: dict[int, list[Node]] = {}
        self._place: dict[int, tuple[int, Perm]] = {}
        self._readers: dict[int, list[Op]] = graph.consumers()
        self._results = {id(t) for t in graph.outputs}
        self._serial = 0  # of moves
        self._settled: dict[Node | None, tuple[int, set[Mode]]] = {}
        self._changed: dict[int, int] = {}
        self.inputs = [self._interface(t, io_layout) for t in graph.inputs]
        for op in graph.ops:
            self._add_operator(op)
        self.outputs = [self._interface(t, io_layout) for t in graph.outputs]
        for node in self.nodes:
            for slot, index in enumerate(node.values):
                if index != _NO_VALUE:
                    self.values[index].uses.append((node, slot))
        for value in self.values:
            # All else equal, it is the interface that is transposed and not what is inside.
            inside = all(node.op is not None for node, _ in value.uses)
            value.weight = value.tensor.nbytes * _BYTE + inside

    def place(self, tensor: Tensor) -> tuple[int, Perm]:
        """The value that `tensor` holds and which of its axes each axis of `tensor` is."""
        if id(tensor) not in self._place:
            self._place[id(tensor)] = (len(self.values), identity(tensor.rank))
            self.values.append(Value(tensor, [(tensor, identity(tensor.rank))]))
        return self._place[id(tensor)]

    def _interface(self, tensor: Tensor, io_layout: IoLayout) -> Node:
        choices: tuple[Perm, ...] = (identity(tensor.rank),)
        if io_layout == "nhwc" and tensor.rank == 4:
            choices += (CHANNELS_LAST,)
        return self._add_node(None, InterfaceAxes(choices), [tensor])

    def _add_operator(self, op: Op) -> None:
        if (renamed := renaming(op)) is not None:
            source, perm = renamed
            value, naming = self.place(source)
            naming = compose(naming, perm)
            self._place[id(op.output)] = (value, naming)
            self.values[value].aliases.append((op.output, naming))
            return
        tensors = slot_tensors(op)
        inside = not any(id(t) in self._results for t in op.outputs)
        readers = [reader for t in op.outputs for reader in self._readers.get(id(t), ())] if inside else []
        self.nodes_of[id(op)] = [
            self._add_node(op, axes, [t for k in axes.slots if (t := tensors[k]) is not None])
            for axes in axes_of(op, readers)
        ]

    def _add_node(self, op: Op | None, axes: Axes, tensors: list[Tensor]) -> Node:
        # Constants go along with whatever the runtime slots do, for nothing.
        kept = [self.place(t) if not t.is_constant else (_NO_VALUE, identity(t.rank)) for t in tensors]
        values = tuple(value for value, _ in kept)
        node = Node(op, axes, values, tuple(n for _, n in kept), tuple(identity(t.rank) for t in tensors))
        self.nodes.append(node)
        return node

    def solve(self) -> None:
        """Move to cheaper modes until nothing that is proposed is cheaper; never worse than sinking."""
        self._improve()
        found = [node.mode for node in self.nodes]
        cost = self.total_cost()
        if cost:
            self._sink()
            if self.total_cost() < cost:
                self._settled.clear()
                self._improve()
            else:
                for node, mode in zip(self.nodes, found, strict=True):
                    node.mode = mode

    def _sink(self) -> None:
        """Have every operator take its first input as it comes, as far as it can."""
        order_of: dict[int, Perm] = {}
        for node in self.nodes:
            node.mode = tuple(identity(len(naming)) for naming in node.namings)
            first = next((slot for slot, value in enumerate(node.values) if value in order_of), None)
            if first is not None:
                local = compose(inverse(node.namings[first]), order_of[node.values[first]])
                node.mode = node.axes.follow(first, local, node.mode) or node.mode
            for slot, value in enumerate(node.values):
                if value != _NO_VALUE:
                    order_of.setdefault(value, compose(node.namings[slot], node.mode[slot]))

    def _improve(self) -> None:
        for _ in range(_ROUNDS):
            visits: dict[int, set[Perm]] = {}
            improved = False
            for index, value in enumerate(self.values):
                wanted = value.forms()
                if len(wanted) < 2:
                    continue
                for order in wanted.values():
                    if order not in visits.get(index, ()):
                        improved |= self._move(Region(self, index, order, visits))
            if not improved:
                return

    def total_cost(self) -> int:
        """What all values cost with the modes as they are."""
        return sum(self.cost(index) for index in range(len(self.values)))

    def _move(self, region: Region) -> bool:
        """Take that part of a region's proposal that lowers the cost most, if any does."""
        touched = sorted({v for node in region.proposed for v in node.values if v != _NO_VALUE})
        if self._is_settled(region, touched):
            return False
        self._serial += 1
        before = sum(self.cost(v) for v in touched)
        chosen = {node: node.mode for node in region.cheapest(touched)}
        for node, mode in region.proposed.items():
            self._settled[node] = (self._serial, {node.mode, mode})
        for node in chosen:
            node.mode = region.proposed[node]
        if sum(self.cost(v) for v in touched) < before:
            self._changed.update(dict.fromkeys((v for node in chosen for v in node.values), self._serial))
            return True
        for node, mode in chosen.items():
            node.mode = mode
        return False

    def _is_settled(self, region: Region, touched: list[int]) -> bool:
        """Whether an earlier move has chosen between the same modes in the same surroundings."""
        serial, _ = self._settled.get(next(iter(region.proposed), None), (0, None))
        return all(
            self._settled.get(node) == (serial, {node.mode, mode}) for node, mode in region.proposed.items()
        ) and all(self._changed.get(value, 0) <= serial for value in touched)

    def cost(self, index: int) -> int:
        """What a value costs with the modes as they are."""
        value = self.values[index]
        forms = value.forms()
        wide = {axes for axes, _ in forms}
        return (len(wide) - 1) * value.weight + len(forms) - 1


class Region:
    """One order proposed for one value, and what everybody that it reaches would do about it."""

    def __init__(self, problem: LayoutProblem, start: int, order: Perm, visits: dict[int, set[Perm]]) -> None:
        self._problem = problem
        self.proposed: dict[Node, Mode] = {}
        asked: dict[int, Perm] = {start: order}
        queue = deque([start])
        while queue:
            index = queue.popleft()
            seen = visits.setdefault(index, set())
            if asked[index] in seen or len(seen) >= _PROPOSALS_PER_VALUE:
                continue
            seen.add(asked[index])
            for node, slot in problem.values[index].uses:
                for reached, wanted in self._ask(node, slot, asked[index]):
                    if reached not in asked:
                        asked[reached] = wanted
                        queue.append(reached)

    def _ask(self, node: Node, slot: int, order: Perm) -> Iterable[tuple[int, Perm]]:
        """Have `node` take `order` for a slot; the values of its other slots and their orders."""
        if node in self.proposed:
            return
        local = compose(inverse(node.namings[slot]), order)
        if local == node.mode[slot]:
            return
        mode = node.axes.follow(slot, local, node.mode)
        if mode is None or mode == node.mode:
            return
        self.proposed[node] = mode
        for other, value in enumerate(node.values):
            if value != _NO_VALUE and mode[other] != node.mode[other]:
                yield value, compose(node.namings[other], mode[other])

    def cheapest(self, touched: list[int]) -> list[Node]:
        """The nodes that take the proposal in the best partial acceptance of it.

        Wanting a form costs its weight once for all who want it. Network: the source's side keeps
        its mode, the sink's side changes.
        """
        network = FlowNetwork()
        node_of = {node: network.add_node() for node in self.proposed}
        contested = False
        for index in touched:
            for leaving, coming, weight in self._wishes(index):
                contested = contested or bool(coming)
                hub = network.add_node()
                if coming:
                    network.add_edge(FlowNetwork.SOURCE, hub, weight)
                else:
                    network.add_edge(hub, FlowNetwork.SINK, weight)
                for node in coming:
                    network.add_edge(hub, node_of[node], INFINITE)
                for node in leaving:
                    network.add_edge(node_of[node], hub, INFINITE)
        if not contested:
            return list(self.proposed)
        stays = network.source_side()
        return [node for node in self.proposed if not stays[node_of[node]]]

    def _wishes(self, index: int) -> Iterable[tuple[list[Node], list[Node], int]]:
        """For each form of a value whose need is open: who would leave it or come to it, and its weight."""
        value = self._problem.values[index]
        shape = value.tensor.shape
        for level, weight in ((0, value.weight), (1, 1)):
            leaving: dict[object, list[Node]] = {}
            coming: dict[object, list[Node]] = {}
            certain: set[object] = set()
            for node, slot in value.uses:
                wants: object = node.form(slot, shape, node.mode)
                would: object = node.form(slot, shape, self.proposed.get(node, node.mode))
                if level == 0:
                    wants, would = wants[0], would[0]  # type: ignore[index]
                if wants == would:
                    certain.add(wants)
                else:
                    leaving.setdefault(wants, []).append(node)
                    coming.setdefault(would, []).append(node)
            for wish in dict.fromkeys([*leaving, *coming]):
                # A form that some leave and others come to is taken to be needed in any case.
                if wish not in certain and (wish in leaving) != (wish in coming):
                    yield leaving.get(wish, []), coming.get(wish, []), weight
