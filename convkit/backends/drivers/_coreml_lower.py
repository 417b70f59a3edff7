"""Lowerings of ONNX operators to an ML program: arithmetic, reductions, what moves elements."""

import math

import _coreml_layers  # noqa: F401 - registers the rest
import numpy as np
import onnx
from _coreml_net import Net, clean, lowers
from _protocol import Refused
from coremltools.converters.mil import Builder as mb  # noqa: N813 - its usual name
from coremltools.converters.mil.mil import Function, Program, types

TYPES = onnx.TensorProto
INPUTS = {TYPES.FLOAT: types.fp32, TYPES.INT64: types.int32, TYPES.INT32: types.int32}


def build(model, resize, target):
    """The program of an ONNX file."""
    net = Net(model, resize)
    graph = net.model.graph
    inputs = [value for value in graph.input if value.name not in net.constants]
    names = clean([value.name for value in (*inputs, *graph.output)])
    placeholders = {}
    for value in inputs:
        kind = value.type.tensor_type.elem_type
        shape = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
        if kind not in INPUTS or not 1 <= len(shape) <= 5:
            said = f"{TYPES.DataType.Name(kind)}{list(shape)}"
            raise Refused(f"input {value.name!r} is {said}; Core ML takes floats and int32 of rank 1 to 5")
        placeholders[names[value.name]] = mb.placeholder(shape, dtype=INPUTS[kind])
    program = Program()
    with Function(placeholders, opset_version=target) as function:
        net.values.update({value.name: function.inputs[names[value.name]] for value in inputs})
        for node in graph.node:
            net.lower(node)
        function.set_outputs([mb.identity(x=net.values[v.name], name=names[v.name]) for v in graph.output])
    program.add_function("main", function)
    return program


# -- one operand ---------------------------------------------------------------------------------

UNARY = {
    "Abs": mb.abs, "Acos": mb.acos, "Asin": mb.asin, "Atan": mb.atan, "Atanh": mb.atanh, "Ceil": mb.ceil,
    "Cos": mb.cos, "Cosh": mb.cosh, "Erf": mb.erf, "Exp": mb.exp, "Floor": mb.floor, "Identity": mb.identity,
    "Not": mb.logical_not, "Relu": mb.relu, "Round": mb.round, "Sigmoid": mb.sigmoid, "Sign": mb.sign,
    "Sin": mb.sin, "Sinh": mb.sinh, "Softplus": mb.softplus, "Softsign": mb.softsign, "Sqrt": mb.sqrt,
    "Tan": mb.tan, "Tanh": mb.tanh,
}  # fmt: skip


@lowers(*UNARY)
def unary(net, node, attributes):
    """One operator of the same name."""
    return UNARY[node.op_type](x=net.value(node, 0))


@lowers("Neg")
def neg(net, node, attributes):
    """Times minus one, in the value's type."""
    x = net.value(node, 0)
    return mb.mul(x=x, y=-1 if x.dtype == types.int32 else -1.0)


@lowers("Reciprocal")
def reciprocal(net, node, attributes):
    """One over it: `inverse` would add an epsilon."""
    return mb.real_div(x=1.0, y=net.value(node, 0))


@lowers("Log")
def log(net, node, attributes):
    """The logarithm, with the least epsilon that the operator takes."""
    return mb.log(x=net.value(node, 0), epsilon=1e-45)


@lowers("LeakyRelu", "Elu", "ThresholdedRelu")
def with_alpha(net, node, attributes):
    """An activation with one number."""
    operator, default = {
        "LeakyRelu": (mb.leaky_relu, 0.01), "Elu": (mb.elu, 1.0),
        "ThresholdedRelu": (mb.thresholded_relu, 1.0),
    }[node.op_type]  # fmt: skip
    return operator(x=net.value(node, 0), alpha=float(attributes.get("alpha", default)))


@lowers("PRelu")
def prelu(net, node, attributes):
    """`prelu` where there is one slope for each channel, else max(x, 0) + slope * min(x, 0)."""
    x, slope = net.value(node, 0), net.value(node, 1)
    channels = isinstance(slope, np.ndarray) and len(x.shape) > 2 and slope.size == x.shape[1]
    if channels and slope.shape[-len(x.shape) + 1 :] == (x.shape[1],) + (1,) * (len(x.shape) - 2):
        return mb.prelu(x=x, alpha=slope.reshape(-1))
    return mb.add(x=mb.relu(x=x), y=mb.mul(x=slope, y=mb.minimum(x=x, y=np.float32(0))))


