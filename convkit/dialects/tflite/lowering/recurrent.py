"""LSTM, GRU and RNN, unrolled over their static number of steps.

TFLite's own sequence operators keep their state from one run to the next, ONNX's do not. The gates' products
with the input are one FULLY_CONNECTED over all steps; a step adds those with its state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from convkit.dialects.tflite.graph import Tensor
from convkit.dialects.tflite.lowering.builder import Builder, UnsupportedError, lowers
from convkit.dialects.tflite.lowering.indexing import window
from convkit.ir.facts import attr, input_at, ints
from convkit.ir.unroll import NODE_LIMIT

Function = Callable[[Tensor], Tensor]
State = Sequence[Tensor | None]
"""What a step hands to the next (hidden state, and cell state of an LSTM); None is zero."""

_GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
_ACTIVATIONS = {
    "GRU": ("Sigmoid", "Tanh"),
    "LSTM": ("Sigmoid", "Tanh", "Tanh"),
    "RNN": ("Tanh",),
}
_OPS_PER_STEP = 20


@dataclass(frozen=True)
class _Direction:
    """One direction of a layer: gate weights (gates * hidden, inputs) and how its steps run."""

    inputs: Tensor
    recurrent: Tensor
    input_bias: Tensor
    """Added to the input's share of the gates."""
    recurrent_bias: Tensor
    """Added to the state's share."""
    peepholes: Sequence[Tensor]
    activations: Sequence[Function]
    reverse: bool

    @property
    def hidden(self) -> int:
        """The size of the state."""
        return self.recurrent.shape[1]


@lowers("LSTM", "GRU", "RNN")
def recurrent(b: Builder, node: ir.Node) -> list[Tensor]:
    """Y (steps, directions, batch, hidden) and the last states (directions, batch, hidden)."""
    batch_first = attr(node, "layout", 0)
    x = b.transpose(b.input(node), (1, 0, 2)) if batch_first else b.input(node)
    steps, batch, _ = x.shape
    ways = _directions(b, node, steps)
    states = [b.inputs(node, 8)[i] for i in (5, 6)[: 2 if node.op_type == "LSTM" else 1]]
    rows = b.reshape(x, (steps * batch, x.shape[2]))
    sequences, lasts = [], []
    for d, way in enumerate(ways):
        start = [_initial(b, state, d, (batch, way.hidden), bool(batch_first)) for state in states]
        outputs, last = _run(b, node, way, rows, start, steps)
        stacked = _joined(b, outputs, 0)
        sequences.append(b.reshape(stacked, (steps, 1, batch, way.hidden)))
        lasts.append([b.reshape(state, (1, batch, way.hidden)) for state in last])
    y = _joined(b, sequences, 1)
    finals = [_joined(b, list(parts), 0) for parts in zip(*lasts, strict=True)]
    if batch_first:
        return [b.transpose(y, (2, 0, 1, 3)), *(b.transpose(state, (1, 0, 2)) for state in finals)]
    return [y, *finals]


def _directions(b: Builder, node: ir.Node, steps: int) -> list[_Direction]:
    """The node's directions; UnsupportedError for what an unrolled layer does not do."""
    kind = node.op_type
    direction = attr(node, "direction", "forward")
    count = 2 if direction == "bidirectional" else 1
    lengths = input_at(node, 4)
    if lengths is not None and set(ints(lengths) or (-1,)) != {steps}:
        raise UnsupportedError("sequence_lens ends some sequences before the last step")
    if attr(node, "clip") is not None or attr(node, "input_forget", 0):
        raise UnsupportedError("clip and input_forget are not supported")
    if steps * count * _OPS_PER_STEP > NODE_LIMIT:
        raise UnsupportedError(f"{steps} steps would be unrolled into more than {NODE_LIMIT} operators")
    w, r = b.input(node, 1), b.input(node, 2)
    names = attr(node, "activations") or _ACTIVATIONS[kind] * count
    if attr(node, "activation_alpha") or attr(node, "activation_beta"):
        raise UnsupportedError("activations with parameters are not supported")
    per_way = len(names) // count
    hidden, gates = r.shape[2], _GATES[kind]
    bias = _parameter(b, node, 3, (count, 2 * gates * hidden))
    peepholes = _parameter(b, node, 7, (count, 3 * hidden)) if kind == "LSTM" else None
    biases = [_vectors(b, bias, d, 2) for d in range(count)]
    return [
        _Direction(
            _row(b, w, d),
            _row(b, r, d),
            biases[d][0],
            biases[d][1],
            _vectors(b, peepholes, d, 3) if _any(peepholes, d) else (),
            [_activation(b, name) for name in names[d * per_way : (d + 1) * per_way]],
            d == 1 or direction == "reverse",
        )
        for d in range(count)
    ]


