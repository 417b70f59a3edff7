"""ConvTranspose by sub-pixel decomposition is exact for every parameter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from convkit.passes.approximate.convtranspose import ConvTransposeToResize
from convkit.passes.legalize.convtranspose import ConvTransposeToSubpixel, plan
from convkit.rewrite import apply_rewrites
from tests.unit.rewriting import Net, check, ops, refusal, run

REWRITE = ConvTransposeToSubpixel()


@st.composite
def axis(draw):
    kernel, stride, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(1, 2))
    return {
        "n": draw(st.integers(1, 5)),
        "kernel": kernel,
        "stride": stride,
        "dilation": dilation,
        "begin": draw(st.integers(0, 3)),
        "end": draw(st.integers(0, 3)),
        "extra": draw(st.integers(0, stride - 1)),
    }


def nonempty(axes) -> bool:
    return all(
        (a["n"] - 1) * a["stride"] + a["extra"] + (a["kernel"] - 1) * a["dilation"] >= a["begin"] + a["end"]
        for a in axes
    )


def transposed(axes, group: int, bias: bool, inputs: int = 2, outputs: int = 3, seed: int = 0) -> Net:
    net = Net(seed)
    x = net.input(2, inputs * group, *(a["n"] for a in axes))
    y = net.ConvTranspose(
        x,
        net.randn(inputs * group, outputs, *(a["kernel"] for a in axes)),
        net.randn(outputs * group) if bias else None,
        kernel_shape=[a["kernel"] for a in axes],
        strides=[a["stride"] for a in axes],
        dilations=[a["dilation"] for a in axes],
        pads=[a["begin"] for a in axes] + [a["end"] for a in axes],
        output_padding=[a["extra"] for a in axes],
        group=group,
    )
    return net.model(y)


@settings(max_examples=100, deadline=None)
@given(st.tuples(axis(), axis()), st.integers(1, 3), st.booleans(), st.booleans())
def test_every_two_dimensional_one(axes, group, bias, square):
    if square:
        axes[1].update(stride=axes[0]["stride"], extra=min(axes[0]["extra"], axes[1]["extra"]))
        axes[0]["extra"] = axes[1]["extra"]
    assume(nonempty(axes))
    model = transposed(axes, group, bias)
    check(model, [REWRITE])
    assert "ConvTranspose" not in ops(model)
    if square and axes[0]["stride"] > 1:
        assert ops(model)[:2] == ["Conv", "DepthToSpace"]
        assert set(ops(model)[2:]) <= {"Slice"}


@settings(max_examples=40, deadline=None)
@given(st.tuples(axis()), st.integers(1, 3), st.booleans())
def test_every_one_dimensional_one(axes, group, bias):
    assume(nonempty(axes))
    model = transposed(axes, group, bias)
    check(model, [REWRITE])
    assert "ConvTranspose" not in ops(model)


@settings(max_examples=10, deadline=None)
@given(st.tuples(axis(), axis(), axis()), st.integers(1, 2))
def test_three_dimensions(axes, group):
    assume(nonempty(axes))
    check(transposed(axes, group, True), [REWRITE])


def square(n: int, kernel: int, stride: int, pad: int, extra: int = 0, channels: int = 2):
    one = {
        "n": n,
        "kernel": kernel,
        "stride": stride,
        "dilation": 1,
        "begin": pad,
        "end": pad,
        "extra": extra,
    }
    return transposed((one, one), 1, True, channels, channels)


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "extra", "taps"),
    [(2, 2, 0, 0, 1), (4, 2, 1, 0, 3), (3, 2, 1, 1, 2), (4, 4, 0, 0, 1), (6, 3, 0, 0, 2)],
)
def test_the_usual_ones_need_no_crop(kernel, stride, pad, extra, taps):
    model = square(6, kernel, stride, pad, extra)
    assert [c.size for c in plan(next(iter(model.graph)))] == [taps, taps]
    check(model, [REWRITE])
    assert ops(model) == ["Conv", "DepthToSpace"]


def test_many_channels_make_a_crop_worth_it():
    """4x4, stride 2, pad 1: 2x2 taps and a crop instead of 3x3 taps, more than half of them zero."""
    model = square(6, 4, 2, 1, channels=16)
    check(model, [REWRITE])
    assert ops(model) == ["Conv", "DepthToSpace", "Slice"]
    weights = model.graph[0].inputs[1]
    assert tuple(weights.shape) == (64, 16, 2, 2)


def test_weights_that_are_not_constant_are_refused():
    net = Net()
    y = net.ConvTranspose(net.input(1, 2, 4, 4), net.input(2, 2, 2, 2))
    assert refusal(net.model(y), REWRITE) == "the pattern does not match"
    net = Net()
    y = net.ConvTranspose(net.input(1, 2, 4, 4), net.randn(2, 2, 2, 2), net.input(2))
    assert refusal(net.model(y), REWRITE) == "the bias is not constant"


def test_weights_stay_in_their_type():
    model = square(4, 3, 2, 1)
    check(model, [REWRITE])
    assert {v.const_value.dtype.numpy() for v in model.graph.initializers.values()} <= {
        np.dtype(np.float32),
        np.dtype(np.int64),
    }


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "extra"), [(2, 2, 0, 0), (4, 2, 1, 0), (3, 2, 1, 1), (8, 4, 2, 0)]
)
def test_the_resize_keeps_constant_images(kernel, stride, pad, extra):
    """Averaged over the phases, away from the border: where the fine-tuning starts."""
    before = square(8, kernel, stride, pad, extra, channels=3)
    after = square(8, kernel, stride, pad, extra, channels=3)
    apply_rewrites(after.graph, [ConvTransposeToResize()])
    assert ops(after) == ["Resize", "Conv"]
    assert ConvTransposeToResize.exactness.name == "RETRAIN"
    x = {"x0": np.ones((2, 3, 8, 8), np.float32) * np.float32([1, -2, 3]).reshape(1, 3, 1, 1)}
    inner = (slice(None), slice(None), slice(2 * stride, -2 * stride), slice(2 * stride, -2 * stride))
    (old,), (new,) = run(before, x), run(after, x)
    mean = old[inner].mean(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(new[inner], np.broadcast_to(mean, new[inner].shape), rtol=1e-4, atol=1e-4)


def test_a_crop_has_no_resize():
    assert "not the input enlarged" in refusal(square(6, 3, 2, 1), ConvTransposeToResize())
    assert "nothing is enlarged" in refusal(square(6, 3, 1, 1), ConvTransposeToResize())
