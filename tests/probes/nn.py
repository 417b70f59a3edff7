"""Convolutions, pooling, resizing, matrix products, softmax, blocks."""

from __future__ import annotations

from collections.abc import Iterator

from tests.probes.build import I32, Half, Probe, c, maybe, v, w


def convolution() -> Iterator[Probe]:
    base = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}
    x, k, b = (1, 9, 8, 8), (12, 3, 3, 8), 12
    for name, change in (
        ("same", {}),
        ("valid", {"padding": "VALID"}),
        ("stride2", {"stride_h": 2, "stride_w": 2}),
        ("stride12", {"stride_w": 2}),
        ("dilation2", {"dilation_h_factor": 2, "dilation_w_factor": 2}),
        ("dilation2-valid", {"dilation_h_factor": 2, "dilation_w_factor": 2, "padding": "VALID"}),
        ("dilation-stride", {"dilation_h_factor": 2, "dilation_w_factor": 2, "stride_h": 2, "stride_w": 2}),
        ("relu", {"fused_activation_function": "RELU"}),
        ("relu6", {"fused_activation_function": "RELU6"}),
        ("relu-n1-to-1", {"fused_activation_function": "RELU_N1_TO_1"}),
        ("tanh", {"fused_activation_function": "TANH"}),
        ("sign-bit", {"fused_activation_function": "SIGN_BIT"}),
    ):
        yield from maybe("CONV_2D", name, [v(*x), w(*k), w(b)], **{**base, **change})
    for version in range(2, 9):
        yield from maybe("CONV_2D", f"v{version}", [v(*x), w(*k), w(b)], version=version, **base)
    yield from maybe("CONV_2D", "no-bias", [v(*x), w(*k)], **base)
    yield from maybe("CONV_2D", "null-bias", [v(*x), w(*k), None], **base)
    yield from maybe("CONV_2D", "half", [v(*x), Half(w(*k)), Half(w(b))], **base)
    yield from maybe("CONV_2D", "runtime-weights", [v(*x), v(*k), w(b)], **base)
    yield from maybe("CONV_2D", "runtime-weights-bias", [v(*x), v(*k), v(b)], **base)
    yield from maybe("CONV_2D", "runtime-weights-no-bias", [v(*x), v(*k), None], **base)
    yield from maybe("CONV_2D", "runtime-bias", [v(*x), w(*k), v(b)], **base)
    yield from maybe("CONV_2D", "batch2", [v(2, *x[1:]), w(*k), w(b)], **base)
    yield from maybe("CONV_2D", "1x1", [v(*x), w(12, 1, 1, 8), w(b)], **base)
    yield from maybe("CONV_2D", "1xk", [v(1, 1, 16, 8), w(12, 1, 5, 8), w(b)], **base)
    yield from maybe("CONV_2D", "odd-channels", [v(1, 9, 8, 3), w(5, 3, 3, 3), w(5)], **base)
    yield from maybe("CONV_2D", "large-kernel", [v(1, 16, 16, 8), w(12, 13, 13, 8), w(b)], **base)
    for groups, cin, cout in (
        (2, 8, 12),
        (2, 8, 8),
        (4, 8, 8),
        (8, 8, 8),
        (2, 6, 10),
        (4, 16, 32),
        (8, 8, 16),
        (3, 9, 6),
    ):
        operands = [v(1, 9, 8, cin), w(cout, 3, 3, cin // groups), w(cout)]
        yield from maybe("CONV_2D", f"groups{groups}-{cin}-{cout}", operands, version=6, **base)
    for rank, shape in ((3, (9, 8, 8)),):
        yield from maybe("CONV_2D", f"r{rank}", [v(*shape), w(*k), w(b)], **base)
    for name, cin, multiplier, change in (
        ("same", 8, 1, {}),
        ("multiplier2", 8, 2, {}),
        ("multiplier4", 4, 4, {}),
        ("one-to-many", 1, 8, {}),
        ("odd", 5, 1, {}),
        ("valid", 8, 1, {"padding": "VALID"}),
        ("stride2", 8, 1, {"stride_h": 2, "stride_w": 2}),
        ("stride12", 8, 1, {"stride_w": 2}),
        ("dilation2", 8, 1, {"dilation_h_factor": 2, "dilation_w_factor": 2}),
        ("relu6", 8, 1, {"fused_activation_function": "RELU6"}),
        ("tanh", 8, 1, {"fused_activation_function": "TANH"}),
        ("batch2", 8, 1, {}),
        ("null-bias", 8, 1, {}),
        ("half", 8, 1, {}),
        ("runtime-weights", 8, 1, {}),
        ("runtime-bias", 8, 1, {}),
    ):
        kernel, bias = w(1, 3, 3, cin * multiplier), w(cin * multiplier)
        data = v(2 if name == "batch2" else 1, 9, 8, cin)
        operands = [data, kernel, bias]
        if name == "null-bias":
            operands[2] = None
        elif name == "half":
            operands[1:] = [Half(kernel), Half(bias)]
        elif name == "runtime-weights":
            operands[1] = v(*kernel.shape)
        elif name == "runtime-bias":
            operands[2] = v(*bias.shape)
        version = 2 if name == "dilation2" else 1
        options = {**base, **change, "depth_multiplier": multiplier}
        yield from maybe("DEPTHWISE_CONV_2D", name, operands, version=version, **options)
    for version in range(2, 8):
        operands = [v(1, 9, 8, 8), w(1, 3, 3, 8), w(8)]
        yield from maybe(
            "DEPTHWISE_CONV_2D", f"v{version}", operands, version=version, depth_multiplier=1, **base
        )


def transposed() -> Iterator[Probe]:
    for name, side, kernel, stride, padding, version, extra in (
        ("4x4s2", 8, 4, 2, "SAME", 1, {}),
        ("2x2s2", 8, 2, 2, "VALID", 1, {}),
        ("3x3s2", 8, 3, 2, "SAME", 1, {}),
        ("3x3s2-valid", 9, 3, 2, "VALID", 1, {}),
        ("3x3s1", 4, 3, 1, "SAME", 1, {}),
        ("5x5s3", 12, 5, 3, "SAME", 1, {}),
        ("3x3s2-odd", 7, 3, 2, "SAME", 1, {}),
        ("4x4s2-v3", 8, 4, 2, "SAME", 3, {}),
        ("4x4s2-relu", 8, 4, 2, "SAME", 4, {"fused_activation_function": "RELU"}),
        ("4x4s2-v4", 8, 4, 2, "SAME", 4, {}),
    ):
        given = 4
        if padding == "SAME" and name == "3x3s1":
            given = 4
        operands = [c([1, side, side, 6]), w(6, kernel, kernel, 8), v(1, given, given, 8)]
        options = {"padding": padding, "stride_h": stride, "stride_w": stride, **extra}
        yield from maybe("TRANSPOSE_CONV", name, operands, version=version, **options)
        yield from maybe(
            "TRANSPOSE_CONV", name + "-bias", [*operands, w(6)], version=max(3, version), **options
        )
    for side, kernel, stride, given, padding in (
        (9, 3, 2, 5, "SAME"),
        (10, 3, 2, 5, "SAME"),
        (7, 3, 2, 4, "SAME"),
        (10, 3, 3, 4, "SAME"),
        (12, 3, 3, 4, "SAME"),
        (12, 4, 3, 4, "SAME"),
        (10, 2, 2, 5, "SAME"),
        (10, 4, 2, 5, "SAME"),
        (13, 3, 4, 4, "SAME"),
        (16, 5, 4, 4, "SAME"),
        (16, 3, 3, 5, "VALID"),
        (12, 4, 2, 5, "VALID"),
        (14, 5, 2, 5, "VALID"),
    ):
        operands = [c([1, side, side, 6]), w(6, kernel, kernel, 8), v(1, given, given, 8)]
        options = {"padding": padding, "stride_h": stride, "stride_w": stride}
        name = f"{kernel}x{kernel}s{stride}-{given}to{side}-{padding.lower()}"
        yield from maybe("TRANSPOSE_CONV", name, operands, **options)
    options = {"padding": "SAME", "stride_h": 2, "stride_w": 2}
    operands = [c([1, 8, 8, 6]), Half(w(6, 4, 4, 8)), v(1, 4, 4, 8), Half(w(6))]
    yield from maybe("TRANSPOSE_CONV", "half", operands, version=3, **options)
    operands = [c([1, 8, 8, 6]), v(6, 4, 4, 8), v(1, 4, 4, 8)]
    yield from maybe("TRANSPOSE_CONV", "runtime-weights", operands, **options)
    operands = [c([2, 8, 8, 6]), w(6, 4, 4, 8), v(2, 4, 4, 8)]
    yield from maybe("TRANSPOSE_CONV", "batch2", operands, **options)
    operands = [v(4, dtype=I32, values=[1, 8, 8, 6]), w(6, 4, 4, 8), v(1, 4, 4, 8)]
    yield from maybe("TRANSPOSE_CONV", "runtime-shape", operands, **options)


def pooling() -> Iterator[Probe]:
    for code in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        for name, size, stride, padding in (
            ("2s2", 2, 2, "VALID"),
            ("3s2", 3, 2, "SAME"),
            ("3s1", 3, 1, "SAME"),
            ("3s1-valid", 3, 1, "VALID"),
            ("1s2", 1, 2, "VALID"),
            ("2s3", 2, 3, "VALID"),
            ("global", 8, 8, "VALID"),
            ("2s2-same", 2, 2, "SAME"),
        ):
            options = {
                "padding": padding,
                "filter_height": size,
                "filter_width": size,
                "stride_h": stride,
                "stride_w": stride,
            }
            yield from maybe(code, name, [v(1, 8, 8, 6)], **options)
        options = {"padding": "SAME", "filter_height": 3, "filter_width": 3, "stride_h": 2, "stride_w": 2}
        yield from maybe(code, "odd-same", [v(1, 9, 7, 6)], **options)
        yield from maybe(code, "batch2", [v(2, 9, 7, 6)], **options)
        yield from maybe(code, "relu", [v(1, 9, 7, 6)], fused_activation_function="RELU", **options)
        yield from maybe(code, "v2", [v(1, 9, 7, 6)], version=2, **options)
        yield from maybe(code, "v3", [v(1, 9, 7, 6)], version=3, **options)


def resize() -> Iterator[Probe]:
    for code in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
        for size in ([10, 12], [5, 6], [7, 9], [2, 3], [20, 24], [1, 1]):
            for align, half in ((False, False), (True, False), (False, True), (True, True)):
                name = f"{size[0]}x{size[1]}{'-align' if align else ''}{'-half' if half else ''}"
                version = 3 if half or (align and code != "RESIZE_BILINEAR") else 1
                options = {"align_corners": align, "half_pixel_centers": half}
                yield from maybe(code, name, [v(1, 5, 6, 6), c(size)], version=version, **options)
        yield from maybe(code, "batch2", [v(2, 5, 6, 6), c([10, 12])])
        yield from maybe(code, "odd-channels", [v(1, 5, 6, 3), c([10, 12])])


def products() -> Iterator[Probe]:
    for name, a, b in (
        ("r2", (3, 8), (8, 6)),
        ("r3", (4, 3, 8), (4, 8, 6)),
        ("r3-b1", (1, 3, 8), (1, 8, 6)),
        ("r4", (1, 4, 3, 8), (1, 4, 8, 6)),
        ("r4-b2", (2, 4, 3, 8), (2, 4, 8, 6)),
        ("r4-r2", (1, 4, 3, 8), (8, 6)),
        ("r4-r3", (1, 4, 3, 8), (4, 8, 6)),
        ("r3-r2", (4, 3, 8), (8, 6)),
        ("r4-broadcast-rhs", (1, 4, 3, 8), (1, 1, 8, 6)),
        ("r4-broadcast-lhs", (1, 1, 3, 8), (1, 4, 8, 6)),
        ("r3-broadcast-rhs", (4, 3, 8), (1, 8, 6)),
        ("r3-broadcast-lhs", (1, 3, 8), (4, 8, 6)),
        ("r5", (1, 2, 4, 3, 8), (1, 2, 4, 8, 6)),
        ("vector", (1, 4, 1, 8), (1, 4, 8, 6)),
        ("odd", (1, 3, 5, 7), (1, 3, 7, 5)),
    ):
        for adj_x in (False, True):
            for adj_y in (False, True):
                left = (*a[:-2], a[-1], a[-2]) if adj_x else a
                right = (*b[:-2], b[-1], b[-2]) if adj_y else b
                tag = name + ("-adjx" if adj_x else "") + ("-adjy" if adj_y else "")
                options = {"adj_x": adj_x, "adj_y": adj_y}
                yield from maybe("BATCH_MATMUL", tag, [v(*left), v(*right)], **options)
                yield from maybe("BATCH_MATMUL", tag + "-const", [v(*left), w(*right)], **options)
                yield from maybe("BATCH_MATMUL", tag + "-constlhs", [w(*left), v(*right)], **options)
    plain = {"weights_format": "DEFAULT"}
    for name, shape in (
        ("r1", (8,)),
        ("r2", (3, 8)),
        ("r2b1", (1, 8)),
        ("r3", (4, 3, 8)),
        ("r3b1", (1, 3, 8)),
        ("r4", (1, 4, 3, 8)),
        ("r4b2", (2, 4, 3, 8)),
        ("r4-11", (1, 1, 1, 8)),
        ("r5", (1, 2, 2, 3, 8)),
    ):
        for keep in (False, True):
            tag = name + ("-keep" if keep else "")
            version = 5 if keep else 1
            yield from maybe(
                "FULLY_CONNECTED",
                tag,
                [v(*shape), w(12, 8), w(12)],
                version=version,
                keep_num_dims=keep,
                **plain,
            )
            yield from maybe(
                "FULLY_CONNECTED",
                tag + "-nobias",
                [v(*shape), w(12, 8), None],
                version=6,
                keep_num_dims=keep,
                **plain,
            )
    yield from maybe(
        "FULLY_CONNECTED", "flatten", [v(1, 2, 2, 4), w(12, 16), w(12)], keep_num_dims=False, **plain
    )
    yield from maybe(
        "FULLY_CONNECTED", "two-inputs", [v(3, 8), w(12, 8)], version=6, keep_num_dims=False, **plain
    )
    yield from maybe(
        "FULLY_CONNECTED", "relu", [v(3, 8), w(12, 8), w(12)], fused_activation_function="RELU", **plain
    )
    yield from maybe(
        "FULLY_CONNECTED", "tanh", [v(3, 8), w(12, 8), w(12)], fused_activation_function="TANH", **plain
    )
    yield from maybe("FULLY_CONNECTED", "half", [v(3, 8), Half(w(12, 8)), Half(w(12))], **plain)
    yield from maybe("FULLY_CONNECTED", "runtime-weights", [v(3, 8), v(12, 8), w(12)], **plain)
    yield from maybe(
        "FULLY_CONNECTED", "runtime-weights-nobias", [v(3, 8), v(12, 8), None], version=6, **plain
    )
    yield from maybe("FULLY_CONNECTED", "runtime-bias", [v(3, 8), w(12, 8), v(12)], **plain)


def blocks() -> Iterator[Probe]:
    for name, shape in (
        ("r4", (1, 5, 3, 6)),
        ("r3", (4, 3, 6)),
        ("r2", (3, 6)),
        ("r1", (6,)),
        ("b2", (2, 5, 3, 6)),
        ("c1", (1, 5, 3, 1)),
        ("c33", (1, 5, 3, 33)),
        ("c1000", (1, 1000)),
        ("r5", (1, 2, 3, 2, 6)),
    ):
        yield from maybe("SOFTMAX", name, [v(*shape)], beta=1.0)
    conv = {"padding": "SAME", "stride_h": 1, "stride_w": 1, "dilation_h_factor": 1, "dilation_w_factor": 1}
    yield from maybe("CONV_2D", "all-const", [w(1, 4, 4, 8), w(4, 3, 3, 8), w(4)], **conv)
    yield from maybe("DEPTH_TO_SPACE", "all-const", [w(1, 2, 2, 8)], block_size=2)
    yield from maybe("RESIZE_BILINEAR", "all-const", [w(1, 4, 4, 8), c([8, 8])])
    yield from maybe("SOFTMAX", "beta2", [v(1, 5, 3, 6)], beta=2.0)
    yield from maybe("SOFTMAX", "const", [w(1, 5, 3, 6)], beta=1.0)
    for version in (2, 3, 4):
        yield from maybe("SOFTMAX", f"v{version}", [v(1, 5, 3, 6)], beta=1.0, version=version)
    for block, depth in ((2, 4), (2, 12), (2, 16), (3, 9), (3, 27), (4, 16), (4, 48)):
        yield from maybe("DEPTH_TO_SPACE", f"b{block}c{depth}", [v(1, 5, 3, depth)], block_size=block)
    yield from maybe("DEPTH_TO_SPACE", "batch2", [v(2, 5, 3, 12)], block_size=2)
    yield from maybe("DEPTH_TO_SPACE", "b1", [v(1, 5, 3, 12)], block_size=1)
    yield from maybe("DEPTH_TO_SPACE", "i32", [v(1, 5, 3, 12, dtype=I32)], I32, block_size=2)
    for block, depth in ((2, 1), (2, 3), (2, 4), (3, 2), (4, 3)):
        yield from maybe("SPACE_TO_DEPTH", f"b{block}c{depth}", [v(1, 12, 12, depth)], block_size=block)
    yield from maybe("SPACE_TO_DEPTH", "batch2", [v(2, 4, 6, 3)], block_size=2)
    yield from maybe("SPACE_TO_BATCH_ND", "b2", [v(1, 4, 6, 3), c([2, 2]), c([[0, 0], [0, 0]])])
    yield from maybe("BATCH_TO_SPACE_ND", "b2", [v(4, 2, 3, 3), c([2, 2]), c([[0, 0], [0, 0]])])
    options = {"radius": 2, "bias": 1.0, "alpha": 1e-4, "beta": 0.75}
    yield from maybe("LOCAL_RESPONSE_NORMALIZATION", "r4", [v(1, 5, 3, 6)], **options)
    three = {"padding": "VALID", "stride_d": 1, "stride_h": 1, "stride_w": 1, "dilation_d_factor": 1}
    yield from maybe(
        "CONV_3D",
        "r5",
        [v(1, 3, 4, 4, 2), w(2, 2, 2, 2, 4), w(4)],
        dilation_h_factor=1,
        dilation_w_factor=1,
        **three,
    )


def all_probes() -> Iterator[Probe]:
    for family in (convolution, transposed, pooling, resize, products, blocks):
        yield from family()
