"""Why some bytes are no ONNX model: told by their beginning or by where the protobuf structure breaks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# First bytes (offset, bytes) of files people pass by mistake, and what those are.
_KNOWN_BEGINNINGS = (
    (0, b"version https://git-lfs", "a Git LFS pointer; fetch the file itself with `git lfs pull`"),
    (4, b"TFL3", "a TensorFlow Lite model"),
    (0, b"\x89HDF", "an HDF5 (Keras) file"),
    (0, b"PK\x03\x04", "a zip archive (a PyTorch or .keras file); export it to ONNX first"),
    (0, b"\x80\x02", "a Python pickle (a PyTorch file); export it to ONNX first"),
    (0, b"<", "an XML or HTML file"),
    (0, b"{", "a JSON file"),
    (0, b"ORTM", "an onnxruntime ORT-format model; pass the ONNX file it was made from"),
    (4, b"ORTM", "an onnxruntime ORT-format model; pass the ONNX file it was made from"),
)

_MODEL_FIELDS = {
    1: "ir_version",
    2: "producer_name",
    3: "producer_version",
    4: "domain",
    5: "model_version",
    6: "doc_string",
    7: "graph",
    8: "opset_import",
    14: "metadata_props",
    20: "training_info",
    25: "functions",
}


def known_format(head: bytes) -> str | None:
    """What the bytes are, if they begin like another well-known format."""
    for offset, magic, meaning in _KNOWN_BEGINNINGS:
        if head[offset : offset + len(magic)] == magic:
            return meaning
    return None


def first_break(data: bytes | memoryview) -> str:
    """Where the outermost protobuf structure of a ModelProto first breaks, with the byte offset."""
    position, size = 0, len(data)
    while position < size:
        start = position
        key, position = _varint(data, position)
        if key is None:
            return f"the file ends inside a field tag at byte {start}"
        field, wire = key >> 3, key & 7
        name = _MODEL_FIELDS.get(field)
        if name is None or wire not in (0, 1, 2, 5):
            return f"byte {start} is no field of an ONNX model"
        if wire == 2:
            length, position = _varint(data, position)
            if length is None or position + length > size:
                return f"the file is cut short: {name} at byte {start} needs {length or 'some'} bytes, " + (
                    f"{size - position} are left"
                )
            position += length
        elif wire == 0:
            _, position = _varint(data, position)
        else:
            position += 8 if wire == 1 else 4
    return f"the structure inside its {size} bytes is damaged"


def _varint(data: bytes | memoryview, position: int) -> tuple[int | None, int]:
    value = shift = 0
    while position < len(data) and shift < 70:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    return None, position


@dataclass(frozen=True)
class RawData:
    """Where the elements of one weight lie in a model file: little-endian, `length` bytes at `offset`."""

    offset: int
    length: int


_MAPPED = 4096
"""Weights of at least this many bytes stay in the file."""

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_NAME, _TENSOR_RAW = 7, 5, 8, 9


def detach_weights(data: memoryview) -> tuple[bytes, dict[str, RawData]] | None:
    """A ModelProto without its large weights, and where each of those lies; None if the bytes are damaged.

    What is returned parses in no time and no memory, whatever the size of the file. Source of the field
    numbers: onnx.proto.
    """
    found: dict[str, RawData] = {}
    try:
        return _copy(data, 0, len(data), (_MODEL_GRAPH, _GRAPH_INITIALIZER), found), found
    except (ValueError, UnicodeDecodeError):
        return None


def _copy(data: memoryview, start: int, end: int, path: tuple[int, ...], found: dict[str, RawData]) -> bytes:
    """The message at `start` to `end`, where the submessages on `path` are copied without their raw data."""
    parts: list[bytes | memoryview] = []
    raw, name = None, ""
    for field, wire, begin, body, after in _fields(data, start, end):
        if path and field == path[0] and wire == 2:
            inner = _copy(data, body, after, path[1:], found)
            parts += [_encode(field << 3 | 2), _encode(len(inner)), inner]
            continue
        if not path and field == _TENSOR_RAW and wire == 2 and after - body >= _MAPPED:
            raw = RawData(body, after - body)
            continue
        if not path and field == _TENSOR_NAME and wire == 2:
            name = bytes(data[body:after]).decode()
        parts.append(data[begin:after])
    if raw is not None:
        if not name or name in found:
            raise ValueError("a weight without a name of its own")
        found[name] = raw
    return b"".join(parts)


def _fields(data: memoryview, position: int, end: int) -> Iterator[tuple[int, int, int, int, int]]:
    """Field number, wire type, begin of the tag, begin of the content and end of each field."""
    while position < end:
        begin = position
        key, position = _varint(data, position)
        wire = -1 if key is None else key & 7
        if wire == 0:
            body, (_, position) = position, _varint(data, position)
        elif wire == 2:
            length, body = _varint(data, position)
            position = end + 1 if length is None else body + length
        elif wire in (1, 5):
            body, position = position, position + (8 if wire == 1 else 4)
        else:
            position = end + 1
        if key is None or position > end:
            raise ValueError("damaged")
        yield key >> 3, wire, begin, body, position


def _encode(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