def _parameter(b: Builder, node: ir.Node, index: int, shape: tuple[int, ...]) -> Tensor:
    """An optional input, zeros where it is left out."""
    given = b.inputs(node, index + 1)[index]
    return b.const(np.zeros(shape, np.float32), hint="zeros") if given is None else given


def _row(b: Builder, x: Tensor, d: int) -> Tensor:
    """x[d]."""
    if x.data is not None:
        return b.const(x.data[d], hint="part")
    return b.reshape(window(b, x, 0, d, 1, 1), x.shape[1:])


def _vectors(b: Builder, x: Tensor | None, d: int, count: int) -> list[Tensor]:
    """x[d], a vector, in equal parts."""
    assert x is not None
    row = _row(b, x, d)
    size = row.shape[0] // count
    return [window(b, row, 0, i * size, 1, size) for i in range(count)]


def _any(x: Tensor | None, d: int) -> bool:
    """Whether x[d] may be other than zero."""
    return x is not None and (x.data is None or bool(x.data[d].any()))


def _sum(b: Builder, x: Tensor, y: Tensor) -> Tensor:
    """x + y, folded for constants."""
    if x.data is not None and y.data is not None:
        return b.const(x.data + y.data, hint="bias")
    return b.binary("ADD", x, y)


def _activation(b: Builder, name: str) -> Function:
    code = {"relu": "RELU", "sigmoid": "LOGISTIC", "tanh": "TANH"}.get(name.lower())
    if code is None:
        raise UnsupportedError(f"activation {name} is not supported")
    return lambda x: b.unary(code, x)


def _initial(
    b: Builder, state: Tensor | None, d: int, shape: tuple[int, int], batch_first: bool
) -> Tensor | None:
    """The state a direction starts from, None for zeros."""
    if state is None or (state.data is not None and not state.data.any()):
        return None
    if state.data is not None:
        return b.const(state.data[:, d] if batch_first else state.data[d], hint="state")
    return b.reshape(window(b, state, 1 if batch_first else 0, d, 1, 1), shape)


def _joined(b: Builder, parts: Sequence[Tensor], axis: int) -> Tensor:
    if len(parts) == 1:
        return parts[0]
    known = [t.data for t in parts if t.data is not None]
    if len(known) == len(parts):
        return b.const(np.concatenate(known, axis), hint="joined")
    shape = list(parts[0].shape)
    shape[axis] = sum(t.shape[axis] for t in parts)
    return b.emit("CONCATENATION", parts, shape, axis=axis)


def _dense(b: Builder, weights: Tensor, bias: Tensor | None = None) -> Function:
    """Rows times the weights' transpose, plus a bias; a constant is stored once for all calls.

    Computed weights get their bias by an ADD: the GPU delegate is wrong otherwise.
    """
    units = weights.shape[0]
    inner = bias is None or (weights.data is not None and bias.data is not None)
    added = b.const(np.zeros(units, np.float32), hint="bias") if bias is None else bias

    def apply(x: Tensor) -> Tensor:
        y = b.emit("FULLY_CONNECTED", [x, weights, added if inner else None], (x.shape[0], units))
        return y if inner else b.binary("ADD", y, added)

    return apply


def _run(
    b: Builder, node: ir.Node, way: _Direction, rows: Tensor, start: State, steps: int
) -> tuple[list[Tensor], list[Tensor]]:
    """All steps of a direction: the hidden state after each, in the order of time, and the last states."""
    cell = {"GRU": _Gru, "LSTM": _Lstm, "RNN": _Rnn}[node.op_type](b, node, way)
    gates = _dense(b, way.inputs, cell.input_bias)(rows)
    batch = rows.shape[0] // steps
    results: list[list[Tensor]] = []
    for t in reversed(range(steps)) if way.reverse else range(steps):
        x = window(b, gates, 0, t * batch, 1, batch)
        results.append(cell.step(x, results[-1] if results else start))
    outputs = [states[0] for states in results]
    return outputs[::-1] if way.reverse else outputs, results[-1]


def _parts(b: Builder, x: Tensor, count: int) -> list[Tensor]:
    """x (batch, count * n) cut into equal parts."""
    size = x.shape[1] // count
    return [window(b, x, 1, i * size, 1, size) for i in range(count)]