@lowers("HardSigmoid", "HardSwish")
def hard_sigmoid(net, node, attributes):
    """min(max(alpha * x + beta, 0), 1), times x for HardSwish."""
    x = net.value(node, 0)
    if node.op_type == "HardSwish":
        return mb.mul(x=x, y=mb.sigmoid_hard(x=x, alpha=1 / 6, beta=0.5))
    return mb.sigmoid_hard(x=x, alpha=attributes.get("alpha", 0.2), beta=attributes.get("beta", 0.5))


@lowers("Gelu")
def gelu(net, node, attributes):
    """Exact or by tanh."""
    tanh = attributes.get("approximate", "none") == "tanh"
    return mb.gelu(x=net.value(node, 0), mode="TANH_APPROXIMATION" if tanh else "EXACT")


@lowers("Mish")
def mish(net, node, attributes):
    """x * tanh(softplus(x))."""
    x = net.value(node, 0)
    return mb.mul(x=x, y=mb.tanh(x=mb.softplus(x=x)))


@lowers("Clip")
def clip(net, node, attributes):
    """`clip`, or one bound alone."""
    x, low, high = (net.value(node, i) for i in range(3))
    if isinstance(low, np.ndarray) and isinstance(high, np.ndarray) and x.dtype == types.fp32:
        return mb.clip(x=x, alpha=low.item(), beta=high.item())
    x = x if low is None else mb.maximum(x=x, y=low)
    return x if high is None else mb.minimum(x=x, y=high)


@lowers("Cast")
def cast(net, node, attributes):
    """To float32, int32 or bool."""
    x, to = net.value(node, 0), attributes["to"]
    if to in (TYPES.FLOAT, TYPES.FLOAT16, TYPES.BFLOAT16, TYPES.DOUBLE):
        return mb.cast(x=x, dtype="fp32")
    if to in (TYPES.INT64, TYPES.INT32):
        return mb.cast(x=x, dtype="int32")
    if to == TYPES.BOOL:
        return mb.cast(x=x, dtype="bool")
    raise Refused(f"Cast to {TYPES.DataType.Name(to)}")


@lowers("Softmax")
def softmax(net, node, attributes):
    """Along one axis."""
    return mb.softmax(x=net.value(node, 0), axis=attributes.get("axis", -1))


@lowers("LogSoftmax")
def log_softmax(net, node, attributes):
    """x - max - log(sum(exp(x - max)))."""
    x, axes = net.value(node, 0), [attributes.get("axis", -1)]
    return mb.sub(x=x, y=mb.reduce_log_sum_exp(x=x, axes=axes, keep_dims=True))


# -- several operands ----------------------------------------------------------------------------

BINARY = {
    "Add": mb.add, "Sub": mb.sub, "Mul": mb.mul, "Pow": mb.pow, "Equal": mb.equal, "Greater": mb.greater,
    "GreaterOrEqual": mb.greater_equal, "Less": mb.less, "LessOrEqual": mb.less_equal,
    "And": mb.logical_and, "Or": mb.logical_or, "Xor": mb.logical_xor, "MatMul": mb.matmul,
}  # fmt: skip


@lowers(*BINARY)
def binary(net, node, attributes):
    """One operator of the same meaning; it broadcasts as ONNX does."""
    return BINARY[node.op_type](x=net.value(node, 0), y=net.value(node, 1))


@lowers("Div")
def div(net, node, attributes):
    """Of floats only: ONNX rounds integers towards zero, ML programs down."""
    x, y = net.value(node, 0), net.value(node, 1)
    if any(v.dtype in (types.int32, np.int32) for v in (x, y)):
        raise Refused("Div of integers")
    return mb.real_div(x=x, y=y)


@lowers("Max", "Min")
def extreme(net, node, attributes):
    """Of any number of operands."""
    operator = mb.maximum if node.op_type == "Max" else mb.minimum
    found = net.value(node, 0)
    for index in range(1, len(node.input)):
        found = operator(x=found, y=net.value(node, index))
    return found


