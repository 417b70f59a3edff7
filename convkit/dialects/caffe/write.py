"""Write a Caffe graph: deploy.prototxt (structure, text) and .caffemodel (structure and weights, binary)."""

from __future__ import annotations

import numpy as np

from convkit.dialects.caffe.schema import LAYERS, NO_LAYER, enum_values, parameters
from convkit.dialects.caffe.wire import Item, Message, bytes_of, text_of
from convkit.dialects.tflite.graph import Graph, Op, Tensor

# Field numbers of NetParameter, LayerParameter, BlobProto, BlobShape and InputParameter.
_NET_NAME, _LAYER = 1, 100
_NAME, _TYPE, _BOTTOM, _TOP, _BLOBS, _INPUT = 1, 2, 3, 4, 7, 143
_DATA, _SHAPE, _DIM = 5, 7, 1


def write(graph: Graph, name: str = "model") -> tuple[str, bytes]:
    """The .prototxt and the .caffemodel of a graph whose operators all are Caffe layers.

    A layer goes by the name of its first top, so every reader finds an output under one name.
    """
    assert all(op.code != NO_LAYER for op in graph.ops)
    inputs = [_input_layer(tensor) for tensor in graph.inputs]
    ops = _silenced(graph)
    layers = [*inputs, *(_layer(op) for op in ops)]
    plain: Message = [("name", _NET_NAME, "text", name)]
    plain += [("layer", _LAYER, "message", layer) for layer in layers]
    with_weights: Message = [("name", _NET_NAME, "text", name)]
    with_weights += [("layer", _LAYER, "message", layer) for layer in inputs]
    with_weights += [("layer", _LAYER, "message", _layer(op) + _blobs(op)) for op in ops]
    return "\n".join(text_of(plain)) + "\n", b"".join(bytes_of(with_weights))


def _silenced(graph: Graph) -> list[Op]:
    """The layers, and a Silence for tops that nobody reads, which Caffe would take for outputs."""
    read = {id(t) for op in graph.ops for t in op.inputs} | {id(t) for t in graph.outputs}
    found: list[Op] = []
    for op in graph.ops:
        found.append(op)
        unread: list[Tensor | None] = [t for t in op.outputs if id(t) not in read]
        if unread:
            found.append(Op("Silence", unread, [], {}, op.origin))
    return found


def _input_layer(tensor: Tensor) -> Message:
    return [
        ("name", _NAME, "text", tensor.name),
        ("type", _TYPE, "text", "Input"),
        ("top", _TOP, "text", tensor.name),
        ("input_param", _INPUT, "message", [("shape", 1, "message", _dims(tensor.shape))]),
    ]


def _dims(shape: tuple[int, ...]) -> Message:
    return [("dim", _DIM, "packed", shape)]


def _layer(op: Op) -> Message:
    tops = [tensor.name for tensor in op.outputs]
    bottoms = [t.name for t in op.inputs if t is not None and not t.is_constant]
    # What only swallows its input has no top; it is named after what it swallows.
    message: Message = [
        ("name", _NAME, "text", tops[0] if tops else f"{bottoms[0]}_unused"),
        ("type", _TYPE, "text", op.code),
    ]
    message += [("bottom", _BOTTOM, "text", bottom) for bottom in bottoms]
    message += [("top", _TOP, "text", top) for top in tops]
    given = parameters(op)
    if given:
        layer = LAYERS[op.code]
        items = [item for name, value in given.items() for item in _items(op.code, name, value)]
        message.append((layer.message, layer.number, "message", items))
    return message


def _items(code: str, name: str, value: object) -> Message:
    """One item, or one for each value of a repeated field."""
    declared = LAYERS[code].fields[name]
    if declared.kind == "shape":
        assert isinstance(value, tuple)
        return [(name, declared.number, "message", _dims(value))]
    if declared.kind == "order":
        return [(name, declared.number, "uint", int(axis)) for axis in str(value)[1:]]
    if declared.kind in {"pool", "operation"}:
        return [(name, declared.number, "enum", (value, enum_values(declared.kind)[str(value)]))]
    values = value if isinstance(value, tuple) else (value,)
    return [(name, declared.number, declared.kind, each) for each in values]


def _blobs(op: Op) -> Message:
    blobs = [t.data for t in op.inputs if t is not None and t.data is not None]
    return [_blob(array) for array in blobs]


def _blob(array: np.ndarray) -> Item:
    message: Message = [
        ("data", _DATA, "floats", array.reshape(-1)),
        ("shape", _SHAPE, "message", _dims(array.shape)),
    ]
    return "blobs", _BLOBS, "message", message
