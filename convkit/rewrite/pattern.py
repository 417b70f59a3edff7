"""Patterns: a shape of operators, written as if calling them, matched against a graph.

    def pattern(self, op, x, w, scale, bias, mean, var):
        return op.BatchNormalization(op.Conv(x, w), scale, bias, mean, var)

Every parameter after `op` is a variable: it stands for any value, and for the same value wherever
it is repeated. A parameter with the default None may be absent from the node; `op.const(x)` is the
variable bound to constants only. A number stands for a constant of one element that equals it in
float32. The operands of commutative operators are tried in both orders. `op.any_of(p, q)` tries p, then
q. A pattern can match in several ways: they are tried in order until the side conditions hold.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from convkit.ir.facts import is_constant, scalar

_COMMUTATIVE = frozenset({"Add", "Mul", "Max", "Min", "And", "Or", "Xor", "Equal", "Sum"})


@dataclass(frozen=True, slots=True)
class Var:
    """Any value; the same one wherever the name is repeated."""

    name: str
    optional: bool = False
    constant: bool = False


@dataclass(frozen=True, slots=True)
class OpPattern:
    """A node of one operator type with these inputs and attribute values; `name` binds the node."""

    op_type: str
    inputs: tuple[Pattern, ...]
    name: str | None = None
    domain: str = ""
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AnyOf:
    """The first alternative that matches."""

    alternatives: tuple[Pattern, ...]


Pattern = Var | OpPattern | AnyOf | float


class Ops:
    """Makes OpPatterns: `op.Conv(x, w, name="conv", group=1)`; keywords are attribute values."""

    def __getattr__(self, op_type: str) -> Callable[..., OpPattern]:
        def make(*inputs: Pattern, name: str | None = None, domain: str = "", **attributes: Any) -> OpPattern:
            return OpPattern(op_type, inputs, name, domain, attributes)

        return make

    @staticmethod
    def const(variable: Var) -> Var:
        """The variable, bound to a constant only."""
        return replace(variable, constant=True)

    @staticmethod
    def any_of(*alternatives: Pattern) -> AnyOf:
        """A choice of patterns."""
        return AnyOf(alternatives)


def build_pattern(function: Callable[..., Pattern]) -> Pattern:
    """Call a rewrite's `pattern` with a Var for each of its parameters."""
    parameters = list(inspect.signature(function).parameters.values())[1:]
    return function(Ops(), *(Var(p.name, p.default is None) for p in parameters))


def root_types(pattern: Pattern) -> frozenset[str]:
    """The operator types that a match can be rooted at."""
    if isinstance(pattern, OpPattern):
        return frozenset({pattern.op_type})
    if isinstance(pattern, AnyOf):
        return frozenset().union(*(root_types(p) for p in pattern.alternatives))
    raise TypeError("a pattern must be an operator")


@dataclass(frozen=True, slots=True)
class Match:
    """What a pattern matched: values by variable, nodes by name, all nodes with the root first."""

    root: ir.Node
    values: Mapping[str, ir.Value | None]
    named: Mapping[str, ir.Node]
    nodes: tuple[ir.Node, ...]

    def __getitem__(self, variable: str) -> ir.Value:
        """The value a variable stands for; KeyError where it is absent."""
        value = self.values[variable]
        if value is None:
            raise KeyError(variable)
        return value

    def get(self, variable: str) -> ir.Value | None:
        """The value a variable stands for, or None where the input is absent."""
        return self.values.get(variable)

    def node(self, name: str) -> ir.Node:
        """The node bound by `name=` in the pattern."""
        return self.named[name]


@dataclass(frozen=True, slots=True)
class _State:
    """Bindings so far; extended by copying, so that an alternative can be given up."""

    values: dict[str, ir.Value | None]
    named: dict[str, ir.Node]
    nodes: tuple[ir.Node, ...]


def matches_at(pattern: Pattern, root: ir.Node) -> Iterator[Match]:
    """Every way in which `pattern` matches with its root at `root`."""
    for state in _match_node(pattern, root, _State({}, {}, ())):
        yield Match(root, state.values, state.named, tuple(dict.fromkeys(state.nodes)))


def _match_node(pattern: Pattern, node: ir.Node, state: _State) -> Iterator[_State]:
    if isinstance(pattern, AnyOf):
        for alternative in pattern.alternatives:
            if not isinstance(alternative, OpPattern) or alternative.op_type == node.op_type:
                yield from _match_node(alternative, node, state)
        return
    if not isinstance(pattern, OpPattern):
        return
    if node.op_type != pattern.op_type or node.domain != pattern.domain:
        return
    for name, wanted in pattern.attributes.items():
        found = node.attributes.get(name)
        value = None if found is None else found.value
        if (tuple(value) if isinstance(value, (list, tuple)) else value) != wanted:
            return
    named = state.named if pattern.name is None else {**state.named, pattern.name: node}
    bound = _State(state.values, named, (*state.nodes, node))
    inputs = list(node.inputs)
    yield from _match_inputs(pattern.inputs, inputs, bound)
    if pattern.op_type in _COMMUTATIVE and len(inputs) == 2 == len(pattern.inputs):
        yield from _match_inputs(pattern.inputs, inputs[::-1], bound)


def _match_inputs(
    patterns: tuple[Pattern, ...], inputs: list[ir.Value | None], state: _State
) -> Iterator[_State]:
    if not patterns:
        if not any(value is not None for value in inputs):
            yield state
        return
    value = inputs[0] if inputs else None
    for bound in _match_value(patterns[0], value, state):
        yield from _match_inputs(patterns[1:], inputs[1:], bound)


def _match_value(pattern: Pattern, value: ir.Value | None, state: _State) -> Iterator[_State]:
    if isinstance(pattern, Var):
        if (value is None and not pattern.optional) or (pattern.constant and not is_constant(value)):
            return
        if pattern.name not in state.values:
            yield _State({**state.values, pattern.name: value}, state.named, state.nodes)
        elif state.values[pattern.name] is value:
            yield state
    elif isinstance(pattern, AnyOf):
        for alternative in pattern.alternatives:
            yield from _match_value(alternative, value, state)
    elif isinstance(pattern, OpPattern):
        producer = None if value is None else value.producer()
        if producer is None or producer.op_type != pattern.op_type:
            return
        if value is not None and value.index() == 0:
            yield from _match_node(pattern, producer, state)
    else:
        found = scalar(value)
        if found is not None and np.float32(found) == np.float32(pattern):
            yield state