@lowers("Where")
def where(net, node, attributes):
    """`select`."""
    return mb.select(cond=net.value(node, 0), a=net.value(node, 1), b=net.value(node, 2))


@lowers("Gemm")
def gemm(net, node, attributes):
    """`linear` by a constant matrix, else `matmul`."""
    x, factor, bias = (net.value(node, i) for i in range(3))
    alpha, beta = attributes.get("alpha", 1.0), attributes.get("beta", 1.0)
    plain = isinstance(factor, np.ndarray) and not attributes.get("transA", 0)
    if plain and (bias is None or isinstance(bias, np.ndarray)):
        weight = np.float32(alpha) * (factor if attributes.get("transB", 0) else factor.T)
        bias = np.zeros(1, np.float32) if bias is None else np.float32(beta) * bias
        if bias.size == 1 or bias.shape in {(len(weight),), (1, len(weight))}:
            bias = np.broadcast_to(bias.reshape(-1), (len(weight),))
            return mb.linear(x=x, weight=np.ascontiguousarray(weight), bias=np.ascontiguousarray(bias))
        bias = bias / np.float32(beta)
    transposed = [bool(attributes.get(name, 0)) for name in ("transA", "transB")]
    y = mb.matmul(x=x, y=factor, transpose_x=transposed[0], transpose_y=transposed[1])
    y = y if alpha == 1 else mb.mul(x=y, y=np.float32(alpha))
    if bias is None:
        return y
    return mb.add(x=y, y=bias if beta == 1 else mb.mul(x=bias, y=np.float32(beta)))


# -- reductions ----------------------------------------------------------------------------------

REDUCTIONS = {
    "ReduceMean": mb.reduce_mean, "ReduceSum": mb.reduce_sum, "ReduceMax": mb.reduce_max,
    "ReduceMin": mb.reduce_min, "ReduceProd": mb.reduce_prod, "ReduceL1": mb.reduce_l1_norm,
    "ReduceL2": mb.reduce_l2_norm, "ReduceSumSquare": mb.reduce_sum_square,
    "ReduceLogSum": mb.reduce_log_sum, "ReduceLogSumExp": mb.reduce_log_sum_exp,
}  # fmt: skip


@lowers(*REDUCTIONS)
def reduction(net, node, attributes):
    """Over constant axes."""
    x = net.value(node, 0)
    axes = attributes.get("axes") or net.ints(node, 1) or list(range(len(x.shape)))
    return REDUCTIONS[node.op_type](x=x, axes=list(axes), keep_dims=bool(attributes.get("keepdims", 1)))


@lowers("ArgMax", "ArgMin")
def arg(net, node, attributes):
    """The first index of the extreme."""
    if attributes.get("select_last_index", 0):
        raise Refused("the last index of equal ones")
    operator = mb.reduce_argmax if node.op_type == "ArgMax" else mb.reduce_argmin
    keep = bool(attributes.get("keepdims", 1))
    return operator(x=net.value(node, 0), axis=attributes.get("axis", 0), keep_dims=keep)


@lowers("CumSum")
def cumsum(net, node, attributes):
    """Running sums."""
    flags = {name: bool(attributes.get(name, 0)) for name in ("exclusive", "reverse")}
    return mb.cumsum(x=net.value(node, 0), axis=net.ints(node, 1)[0], **flags)


# -- movement ------------------------------------------------------------------------------------


