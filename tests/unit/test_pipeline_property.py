"""The default pipeline keeps the numbers and the normal form of random graphs."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from convkit.compiler.watch import NumbersWatch
from convkit.ir.normal import normalize
from convkit.passes import PassManager, default_pipeline
from tests.unit.rewriting import Net

WINDOW = {"kernel_shape": [3, 3], "strides": [1, 1], "dilations": [1, 1], "pads": [1, 1, 1, 1]}
POINT = {"kernel_shape": [1, 1], "strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0]}
C = 4


def channel(net: Net, n: int = C):
    shape = [(n, 1, 1), (1, n, 1, 1), (1, 1, 1, 1), ()][int(net.rng.integers(4))]
    return net.positive(*shape)


# Each step keeps the shape (1, 4, 6, 6); `o` is an earlier value of the same shape.
STEPS = {
    "conv": lambda n, x, o: n.Conv(x, n.randn(C, C, 3, 3), n.randn(C), group=1, **WINDOW),
    "depthwise": lambda n, x, o: n.Conv(x, n.randn(C, 1, 3, 3), group=C, **WINDOW),
    "pointwise": lambda n, x, o: n.Conv(x, n.randn(C, C, 1, 1), group=1, **POINT),
    "grouped": lambda n, x, o: n.Conv(x, n.randn(C, 2, 3, 3), n.randn(C), group=2, **WINDOW),
    "sum of branches": lambda n, x, o: n.Add(
        n.Conv(x, n.randn(C, C, 3, 3), group=1, **WINDOW), n.Conv(x, n.randn(C, C, 1, 1), group=1, **POINT)
    ),
    "batchnorm": lambda n, x, o: n.batchnorm(x),
    "add": lambda n, x, o: n.Add(x, channel(n)),
    "subtract from": lambda n, x, o: n.Sub(channel(n), x),
    "mul": lambda n, x, o: n.Mul(channel(n), x),
    "div": lambda n, x, o: n.Div(x, channel(n)),
    "neg": lambda n, x, o: n.Neg(x),
    "residual": lambda n, x, o: n.Add(x, o),
    "difference": lambda n, x, o: n.Sub(o, x),
    "gate": lambda n, x, o: n.Mul(x, n.Sigmoid(o)),
    "relu": lambda n, x, o: n.Relu(x),
    "clip": lambda n, x, o: n.Clip(x, n.const(np.float32(-1)), n.const(np.float32(2))),
    "max": lambda n, x, o: n.Max(x, n.const(np.float32(0))),
    "square": lambda n, x, o: n.Sigmoid(n.Pow(x, n.const(np.float32(2)))),
    "prelu": lambda n, x, o: n.PRelu(x, n.randn(C, 1, 1)),
    "pad": lambda n, x, o: n.Conv(
        n.Pad(x, n.const(np.int64([0, 0, 1, 1, 0, 0, 1, 1])), n.const(np.float32(0))),
        n.randn(C, C, 3, 3),
        group=1,
        **(WINDOW | {"pads": [0, 0, 0, 0]}),
    ),
    "max pool": lambda n, x, o: n.MaxPool(x, ceil_mode=0, **WINDOW),
    "average pool": lambda n, x, o: n.AveragePool(x, ceil_mode=0, count_include_pad=1, **WINDOW),
    "squeeze": lambda n, x, o: n.Mul(x, n.Sigmoid(n.GlobalAveragePool(o))),
    "shuffle": lambda n, x, o: n.DepthToSpace(
        n.Conv(n.MaxPool(x, **(POINT | {"strides": [2, 2]})), n.randn(16, C, 1, 1), group=1, **POINT),
        blocksize=2,
        mode="CRD",
    ),
    "enlarge": lambda n, x, o: n.ConvTranspose(
        n.MaxPool(x, **(POINT | {"strides": [2, 2]})),
        n.randn(C, C, 2, 2),
        kernel_shape=[2, 2],
        strides=[2, 2],
        dilations=[1, 1],
        pads=[0, 0, 0, 0],
        output_padding=[0, 0],
        group=1,
    ),
    "reorder": lambda n, x, o: n.Gather(x, n.const(np.int64([2, 0, 3, 1])), axis=1),
    "rows": lambda n, x, o: n.Add(n.MatMul(x, n.randn(6, 6)), n.randn(6)),
    "transpose": lambda n, x, o: n.Transpose(x, perm=[0, 1, 3, 2]),
    "concat": lambda n, x, o: n.Slice(
        n.Concat(x, o, axis=1), *(n.const(np.int64([v])) for v in (C, 2 * C, 1, 1))
    ),
    "split": lambda n, x, o: n.Concat(
        *reversed(n.Split(x, n.const(np.int64([1, 3])), outputs=2, axis=1)), axis=1
    ),
}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 8)), min_size=3, max_size=14),
    st.integers(0, 2**16),
    st.booleans(),
)
def test_random_graphs(steps, seed, two_outputs):
    net = Net(seed)
    values = [net.input(1, C, 6, 6)]
    for step, back in steps:
        values.append(STEPS[step](net, values[-1], values[max(0, len(values) - 2 - back)]))
        if len(values) % 4 == 0:
            values.append(net.Tanh(values[-1]))  # keeps magnitudes, and with them rounding, in check
    last = net.Relu(values[-1])
    model = net.model(last, net.Neg(values[len(values) // 2])) if two_outputs else net.model(last)
    normalize(model)
    PassManager(default_pipeline(), watch=NumbersWatch()).run(model)
