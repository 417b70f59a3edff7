"""Lowerings of ONNX operators to an ML program: windows, normalisation, resizing, recurrence."""

import numpy as np
from _coreml_net import lowers
from _protocol import Refused
from coremltools.converters.mil import Builder as mb  # noqa: N813 - its usual name

_GATES = (b"Sigmoid", b"Tanh", b"Tanh")


def window(attributes, spatial):
    """Strides, dilations, and padding as ML programs list it: before and behind, dimension by dimension."""
    pads = list(attributes.get("pads", [0] * 2 * spatial))
    return {
        "strides": list(attributes.get("strides", [1] * spatial)),
        "pad_type": "custom",
        "pad": [pad for pair in zip(pads[:spatial], pads[spatial:]) for pad in pair],
    }


@lowers("Conv")
def conv(net, node, attributes):
    """`conv`, of one to three dimensions."""
    x, weight, bias = net.value(node, 0), net.value(node, 1), net.value(node, 2)
    spatial = len(x.shape) - 2
    options = window(attributes, spatial)
    options["dilations"] = list(attributes.get("dilations", [1] * spatial))
    options["groups"] = attributes.get("group", 1)
    return mb.conv(x=x, weight=weight, **options, **({} if bias is None else {"bias": bias}))


@lowers("ConvTranspose")
def conv_transpose(net, node, attributes):
    """`conv_transpose`; output padding is cropping taken back, and kernel zeros where there is too little."""
    x, weight, bias = net.value(node, 0), net.constant(node, 1), net.value(node, 2)
    spatial = len(x.shape) - 2
    options = window(attributes, spatial)
    dilations = list(attributes.get("dilations", [1] * spatial))
    widths = [(0, 0), (0, 0)]
    for i, (dilation, more) in enumerate(zip(dilations, attributes.get("output_padding", [0] * spatial))):
        taken = min(options["pad"][2 * i + 1], more)
        zeros = -(-(more - taken) // dilation)
        options["pad"][2 * i + 1] += zeros * dilation - more
        widths.append((0, zeros))
    options |= {"dilations": dilations, "groups": attributes.get("group", 1)}
    options |= {} if bias is None else {"bias": bias}
    return mb.conv_transpose(x=x, weight=np.pad(weight, widths), **options)


@lowers("MaxPool", "AveragePool")
def pool(net, node, attributes):
    """`max_pool` or `avg_pool`."""
    x = net.value(node, 0)
    spatial = len(x.shape) - 2
    if len(node.output) > 1 or any(d != 1 for d in attributes.get("dilations", [])):
        raise Refused("a pooling with dilation or indices")
    options = window(attributes, spatial) | {"kernel_sizes": list(attributes["kernel_shape"])}
    if attributes.get("ceil_mode", 0):
        # More padding behind gives the windows that rounding up adds.
        out = net.shape(node.output[0])[2:]
        for i, (o, s, k) in enumerate(zip(out, options["strides"], options["kernel_sizes"])):
            needed = (o - 1) * s + k - x.shape[2 + i] - options["pad"][2 * i]
            options["pad"][2 * i + 1] = max(options["pad"][2 * i + 1], needed)
        if node.op_type == "AveragePool" and attributes.get("count_include_pad", 0):
            raise Refused("an average that counts padding, its size rounded up")
    if node.op_type == "MaxPool":
        return mb.max_pool(x=x, **options)
    counted = bool(attributes.get("count_include_pad", 0))
    return mb.avg_pool(x=x, exclude_padding_from_average=not counted, **options)


@lowers("GlobalAveragePool", "GlobalMaxPool")
def global_pool(net, node, attributes):
    """A reduction of the spatial dimensions."""
    x = net.value(node, 0)
    operator = mb.reduce_mean if node.op_type == "GlobalAveragePool" else mb.reduce_max
    return operator(x=x, axes=list(range(2, len(x.shape))), keep_dims=True)


@lowers("BatchNormalization")
def batch_normalization(net, node, attributes):
    """`batch_norm` of constants."""
    gamma, beta, mean, variance = (net.constant(node, i) for i in range(1, 5))
    return mb.batch_norm(
        x=net.value(node, 0), mean=mean, variance=variance, gamma=gamma, beta=beta,
        epsilon=np.float32(attributes.get("epsilon", 1e-5)),
    )  # fmt: skip


@lowers("InstanceNormalization")
def instance_normalization(net, node, attributes):
    """`instance_norm`."""
    gamma, beta = net.constant(node, 1), net.constant(node, 2)
    epsilon = np.float32(attributes.get("epsilon", 1e-5))
    return mb.instance_norm(x=net.value(node, 0), gamma=gamma, beta=beta, epsilon=epsilon)


@lowers("LayerNormalization")
def layer_normalization(net, node, attributes):
    """`layer_norm` of constants."""
    x, gamma, beta = net.value(node, 0), net.constant(node, 1), net.constant(node, 2)
    axis = attributes.get("axis", -1) % len(x.shape)
    shape = tuple(x.shape[axis:])
    gamma = np.ascontiguousarray(np.broadcast_to(gamma, shape))
    beta = np.zeros(shape, np.float32) if beta is None else np.ascontiguousarray(np.broadcast_to(beta, shape))
    axes = list(range(axis, len(x.shape)))
    epsilon = np.float32(attributes.get("epsilon", 1e-5))
    return mb.layer_norm(x=x, axes=axes, gamma=gamma, beta=beta, epsilon=epsilon)


@lowers("LRN")
def lrn(net, node, attributes):
    """`local_response_norm`."""
    numbers = {name: float(attributes.get(name, d)) for name, d in (("alpha", 1e-4), ("beta", 0.75))}
    k = float(attributes.get("bias", 1.0))
    return mb.local_response_norm(x=net.value(node, 0), size=attributes["size"], k=k, **numbers)


@lowers("DepthToSpace")
def depth_to_space(net, node, attributes):
    """`pixel_shuffle` for CRD, `depth_to_space` for DCR."""
    x, block = net.value(node, 0), attributes["blocksize"]
    if attributes.get("mode", "DCR") == "CRD":
        return mb.pixel_shuffle(x=x, upscale_factor=block)
    return mb.depth_to_space(x=x, block_size=block)


@lowers("SpaceToDepth")
def space_to_depth(net, node, attributes):
    """`space_to_depth`."""
    return mb.space_to_depth(x=net.value(node, 0), block_size=attributes["blocksize"])


@lowers("Resize")
def resize(net, node, attributes):
    """An upsampling operator where one does the same, else a matrix along each axis."""
    x, plan = net.value(node, 0), net.resize[node.output[0]]
    if plan["operator"] == "nearest":
        high, wide = plan["factors"]
        return mb.upsample_nearest_neighbor(x=x, scale_factor_height=high, scale_factor_width=wide)
    if plan["operator"] == "bilinear":
        high, wide = map(float, plan["factors"])
        return mb.upsample_bilinear(
            x=x, scale_factor_height=high, scale_factor_width=wide, align_corners=False,
            half_pixel_centers=True,
        )  # fmt: skip
    rank = len(x.shape)
    for axis, matrix in zip(plan["axes"], plan["matrices"]):
        order = [i for i in range(rank) if i != axis] + [axis]
        moved = mb.transpose(x=x, perm=order)
        moved = mb.matmul(x=moved, y=np.float32(matrix).T.copy())
        x = mb.transpose(x=moved, perm=np.argsort(order).tolist())
    return x


@lowers("LSTM")
def lstm(net, node, attributes):
    """One direction with the standard activations; ONNX orders the gates i o f c, ML programs i f o c."""
    x, weight, recurrent, bias = net.value(node, 0), *(net.constant(node, i) for i in (1, 2, 3))
    size = attributes["hidden_size"]
    plain = net.value(node, 4) is None and net.value(node, 7) is None
    plain = plain and attributes.get("direction", "forward") in ("forward", "reverse")
    plain = plain and [a.decode() for a in attributes.get("activations", _GATES)] == [
        "Sigmoid",
        "Tanh",
        "Tanh",
    ]
    if not plain or attributes.get("layout", 0) or attributes.get("input_forget", 0) or "clip" in attributes:
        raise Refused("an LSTM of two directions, with lengths, peepholes, clipping, or other activations")

    def gates(array):
        i, o, f, c = np.split(array, 4)
        return np.ascontiguousarray(np.concatenate([i, f, o, c]))

    batch = x.shape[1]
    zeros = np.zeros((batch, size), np.float32)
    states = [net.value(node, i) for i in (5, 6)]
    states = [zeros if s is None else mb.reshape(x=s, shape=[batch, size]) for s in states]
    both = np.zeros(8 * size, np.float32) if bias is None else bias[0]
    y, h, c = mb.lstm(
        x=x, initial_h=states[0], initial_c=states[1],
        weight_ih=gates(weight[0]), weight_hh=gates(recurrent[0]),
        bias=gates(both[: 4 * size] + both[4 * size :]),
        output_sequence=True, direction=attributes.get("direction", "forward"),
    )  # fmt: skip
    return [
        mb.expand_dims(x=y, axes=[1]),
        mb.expand_dims(x=h, axes=[0]),
        mb.expand_dims(x=c, axes=[0]),
    ]
