"""Protocol buffers as Caffe writes them: the text of a .prototxt and the bytes of a .caffemodel.

A message is a list of (name, number, kind, value); a message inside has a list for its value.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import numpy as np

Item: TypeAlias = "tuple[str, int, str, Any]"
"""A field's name, number and kind: uint, int, float, bool, enum, text, message, floats or packed."""
Message: TypeAlias = "list[Item]"

_VARINT, _BYTES, _FIXED32 = 0, 2, 5


def text_of(message: Message, indent: str = "") -> Iterator[str]:
    """The lines of a message in protobuf's text format; numbers of blobs have no place there."""
    for name, _, kind, value in message:
        if kind == "message":
            yield f"{indent}{name} {{"
            yield from text_of(value, indent + "  ")
            yield f"{indent}}}"
        elif kind == "packed":
            yield from (f"{indent}{name}: {number}" for number in value)
        else:
            yield f"{indent}{name}: {_shown(kind, value)}"


def _shown(kind: str, value: Any) -> str:
    if kind == "text":
        return f'"{value}"'
    if kind == "bool":
        return "true" if value else "false"
    if kind == "enum":
        return str(value[0])
    return str(np.float32(value)) if kind == "float" else str(value)


def bytes_of(message: Message) -> Iterator[bytes | memoryview]:
    """The encoded pieces of a message, in order; arrays of numbers are views, not copies."""
    for _, number, kind, value in message:
        if kind == "message":
            yield from _framed(number, list(bytes_of(value)))
        elif kind == "text":
            yield from _framed(number, [value.encode()])
        elif kind == "floats":
            yield from _framed(number, [np.ascontiguousarray(value, "<f4").data.cast("B")])
        elif kind == "packed":
            yield from _framed(number, [b"".join(map(_varint, value))])
        elif kind == "float":
            yield _varint(number << 3 | _FIXED32) + struct.pack("<f", value)
        else:
            plain = value[1] if kind == "enum" else int(value)
            yield _varint(number << 3 | _VARINT) + _varint(plain)


def _framed(number: int, pieces: Iterable[bytes | memoryview]) -> Iterator[bytes | memoryview]:
    pieces = list(pieces)
    yield _varint(number << 3 | _BYTES) + _varint(sum(map(len, pieces)))
    yield from pieces


def _varint(value: int) -> bytes:
    """Base-128, least significant first; a negative number is its 64-bit two's complement."""
    value &= (1 << 64) - 1
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
