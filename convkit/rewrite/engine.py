"""The engine: rewrites to a fixpoint over a worklist, with a budget that proves it ends."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from convkit.diagnostics import Location, error
from convkit.ir.facts import is_constant
from convkit.ir.origin import merge_origins, origin_of
from convkit.rewrite.base import Match, NoMatch, Rewrite
from convkit.rewrite.rewriter import Names, Rewriter

# A law that makes room for another needs a few applications a node; far more means a cycle.
_APPLICATIONS_PER_NODE = 30


@dataclass(frozen=True, slots=True)
class Application:
    """One application of a rewrite: `before` and `after` are node names."""

    rewrite: Rewrite
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(slots=True)
class RewriteStats:
    """What a run did: applications in order."""

    applications: list[Application] = field(default_factory=list)

    @property
    def counts(self) -> Counter[str]:
        """Applications by rewrite name."""
        return Counter(a.rewrite.name for a in self.applications)


def apply_rewrites(
    graph: ir.Graph,
    rewrites: Iterable[Rewrite],
    *,
    only: Callable[[ir.Node], bool] | None = None,
    limit: int | None = None,
) -> RewriteStats:
    """Apply `rewrites` to the nodes of `graph` until none applies; earlier rewrites go first.

    `only` restricts the roots that are tried; `limit` stops after that many applications (for
    bisection). Raises ConvkitError "rewrite-cycle" when the rewrites undo each other.
    """
    table: dict[str, list[Rewrite]] = {}
    for rewrite in rewrites:
        for op_type in sorted(rewrite.roots):
            table.setdefault(op_type, []).append(rewrite)
    queue = deque(node for node in graph if node.op_type in table)
    queued = set(queue)
    budget = _APPLICATIONS_PER_NODE * (len(graph) + 100)
    stats = RewriteStats()
    names = Names(graph)

    while queue and (limit is None or len(stats.applications) < limit):
        node = queue.popleft()
        queued.discard(node)
        if node.graph is not graph or (only is not None and not only(node)):
            continue
        for rewrite in table[node.op_type]:
            found = rewrite.find(node)
            if isinstance(found, NoMatch):
                continue
            application, touched = _apply(graph, rewrite, *found, names)
            stats.applications.append(application)
            if len(stats.applications) > budget:
                raise _cycle(stats, node)
            for again in touched:
                if again.op_type in table and again not in queued and again.graph is graph:
                    queue.append(again)
                    queued.add(again)
            break
    return stats


def _apply(
    graph: ir.Graph, rewrite: Rewrite, match: Match, facts: object, names: Names
) -> tuple[Application, list[ir.Node]]:
    """Build the right-hand side, put it in place, drop what became dead."""
    root = match.root
    origin = merge_origins(match.nodes).through(rewrite.id)
    rw = Rewriter(graph, root, origin, names)
    built = rewrite.rewrite(rw, match, **facts)  # type: ignore[arg-type]
    results: Sequence[ir.Value] = [built] if isinstance(built, ir.Value) else list(built)
    if len(results) != len(root.outputs):
        raise TypeError(f"{rewrite.id} gave {len(results)} values for {len(root.outputs)} outputs")
    before = tuple(node.name or node.op_type for node in match.nodes)
    readers = [use.node for old in root.outputs for use in old.uses()]
    for old, new in zip(root.outputs, results, strict=True):
        _replace(rw, old, new)
    producers = [v.producer() for node in match.nodes for v in node.inputs if v is not None]
    for node in match.nodes:
        remove_if_dead(graph, node)
    # What made the new operands may match now that its readers changed, and readers of readers.
    around = [v.producer() for node in rw.added for v in node.inputs if v is not None]
    touched = [n for n in (*producers, *around, *rw.added, *readers) if n is not None]
    after = tuple(node.name or node.op_type for node in rw.added)
    return Application(rewrite, before, after), list(dict.fromkeys(touched))


def _replace(rw: Rewriter, old: ir.Value, new: ir.Value) -> None:
    """Let every reader of `old` read `new`; an interface value keeps its name."""
    if new is old:
        return
    if new.shape is not None and old.shape is not None and new.shape != old.shape:
        raise TypeError(f"a rewrite changed the shape of {old.name!r}: {old.shape} to {new.shape}")
    if old.is_graph_output():
        if new.is_graph_input() or new.is_graph_output() or is_constant(new):
            new = rw.interface(new)
        name, old.name = old.name, None
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        new.name = name
        return
    old.replace_all_uses_with(new)
    producer = new.producer()
    if producer is not None and producer in rw.added:
        name, old.name = old.name, None
        new.name = name


def remove_if_dead(graph: ir.Graph, node: ir.Node) -> None:
    """Remove `node` if nothing reads it, then whatever only it read."""
    stack = [node]
    while stack:
        dead = stack.pop()
        if dead.graph is not graph:
            continue
        if any(v.uses() or v.is_graph_output() for v in dead.outputs):
            continue
        inputs = [v for v in dead.inputs if v is not None]
        graph.remove(dead, safe=True)
        for value in dict.fromkeys(inputs):
            if value.uses() or value.is_graph_output():
                continue
            producer = value.producer()
            if producer is not None:
                stack.append(producer)
            elif is_constant(value) and value.name in graph.initializers:
                del graph.initializers[value.name]


def _cycle(stats: RewriteStats, node: ir.Node) -> Exception:
    recent = Counter(a.rewrite.name for a in stats.applications[-1000:])
    names = ", ".join(name for name, _ in recent.most_common(4))
    return error(
        "rewrite-cycle",
        f"rewrites do not come to an end; the last ones were {names}",
        location=Location(node=", ".join(origin_of(node).nodes) or node.name),
        help="this is a fault of these rewrites: run with --bisect and report it",
    )
