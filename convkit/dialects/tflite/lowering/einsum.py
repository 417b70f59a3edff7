"""Einsum as a chain of matrix products."""

from __future__ import annotations

import math
from collections.abc import Collection

import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.matmul import multiply
from convkit.dialects.tflite.lowering.movement import permute
from convkit.dialects.tflite.lowering.reductions import reduce
from convkit.dialects.tflite.lowering.window import need_float32
from convkit.ir.facts import attr


def _parse(equation: str, ranks: list[int]) -> tuple[list[list[str]], list[str]]:
    """The labels of each operand and of the result; those of an ellipsis are "...0", "...1" and so on."""
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    hidden = [r - len(t.replace("...", "")) if "..." in t else 0 for t, r in zip(terms, ranks, strict=True)]
    deepest = max(hidden)

    def labels(term: str, count: int) -> list[str]:
        before, dots, after = term.partition("...")
        return [*before, *(f"...{i}" for i in range(deepest - count, deepest) if dots), *after]

    operands = [labels(term, count) for term, count in zip(terms, hidden)]
    if arrow:
        return operands, labels(right, deepest)
    named = [label for operand in operands for label in operand if len(label) == 1]
    once = sorted(label for label in set(named) if named.count(label) == 1)
    return operands, [*(f"...{i}" for i in range(deepest)), *once]


class _Term:
    """A tensor whose dimensions are labelled."""

    def __init__(self, b: Builder, tensor: Tensor, labels: list[str]) -> None:
        self.b, self.tensor, self.labels = b, tensor, labels

    def size(self, label: str) -> int:
        return self.tensor.shape[self.labels.index(label)]

    def ordered(self, labels: list[str]) -> Tensor:
        """The tensor with its dimensions in this order."""
        return permute(self.b, self.tensor, [self.labels.index(label) for label in labels])

    def summed(self, kept: Collection[str]) -> _Term:
        """The sum over all other labels."""
        axes = [i for i, label in enumerate(self.labels) if label not in kept]
        labels = [label for label in self.labels if label in kept]
        return _Term(self.b, reduce(self.b, "SUM", self.tensor, axes, keep=False), labels)

    def without_ones(self, stretched: Collection[str]) -> _Term:
        """Without dimensions of size 1 that another operand has in full."""
        labels = [x for x in self.labels if not (x in stretched and self.size(x) == 1)]
        shape = [self.size(x) for x in labels]
        return _Term(self.b, self.b.reshape(self.tensor, shape), labels)


def _contracted(b: Builder, x: _Term, y: _Term, needed: Collection[str]) -> _Term:
    """The product of two terms, summed over the shared labels that nobody needs any more."""
    x = x.summed({*needed, *y.labels})
    y = y.summed({*needed, *x.labels})
    if x.tensor.data is not None and y.tensor.data is None:
        x, y = y, x  # a constant on the right becomes weights
    shared = [label for label in x.labels if label in y.labels]
    batch = [label for label in shared if label in needed]
    inner = [label for label in shared if label not in needed]
    rows = [label for label in x.labels if label not in shared]
    columns = [label for label in y.labels if label not in shared]

    def packed(term: _Term, first: list[str], second: list[str]) -> Tensor:
        sizes = [math.prod(term.size(label) for label in group) for group in (batch, first, second)]
        return b.reshape(term.ordered(batch + first + second), sizes if batch else sizes[1:])

    left, right = packed(x, rows, inner), packed(y, inner, columns)
    z = multiply(b, left, right) if inner else b.binary("MUL", left, right)
    shape = [x.size(label) for label in batch + rows] + [y.size(label) for label in columns]
    return _Term(b, b.reshape(z, shape), batch + rows + columns)


@lowers("Einsum")
def einsum(b: Builder, node: ir.Node) -> Tensor:
    """Operands are multiplied from left to right, each label summed as soon as nothing needs it."""
    tensors = [b.tensor(v) for v in node.inputs if v is not None]
    need_float32(*tensors)
    labels, result = _parse(attr(node, "equation"), [t.rank for t in tensors])
    if any(len(set(names)) < len(names) for names in (*labels, result)):
        raise UnsupportedError("an operand repeats a label (a diagonal)")
    sizes: dict[str, int] = {}
    for tensor, names in zip(tensors, labels):
        for label, size in zip(names, tensor.shape, strict=True):
            sizes[label] = max(size, sizes.get(label, 1))
    stretched = {label for label, size in sizes.items() if size > 1}
    terms = [_Term(b, t, names).without_ones(stretched) for t, names in zip(tensors, labels)]
    term = terms[0]
    for at, other in enumerate(terms[1:], 2):
        needed = {*result, *(label for later in terms[at:] for label in later.labels)}
        term = _contracted(b, term, other, needed)
    return term.summed(result).ordered(result)