@lowers("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def reshape(net, node, attributes):
    """Shapes are static: the output's own."""
    return mb.reshape(x=net.value(node, 0), shape=net.shape(node.output[0]))


@lowers("Transpose")
def transpose(net, node, attributes):
    """`transpose`."""
    x = net.value(node, 0)
    return mb.transpose(x=x, perm=list(attributes.get("perm", reversed(range(len(x.shape))))))


@lowers("Concat")
def concat(net, node, attributes):
    """`concat`."""
    return mb.concat(values=[net.value(node, i) for i in range(len(node.input))], axis=attributes["axis"])


@lowers("Split")
def split(net, node, attributes):
    """`split`."""
    axis = attributes.get("axis", 0)
    sizes = [net.shape(name)[axis] for name in node.output]
    if len(sizes) == 1:
        return mb.identity(x=net.value(node, 0))
    return mb.split(x=net.value(node, 0), split_sizes=sizes, axis=axis)


@lowers("Slice")
def slice_(net, node, attributes):
    """`slice_by_index`; ends that lie outside are masked."""
    x = net.value(node, 0)
    rank = len(x.shape)
    starts, ends = net.ints(node, 1), net.ints(node, 2)
    axes = net.ints(node, 3) or list(range(len(starts)))
    steps = net.ints(node, 4) or [1] * len(starts)
    begin, end, stride = [0] * rank, list(x.shape), [1] * rank
    begin_mask, end_mask = [True] * rank, [True] * rank
    for start, stop, axis, step in zip(starts, ends, axes, steps):
        index = range(x.shape[axis])[start:stop:step]
        axis %= rank
        begin[axis], stride[axis], begin_mask[axis] = index.start, step, False
        end[axis], end_mask[axis] = max(index.stop, 0), index.stop < 0
    return mb.slice_by_index(
        x=x, begin=begin, end=end, stride=stride, begin_mask=begin_mask, end_mask=end_mask
    )  # fmt: skip


@lowers("Expand")
def expand(net, node, attributes):
    """`tile`, of as many dimensions as the result has."""
    x, shape = net.value(node, 0), net.shape(node.output[0])
    full = [1] * (len(shape) - len(x.shape)) + list(x.shape)
    y = mb.reshape(x=x, shape=full)
    return mb.tile(x=y, reps=[out // size for out, size in zip(shape, full)])


@lowers("Tile")
def tile(net, node, attributes):
    """`tile`."""
    return mb.tile(x=net.value(node, 0), reps=net.ints(node, 1))


@lowers("Pad")
def pad(net, node, attributes):
    """`pad`; other modes than constant are of the last dimension, which each padded one becomes in turn."""
    x, amounts = net.value(node, 0), net.ints(node, 1)
    rank, axes = len(x.shape), net.ints(node, 3)
    axes = list(range(rank)) if axes is None else [a % rank for a in axes]
    pairs = {a: (amounts[i], amounts[len(axes) + i]) for i, a in enumerate(axes)}
    modes = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}
    mode = modes.get(attributes.get("mode", "constant"))
    if mode is None or min(amounts) < 0:
        raise Refused(f"Pad {attributes['mode']} by {amounts}")
    if mode == "constant":
        value = net.constant(node, 2)
        flat = [n for a in range(rank) for n in pairs.get(a, (0, 0))]
        return mb.pad(x=x, pad=flat, mode=mode, constant_val=0.0 if value is None else float(value.item()))
    for axis, pair in pairs.items():
        if any(pair):
            order = [i for i in range(rank) if i != axis] + [axis]
            padded = mb.pad(x=mb.transpose(x=x, perm=order), pad=list(pair), mode=mode)
            x = mb.transpose(x=padded, perm=np.argsort(order).tolist())
    return x


@lowers("Gather")
def gather(net, node, attributes):
    """`gather`; indices from the end are counted from the start."""
    x, axis, indices = net.value(node, 0), attributes.get("axis", 0), net.value(node, 1)
    if isinstance(indices, np.ndarray):
        indices = np.where(indices < 0, indices + x.shape[axis], indices).astype(np.int32)
    y = mb.gather(x=x, indices=indices, axis=axis)
    return mb.reshape(x=y, shape=net.shape(node.output[0])) if math.prod(indices.shape) == 1 else y


@lowers("GatherElements")
def gather_elements(net, node, attributes):
    """`gather_along_axis`."""
    axis = attributes.get("axis", 0)
    return mb.gather_along_axis(x=net.value(node, 0), indices=net.value(node, 1), axis=axis)


@lowers("TopK")
def top_k(net, node, attributes):
    """The largest or smallest, sorted."""
    found = mb.topk(
        x=net.value(node, 0), k=net.ints(node, 1)[0], axis=attributes.get("axis", -1),
        ascending=not attributes.get("largest", 1),
    )  # fmt: skip
    return list(found)
