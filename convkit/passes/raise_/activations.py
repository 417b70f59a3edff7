"""Activations that were spelled out, as the one operator they are."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import onnx_ir as ir

from convkit.ir.facts import attr, dtype_of, input_at, is_op, scalar, shape_of
from convkit.passes.raise_.products import Product, is_close, is_scaled, product_of, sum_with
from convkit.passes.walking import WalkingRewrite
from convkit.rewrite import Exactness, Facts, Match, NoMatch, Pattern, Rewrite, Rewriter, register


class _Gated(WalkingRewrite):
    """x * gate(x) * coefficient, the multiplications in any order; subclasses know their gate."""

    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, a: Any, b: Any) -> Pattern:
        return op.any_of(op.Mul(a, b), op.Div(a, b))

    def check(self, match: Match) -> Facts | NoMatch:
        value = match.root.outputs[0]
        if not dtype_of(value).is_floating_point():
            return NoMatch("it is no floating point", match.root)
        product = product_of(value)
        if len(product.factors) != 2:
            return NoMatch("it is no product of two factors and numbers", match.root)
        for x, gate in (product.factors, product.factors[::-1]):
            if shape_of(x) != shape_of(value) or is_op(x.producer(), "Erf"):
                continue
            facts = self.gate(x, gate, product)
            if facts is not None:
                return {**facts, "x": x, "walked": (*product.nodes, *facts["walked"])}
        return NoMatch("no factor is the gate of the other", match.root)

    @abstractmethod
    def gate(self, x: ir.Value, gate: ir.Value, product: Product) -> dict[str, Any] | None:
        """The facts if `gate` is the gate of `x`; `walked` holds its nodes."""


@register
class RaiseGelu(_Gated):
    """x (1 + erf(x / sqrt 2)) / 2, the Gaussian error linear unit (Hendrycks and Gimpel 2016)."""

    id = "CK-RAISE-001"
    name = "raise-gelu"
    law = "x * (1 + Erf(x / sqrt 2)) / 2 = Gelu(x)"

    def gate(self, x: ir.Value, gate: ir.Value, product: Product) -> dict[str, Any] | None:
        found = sum_with(gate, 1.0)
        scale = 0.5
        if found is None and (found := sum_with(gate, 0.5)) is not None:
            scale = 1.0  # 1/2 + erf(...) / 2
            half = product_of(found[0])
            if not is_close(half.coefficient, 0.5) or len(half.factors) != 1:
                return None
            found = half.factors[0], found[1]
        if found is None or not is_close(product.coefficient, scale):
            return None
        erf = found[0].producer()
        inner = is_scaled(_operand(erf), x) if erf is not None and is_op(erf, "Erf") else None
        if erf is None or inner is None or not is_close(inner[0], math.sqrt(0.5)):
            return None
        return {"walked": (found[1], erf, *inner[1])}

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value) -> ir.Value:
        return rw.op("Gelu", x, approximate="none")


@register
class RaiseTanhGelu(_Gated):
    """The tanh approximation of the Gaussian error linear unit, which is an operator of its own."""

    id = "CK-RAISE-002"
    name = "raise-tanh-gelu"
    law = "x * (1 + Tanh(sqrt(2/pi) * (x + 0.044715 x^3))) / 2 = Gelu(x, tanh)"

    def gate(self, x: ir.Value, gate: ir.Value, product: Product) -> dict[str, Any] | None:
        found = sum_with(gate, 1.0)
        if found is None or not is_close(product.coefficient, 0.5):
            return None
        tanh = found[0].producer()
        inside = product_of(_operand(tanh)) if tanh is not None and is_op(tanh, "Tanh") else None
        if tanh is None or inside is None or not is_close(inside.coefficient, math.sqrt(2 / math.pi)):
            return None
        outer = inside.without(x)
        cubic = _cubic(inside.factors[0], x) if len(inside.factors) == 1 else None
        if outer is not None and len(outer) == 1 and (one := sum_with(outer[0], 1.0)) is not None:
            square = product_of(one[0])
            if square.factors == (x, x) and is_close(square.coefficient, 0.044715):
                cubic = (one[1], *square.nodes)
        return None if cubic is None else {"walked": (found[1], tanh, *inside.nodes, *cubic)}

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value) -> ir.Value:
        return rw.op("Gelu", x, approximate="tanh")


def _cubic(value: ir.Value, x: ir.Value) -> tuple[ir.Node, ...] | None:
    """The nodes of x + 0.044715 x^3, or None."""
    node = value.producer()
    if node is None or not is_op(node, "Add") or x not in node.inputs:
        return None
    other = node.inputs[1] if node.inputs[0] is x else node.inputs[0]
    assert other is not None
    cube = product_of(other)
    if is_close(cube.coefficient, 0.044715) and _is_cube(cube, x):
        return (node, *cube.nodes)
    return None


def _is_cube(product: Product, x: ir.Value) -> bool:
    flat: list[ir.Value] = []
    for factor in product.factors:
        inner = product_of(factor) if factor is not x else None
        flat += inner.factors if inner is not None and inner.coefficient == 1 else (factor,)
    return flat == [x, x, x]


@register
class RaiseSwish(_Gated):
    """x sigmoid(x), also called SiLU; with a factor inside it is the sigmoid form of GELU."""

    id = "CK-RAISE-003"
    name = "raise-swish"
    law = "x * Sigmoid(a x) = Swish(x, a)"

    def gate(self, x: ir.Value, gate: ir.Value, product: Product) -> dict[str, Any] | None:
        node = gate.producer()
        if node is None or not is_op(node, "Sigmoid") or product.coefficient != 1:
            return None
        inner = is_scaled(_operand(node), x)
        return None if inner is None else {"walked": (node, *inner[1]), "alpha": inner[0]}

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value, alpha: float) -> ir.Value:
        return rw.op("Swish", x, alpha=alpha)


@register
class RaiseHardSwish(_Gated):
    """x clip(x + 3, 0, 6) / 6 (Howard et al. 2019), whether the gate is a Clip or a HardSigmoid."""

    id = "CK-RAISE-004"
    name = "raise-hardswish"
    law = "x * Clip(x + 3, 0, 6) / 6 = HardSwish(x)"

    def gate(self, x: ir.Value, gate: ir.Value, product: Product) -> dict[str, Any] | None:
        found = hard_gate(gate)
        if found is None:
            return None
        inner, alpha, beta, top, nodes = found
        c = product.coefficient
        if inner is not x or not (
            is_close(alpha * c, 1 / 6) and is_close(beta * c, 0.5) and is_close(top * c, 1)
        ):
            return None
        return {"walked": nodes}

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value) -> ir.Value:
        return rw.op("HardSwish", x)


@register
class RaiseMish(_Gated):
    """x tanh(softplus(x)) (Misra 2019)."""

    id = "CK-RAISE-005"
    name = "raise-mish"
    law = "x * Tanh(Softplus(x)) = Mish(x)"

    def gate(self, x: ir.Value, gate: ir.Value, product: Product) -> dict[str, Any] | None:
        tanh = gate.producer()
        plus = _operand(tanh).producer() if tanh is not None and is_op(tanh, "Tanh") else None
        if tanh is None or plus is None or not is_op(plus, "Softplus") or product.coefficient != 1:
            return None
        return {"walked": (tanh, plus)} if plus.inputs[0] is x else None

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value) -> ir.Value:
        return rw.op("Mish", x)


def hard_gate(value: ir.Value) -> tuple[ir.Value, float, float, float, tuple[ir.Node, ...]] | None:
    """`value` = clip(alpha x + beta, 0, top): x, alpha, beta, top and the nodes; None if it is none."""
    node = value.producer()
    if node is None:
        return None
    if is_op(node, "HardSigmoid"):
        return _operand(node), attr(node, "alpha", 0.2), attr(node, "beta", 0.5), 1.0, (node,)
    if not is_op(node, "Clip") or scalar(input_at(node, 1)) != 0:
        return None
    top, shifted = scalar(input_at(node, 2)), _operand(node).producer()
    if top is None or top <= 0 or shifted is None or not is_op(shifted, "Add"):
        return None
    for a, b in (shifted.inputs, reversed(shifted.inputs)):
        beta = scalar(b)
        if beta is None or a is None:
            continue
        inner = product_of(a)
        if len(inner.factors) == 1 and inner.coefficient > 0:
            return inner.factors[0], inner.coefficient, beta, top, (node, shifted, *inner.nodes)
        return a, 1.0, beta, top, (node, shifted)
    return None


@register
class RaiseHardSigmoid(WalkingRewrite):
    """clip(x + 3, 0, 6) / 6 is one operator that every target knows how to spell."""

    id = "CK-RAISE-006"
    name = "raise-hardsigmoid"
    law = "Clip(a x + b, 0, c) / c = HardSigmoid(x, a/c, b/c)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, a: Any, b: Any = None, c: Any = None) -> Pattern:
        return op.any_of(op.Mul(a, b), op.Div(a, b), op.Clip(a, b, c))

    def check(self, match: Match) -> Facts | NoMatch:
        product = product_of(match.root.outputs[0])
        found = hard_gate(product.factors[0]) if len(product.factors) == 1 else None
        if found is None:
            return NoMatch("it is no clipped line", match.root)
        x, alpha, beta, top, nodes = found
        if not is_close(top * product.coefficient, 1) or is_op(match.root, "HardSigmoid"):
            return NoMatch("its upper bound is not one", match.root)
        if shape_of(x) != shape_of(match.root.outputs[0]):
            return NoMatch("a number broadcasts its operand", match.root)
        c = product.coefficient
        return {"x": x, "alpha": alpha * c, "beta": beta * c, "walked": (*product.nodes, *nodes)}

    def rewrite(self, rw: Rewriter, match: Match, *, x: ir.Value, alpha: float, beta: float) -> ir.Value:
        return rw.op("HardSigmoid", x, alpha=alpha, beta=beta)


@register
class RaiseClip(Rewrite):
    """Bounds set one after the other are one Clip."""

    id = "CK-RAISE-007"
    name = "raise-clip"
    law = "Min(Max(x, a), b) = Clip(x, a, b)"
    exactness = Exactness.BITEXACT

    def pattern(self, op: Any, x: Any, a: Any, b: Any) -> Pattern:
        low = op.any_of(op.Max(x, op.const(a)), op.Clip(x, op.const(a)), op.Relu(x))
        return op.Min(low, op.const(b))

    def check(self, match: Match) -> Facts | NoMatch:
        low = 0.0 if match.get("a") is None else scalar(match["a"])
        high = scalar(match["b"])
        if low is None or high is None or low > high:
            return NoMatch("the bounds are not two numbers in order", match.root)
        if shape_of(match["x"]) != shape_of(match.root.outputs[0]):
            return NoMatch("a bound broadcasts its operand", match.root)
        return {"low": low, "high": high}

    def rewrite(self, rw: Rewriter, match: Match, *, low: float, high: float) -> ir.Value:
        kind = dtype_of(match["x"]).numpy()
        return rw.op("Clip", match["x"], rw.const(kind.type(low)), rw.const(kind.type(high)))


@register
class RaiseSoftplus(Rewrite):
    """log(1 + exp(x)), which overflows as it is spelled and does not as an operator."""

    id = "CK-RAISE-009"
    name = "raise-softplus"
    law = "Log(1 + Exp(x)) = Softplus(x)"
    exactness = Exactness.REASSOCIATED

    def pattern(self, op: Any, x: Any) -> Pattern:
        return op.Log(op.Add(op.Exp(x), 1.0))

    def rewrite(self, rw: Rewriter, match: Match) -> ir.Value:
        return rw.op("Softplus", match["x"])


def _operand(node: ir.Node | None) -> ir.Value:
    """The data operand of a node that has one."""
    assert node is not None
    value = node.inputs[0]
    assert value is not None
    return value
