"""Layout assignment on random graphs: the same numbers, and never more bytes than simpler ways move."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.dialects.tflite.assignment import LayoutProblem, Node
from convkit.dialects.tflite.axes import Mode
from convkit.dialects.tflite.graph import Graph, Tensor
from convkit.dialects.tflite.layout import LayoutStats, assign_layout, transposed_bytes
from convkit.dialects.tflite.materialize import fold_constant_transposes
from convkit.dialects.tflite.simplify import simplify
from convkit.dialects.tflite.storage import compose, identity
from tests.tflite_graphs import NaiveGraph, check_sound, count, random_feeds, run

MOVEMENT = ("transpose", "reshape", "slice", "strided", "pad", "concat", "gather", "split", "pack", "reverse")
ARITHMETIC = ("unary", "binary", "constant", "conv", "pool", "reduce", "softmax", "dense", "matmul", "tile")
STRUCTURAL = ("conv", "transpose", "reshape", "unary", "binary", "reduce", "slice", "attention", "residual")


class RandomGraph(NaiveGraph):
    """Grows a graph by random steps over the values it has so far."""

    def __init__(self, seed: int, kinds: tuple[str, ...]) -> None:
        super().__init__(seed)
        sizes = self.rng.integers(1, 6, 3).tolist()
        self.values = [self.feed(1, *sizes), self.feed(*self.rng.integers(1, 5, 3).tolist())]
        self.kinds = kinds
        self.used: set[int] = set()

    def grow(self, steps: int) -> Graph:
        for _ in range(steps):
            recent = self.values[-4:]
            x = recent[int(self.rng.integers(len(recent)))]
            if result := getattr(self, f"step_{self.rng.choice(self.kinds)}")(x):
                self.used.add(id(x))
                self.values.append(result)
        ends = [v for v in self.values if id(v) not in self.used and v not in self.feeds]
        return self.finish(*(ends[-4:] or [self.unary("ABS", self.values[0])]))

    def axis(self, x: Tensor) -> int:
        return int(self.rng.integers(x.rank))

    def step_unary(self, x: Tensor) -> Tensor:
        return self.unary(str(self.rng.choice(["ABS", "NEG", "TANH", "RELU"])), x)

    def step_binary(self, x: Tensor) -> Tensor | None:
        fits = [y for y in self.values if y.rank and _broadcasts(x, y)]
        y = fits[int(self.rng.integers(len(fits)))]
        self.used.add(id(y))
        return self.binary(str(self.rng.choice(["ADD", "MUL", "SUB", "MAXIMUM"])), x, y)

    def step_constant(self, x: Tensor) -> Tensor:
        rank = int(self.rng.integers(x.rank + 1))
        shape = [d if self.rng.integers(2) else 1 for d in x.shape[x.rank - rank :]]
        return self.binary("MUL", x, self.weights(*shape))

    def step_conv(self, x: Tensor) -> Tensor | None:
        return self.conv(x, int(self.rng.integers(1, 6)), 3) if x.rank == 4 else None

    def step_pool(self, x: Tensor) -> Tensor | None:
        return self.pool(x) if x.rank == 4 and min(x.shape[2:]) > 1 else None

    def step_reduce(self, x: Tensor) -> Tensor | None:
        axes = sorted(self.rng.permutation(x.rank)[: int(self.rng.integers(1, 3))].tolist())
        keep = bool(self.rng.integers(2))
        if x.rank - len(axes) < 1 and not keep:
            return None
        return self.reduce(str(self.rng.choice(["MEAN", "SUM", "REDUCE_MAX"])), x, axes, keep)

    def step_softmax(self, x: Tensor) -> Tensor:
        return self.softmax(x, self.axis(x))

    def step_dense(self, x: Tensor) -> Tensor | None:
        return self.dense(x, int(self.rng.integers(1, 6))) if x.rank >= 2 else None

    def step_matmul(self, x: Tensor) -> Tensor | None:
        if x.rank < 3:
            return None
        return self.matmul(x, self.transpose(self.unary("TANH", x), _exchange_last(x.rank)))

    def step_attention(self, x: Tensor) -> Tensor | None:
        """Self-attention over the flattened positions of a channels-first map."""
        if x.rank != 4 or x.shape[2] * x.shape[3] > 64:
            return None
        n, c, h, w = x.shape
        tokens = self.transpose(self.reshape(x, (n, c, h * w)), (0, 2, 1))
        q, k, v = (self.dense(tokens, 4) for _ in range(3))
        weights = self.softmax(self.matmul(q, self.transpose(k, (0, 2, 1))), 2)
        y = self.dense(self.matmul(weights, v), c)
        return self.reshape(self.transpose(y, (0, 2, 1)), x.shape)

    def step_residual(self, x: Tensor) -> Tensor | None:
        if x.rank != 4:
            return None
        return self.binary("ADD", x, self.unary("RELU", self.conv(x, x.shape[1], 3)))

    def step_transpose(self, x: Tensor) -> Tensor:
        return self.transpose(x, self.rng.permutation(x.rank).tolist())

    def step_reshape(self, x: Tensor) -> Tensor | None:
        shape = list(x.shape)
        choice, at = self.rng.integers(3), self.axis(x)
        if choice == 0 and at + 1 < len(shape):
            shape[at : at + 2] = [shape[at] * shape[at + 1]]
        elif choice == 1 and len(shape) < 4 and shape[at] % 2 == 0:
            shape[at : at + 1] = [2, shape[at] // 2]
        elif choice == 2 and len(shape) < 4:
            shape.insert(at, 1)
        return self.reshape(x, shape) if shape != list(x.shape) else None

    def step_slice(self, x: Tensor) -> Tensor:
        begin = [int(self.rng.integers(d)) for d in x.shape]
        size = [int(self.rng.integers(1, d - b + 1)) for b, d in zip(begin, x.shape, strict=True)]
        return self.slice(x, begin, size)

    def step_strided(self, x: Tensor) -> Tensor | None:
        if x.rank < 2:
            return None
        gone = self.axis(x)
        begin, end, strides = [0] * x.rank, list(x.shape), [int(s) for s in self.rng.integers(1, 3, x.rank)]
        begin[gone] = int(self.rng.integers(x.shape[gone]))
        end[gone], strides[gone] = begin[gone] + 1, 1
        shape = [-(-e // s) for a, (e, s) in enumerate(zip(end, strides, strict=True)) if a != gone]
        masks = {"begin_mask": 0, "end_mask": 1 << (gone + 1) % x.rank, "shrink_axis_mask": 1 << gone}
        inputs = [x, *(self.const(v, np.int32) for v in (begin, end, strides))]
        return self.emit("STRIDED_SLICE", inputs, shape, **masks)

    def step_pad(self, x: Tensor) -> Tensor:
        rows = self.rng.integers(0, 2, (x.rank, 2)).tolist()
        return self.pad(x, rows)

    def step_concat(self, x: Tensor) -> Tensor:
        axis = self.axis(x)
        size = list(x.shape)
        size[axis] = 1
        return self.concat([x, self.slice(x, [0] * x.rank, size), self.weights(*x.shape)], axis)

    def step_gather(self, x: Tensor) -> Tensor | None:
        axis = self.axis(x)
        if self.rng.integers(2) and x.rank > 1:
            shape = x.shape[:axis] + x.shape[axis + 1 :]
            return self.emit("GATHER", [x, self.const(0, np.int32)], shape, axis=axis, batch_dims=0)
        indices = self.rng.integers(0, x.shape[axis], 3)
        shape = (*x.shape[:axis], 3, *x.shape[axis + 1 :])
        return self.emit("GATHER", [x, self.const(indices, np.int32)], shape, axis=axis, batch_dims=0)

    def step_split(self, x: Tensor) -> Tensor | None:
        even = [a for a, d in enumerate(x.shape) if d % 2 == 0]
        if not even:
            return None
        axis = even[0]
        shape = list(x.shape)
        shape[axis] //= 2
        inputs = [self.const(axis, np.int32), x]
        a, b = self.emit_many("SPLIT", inputs, [(shape, x.dtype)] * 2, num_splits=2)
        return self.binary("SUB", b, a)

    def step_pack(self, x: Tensor) -> Tensor | None:
        if x.rank == 4:
            axis = self.axis(x)
            shape = x.shape[:axis] + x.shape[axis + 1 :]
            parts = [(shape, x.dtype)] * x.shape[axis]
            return self.emit_many("UNPACK", [x], parts, num=x.shape[axis], axis=axis)[-1]
        axis = int(self.rng.integers(x.rank + 1))
        shape = (*x.shape[:axis], 2, *x.shape[axis:])
        return self.emit("PACK", [x, self.unary("NEG", x)], shape, values_count=2, axis=axis)

    def step_reverse(self, x: Tensor) -> Tensor:
        return self.emit("REVERSE_V2", [x, self.const([self.axis(x)], np.int32)], x.shape)

    def step_tile(self, x: Tensor) -> Tensor | None:
        multiples = [1] * x.rank
        multiples[self.axis(x)] = 2
        shape = [d * m for d, m in zip(x.shape, multiples, strict=True)]
        return self.emit("TILE", [x, self.const(multiples, np.int32)], shape)


def _broadcasts(x: Tensor, y: Tensor) -> bool:
    pairs = itertools.zip_longest(x.shape[::-1], y.shape[::-1], fillvalue=1)
    return all(a == b or 1 in (a, b) for a, b in pairs)


def _exchange_last(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def forward_sinking_bytes(graph: Graph) -> int:
    """The bytes that remain when every operator takes the order its first input happens to have."""
    problem = LayoutProblem(fold_constant_transposes(graph), "keep")
    order_of: dict[int, tuple[int, ...]] = {}
    for node in problem.nodes:
        for slot, value in enumerate(node.values):
            if value in order_of:
                local = compose(tuple(np.argsort(node.namings[slot]).tolist()), order_of[value])
                mode = None if local == identity(len(local)) else node.axes.follow(slot, local, node.mode)
                if mode is not None:
                    node.mode = mode
                break
        for slot, value in enumerate(node.values):
            order_of.setdefault(value, compose(node.namings[slot], node.mode[slot]))
    return total_bytes(problem)


def total_bytes(problem: LayoutProblem) -> int:
    return sum((len({wide for wide, _ in v.forms()}) - 1) * v.tensor.nbytes for v in problem.values)


def every_mode(node: Node) -> list[Mode]:
    """All the modes that a node can run in."""
    found = {node.mode: None}
    for slot, naming in enumerate(node.namings):
        for perm in itertools.permutations(range(len(naming))):
            if (mode := node.axes.follow(slot, perm, node.mode)) is not None:
                found[mode] = None
    return list(found)


def least_bytes(graph: Graph, limit: int) -> int | None:
    """The least bytes of all assignments there are, None if there are more than `limit`."""
    problem = LayoutProblem(fold_constant_transposes(graph), "keep")
    choices = [every_mode(node) for node in problem.nodes]
    if np.prod([float(len(c)) for c in choices]) > limit:
        return None
    best = None
    for modes in itertools.product(*choices):
        for node, mode in zip(problem.nodes, modes, strict=True):
            node.mode = mode
        total = total_bytes(problem)
        best = total if best is None else min(best, total)
    return best


def check_same(graph: Graph, result: Graph, seed: int, exact: bool, stats: LayoutStats | None = None) -> None:
    check_sound(result)
    feeds = random_feeds(graph, seed)
    turned_inputs, turned_outputs = (stats.nhwc_inputs, stats.nhwc_outputs) if stats else ((), ())
    given = [
        f.transpose(0, 2, 3, 1) if name in turned_inputs else f
        for f, name in zip(feeds, graph.signature_inputs, strict=True)
    ]
    found = run(result, given)
    for name, want, got in zip(graph.signature_outputs, run(graph, feeds), found, strict=True):
        if name in turned_outputs:
            got = got.transpose(0, 3, 1, 2)
        if exact:
            np.testing.assert_array_equal(got, want)
        else:
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5 * max(1.0, np.abs(want).max()))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 14))
def test_data_movement_is_bit_equal(seed: int, steps: int) -> None:
    graph = RandomGraph(seed, MOVEMENT).grow(steps)
    result, stats = assign_layout(graph)
    check_same(graph, simplify(result), seed, exact=True)
    assert stats.bytes_after <= min(stats.bytes_before, forward_sinking_bytes(graph))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 20), kinds=st.sampled_from([ARITHMETIC, STRUCTURAL])
)
def test_arithmetic_is_equal(seed: int, steps: int, kinds: tuple[str, ...]) -> None:
    graph = RandomGraph(seed, (*MOVEMENT, *kinds) if kinds is ARITHMETIC else kinds).grow(steps)
    result, stats = assign_layout(graph)
    assert transposed_bytes(result)[0] == stats.bytes_after
    check_same(graph, result, seed, exact=False)
    check_same(graph, simplify(result), seed, exact=False)
    assert stats.bytes_after <= min(stats.bytes_before, forward_sinking_bytes(graph))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(2, 6))
def test_tiny_graphs_move_the_least_bytes_there_are(seed: int, steps: int) -> None:
    graph = RandomGraph(seed, ("conv", "unary", "slice", "pad", "residual", "reduce", "softmax")).grow(steps)
    least = least_bytes(graph, 4000)
    if least is not None:
        assert assign_layout(graph)[1].bytes_after == least


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(1, 20))
def test_convolutions_sums_and_concats_keep_only_the_interface_transposes(seed: int, steps: int) -> None:
    g = NaiveGraph(seed)
    values = [g.conv(g.feed(1, 3, 4, 6), 4)]
    for _ in range(steps):
        x, y = (values[int(g.rng.integers(len(values)))] for _ in range(2))
        builders: list[Callable[[], Tensor]] = [
            lambda x=x: g.conv(x, 4, 3),  # type: ignore[misc]
            lambda x=x, y=y: g.binary("ADD", x, y),  # type: ignore[misc]
            lambda x=x, y=y: g.conv(g.concat([x, y], 1), 4),  # type: ignore[misc]
        ]
        values.append(builders[int(g.rng.integers(3))]())
    result, _ = assign_layout(g.finish(values[-1]))
    codes = [op.code for op in simplify(result).ops]
    assert codes.count("TRANSPOSE") == 2
    assert (codes[0], codes[-1]) == ("TRANSPOSE", "TRANSPOSE")
    assert "RESHAPE" not in codes


@pytest.mark.parametrize("seed", range(12))
def test_large_random_graphs(seed: int) -> None:
    graph = RandomGraph(seed, STRUCTURAL).grow(60)
    for io_layout in ("keep", "nhwc"):
        result, stats = assign_layout(graph, io_layout)  # type: ignore[arg-type]
        check_sound(result)
        assert stats.bytes_after <= stats.bytes_before
        assert count(result, "TRANSPOSE") == stats.transposes_after
        check_same(graph, simplify(result), seed, False, stats)


@pytest.mark.parametrize("seed", range(4))
def test_the_result_is_deterministic(seed: int) -> None:
    from convkit.dialects.tflite.writer import serialize

    first, second = (
        bytes(serialize(simplify(assign_layout(RandomGraph(seed, STRUCTURAL).grow(30))[0]))) for _ in range(2)
    )
    assert first == second
