"""Products taken apart: however the multiplications are nested, a coefficient and its factors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import onnx_ir as ir

from convkit.ir.facts import is_op, scalar, sole_user

_DEEPEST = 8


@dataclass(frozen=True, slots=True)
class Product:
    """coefficient * factors[0] * factors[1] * ...; `nodes` compute it."""

    coefficient: float
    factors: tuple[ir.Value, ...]
    nodes: tuple[ir.Node, ...]

    def without(self, *factors: ir.Value) -> tuple[ir.Value, ...] | None:
        """The other factors, or None if one of these is no factor."""
        rest = list(self.factors)
        for factor in factors:
            if factor not in rest:
                return None
            rest.remove(factor)
        return tuple(rest)


def product_of(value: ir.Value, *, depth: int = _DEEPEST, shared: bool = True) -> Product:
    """`value` as a product: Mul, Div and Neg by numbers, and powers with a small whole exponent, are opened.

    Below the top, only what nothing else reads is opened.
    """
    node = value.producer()
    if node is None or depth == 0 or (not shared and sole_user(value) is None):
        return Product(1.0, (value,), ())
    if is_op(node, "Neg"):
        return _times(-1.0, _open(node.inputs[0], depth), node)
    if is_op(node, "Div") and (divisor := scalar(node.inputs[1])):
        return _times(1 / divisor, _open(node.inputs[0], depth), node)
    if is_op(node, "Pow") and (power := scalar(node.inputs[1])) in (2, 3):
        base = node.inputs[0]
        assert base is not None
        return Product(1.0, (base,) * int(power), (node,))
    if not is_op(node, "Mul"):
        return Product(1.0, (value,), ())
    a, b = node.inputs
    for number, other in ((scalar(a), b), (scalar(b), a)):
        if number is not None:
            return _times(number, _open(other, depth), node)
    x, y = _open(a, depth), _open(b, depth)
    return Product(x.coefficient * y.coefficient, (*x.factors, *y.factors), (node, *x.nodes, *y.nodes))


def _open(value: ir.Value | None, depth: int) -> Product:
    assert value is not None
    return product_of(value, depth=depth - 1, shared=False)


def _times(number: float, product: Product, node: ir.Node) -> Product:
    return Product(number * product.coefficient, product.factors, (node, *product.nodes))


def is_close(a: float, b: float) -> bool:
    """Whether two constants are the same number, written with float32 precision."""
    return math.isclose(a, b, rel_tol=2e-6)


def sum_with(value: ir.Value, number: float) -> tuple[ir.Value, ir.Node] | None:
    """If `value` is `number + other`: the other summand, and the Add."""
    node = value.producer()
    if node is None or not is_op(node, "Add"):
        return None
    for a, b in (node.inputs, reversed(node.inputs)):
        found = scalar(a)
        if found is not None and b is not None and is_close(found, number):
            return b, node
    return None


def is_scaled(value: ir.Value, x: ir.Value) -> tuple[float, tuple[ir.Node, ...]] | None:
    """If `value` is a number times `x`: the number, and the nodes that multiply."""
    if value is x:
        return 1.0, ()
    product = product_of(value)
    return (product.coefficient, product.nodes) if product.factors == (x,) else None
