"""Why some bytes are no ONNX model: told by their beginning or by where the protobuf structure breaks."""

from __future__ import annotations

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