def _plus(b: Builder, x: Tensor, y: Tensor | None) -> Tensor:
    return x if y is None else b.binary("ADD", x, y)


class _Rnn:
    """h' = f(x + R h + b)."""

    def __init__(self, b: Builder, node: ir.Node, way: _Direction) -> None:
        self.b, self.way = b, way
        self.input_bias = _sum(b, way.input_bias, way.recurrent_bias)
        self.recurrent = _dense(b, way.recurrent)

    def step(self, x: Tensor, state: State) -> list[Tensor]:
        """The new state; x is the input's share of the gates, a state of None is zero."""
        (f,), (h,) = self.way.activations, state
        return [f(_plus(self.b, x, None if h is None else self.recurrent(h)))]


class _Lstm(_Rnn):
    """Gates i, o, f, c: c' = f(f) c + f(i) g(c), h' = f(o) h(c'), with peepholes from c to i, f and o."""

    def step(self, x: Tensor, state: State) -> list[Tensor]:
        """See `_Rnn`."""
        b, (gate, squash, out), (h, c) = self.b, self.way.activations, state
        gates = _plus(b, x, None if h is None else self.recurrent(h))
        if not self.way.peepholes:
            count = 3 * self.way.hidden
            i, o, f = _parts(b, gate(window(b, gates, 1, 0, 1, count)), 3)
            g = squash(window(b, gates, 1, count, 1, self.way.hidden))
            cell = self._cell(i, f, g, c)
            return [b.binary("MUL", o, out(cell)), cell]
        i, o, f, g = _parts(b, gates, 4)
        peep_i, peep_o, peep_f = (b.reshape(p, (1, self.way.hidden)) for p in self.way.peepholes)
        if c is not None:
            i, f = (_plus(b, t, b.binary("MUL", c, p)) for t, p in ((i, peep_i), (f, peep_f)))
        cell = self._cell(gate(i), gate(f), squash(g), c)
        o = gate(_plus(b, o, b.binary("MUL", cell, peep_o)))
        return [b.binary("MUL", o, out(cell)), cell]

    def _cell(self, i: Tensor, f: Tensor, g: Tensor, c: Tensor | None) -> Tensor:
        new = self.b.binary("MUL", i, g)
        return _plus(self.b, new, None if c is None else self.b.binary("MUL", f, c))


class _Gru(_Rnn):
    """Gates z, r, h: n = g(x + R (r h)) or g(x + r (R h)), h' = n + z (h - n)."""

    def __init__(self, b: Builder, node: ir.Node, way: _Direction) -> None:
        super().__init__(b, node, way)
        count, hidden = 2 * way.hidden, way.hidden
        self.linear = bool(attr(node, "linear_before_reset", 0))
        self.candidate_bias = None
        if self.linear:  # the candidate's own bias stays with the state's share
            self.candidate_bias = window(b, way.recurrent_bias, 0, count, 1, hidden)
            zeros = b.const(np.zeros(hidden, np.float32), hint="zeros")
            own = _joined(b, [window(b, way.recurrent_bias, 0, 0, 1, count), zeros], 0)
            self.input_bias = _sum(b, way.input_bias, own)
        self.gates = _dense(b, window(b, way.recurrent, 0, 0, 1, count))
        self.candidate = _dense(b, window(b, way.recurrent, 0, count, 1, hidden), self.candidate_bias)

    def step(self, x: Tensor, state: State) -> list[Tensor]:
        """See `_Rnn`."""
        b, (gate, squash), hidden, (h,) = self.b, self.way.activations, self.way.hidden, state
        gates, new = window(b, x, 1, 0, 1, 2 * hidden), window(b, x, 1, 2 * hidden, 1, hidden)
        z, r = _parts(b, gate(_plus(b, gates, None if h is None else self.gates(h))), 2)
        if self.linear:
            assert self.candidate_bias is not None
            before = b.reshape(self.candidate_bias, (1, hidden)) if h is None else self.candidate(h)
            new = _plus(b, new, b.binary("MUL", r, before))
        elif h is not None:
            new = _plus(b, new, self.candidate(b.binary("MUL", r, h)))
        n = squash(new)
        if h is None:
            return [b.binary("SUB", n, b.binary("MUL", z, n))]
        return [b.binary("ADD", n, b.binary("MUL", z, b.binary("SUB", h, n)))]
