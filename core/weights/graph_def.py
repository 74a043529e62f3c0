"""The constants of a frozen TensorFlow graph, read without TensorFlow and without running anything.

A frozen graph (`.pb`) is one protobuf message, GraphDef: nodes, each with a name, an operation and
attributes; the weights are the attribute `value` of its nodes of the operation Const. Only the wire
format is read (https://protobuf.dev/programming-guides/encoding), of the fields named in TensorFlow's
graph.proto, node_def.proto, attr_value.proto, tensor.proto and tensor_shape.proto.

The file is untrusted. It is mapped and its values are views of the map, so the sizes that it states
allocate nothing, and every length is checked against the bytes that are there.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BundleError

MAX_BYTES = 512 * 2**20
"""Largest file that is read. The detector's has 70 MB."""

MAX_RANK = 8
FLOAT = 1
"""`DataType.DT_FLOAT`."""

VARINT, LENGTH = 0, 2
FIXED_BYTES = {1: 8, 5: 4}
"""Sizes by wire type; the wire types of groups are used by none of these messages."""

NODE = 1
NODE_NAME, NODE_OP, NODE_ATTR = 1, 2, 5
ENTRY_KEY, ENTRY_VALUE = 1, 2
ATTR_TENSOR = 8
TENSOR_DTYPE, TENSOR_SHAPE, TENSOR_CONTENT, TENSOR_FLOATS = 1, 2, 4, 5
SHAPE_DIM, DIM_SIZE = 2, 1
"""Numbers of the fields, each in its message."""


class _MalformedError(Exception):
    """The bytes are malformed; the message is a clause."""


def read_constants(path: Path) -> dict[str, NDArray[np.float32]]:
    """The graph's float constants by their nodes' names; read-only views of the mapped file.

    Raises BundleError, in one sentence, for a file that is missing, cut off, larger than MAX_BYTES, or no
    frozen graph.
    """
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            if size > MAX_BYTES:
                raise _MalformedError(f"it has {size} bytes, more than the {MAX_BYTES} that are read")
            if not size:
                raise _MalformedError("it is empty")
            return _constants(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    except _MalformedError as problem:
        raise BundleError(
            f"The file {path} is not a frozen TensorFlow graph, or is damaged: {problem}; fetch it again."
        ) from problem
    except OSError as error:
        raise BundleError(f"The graph {path} cannot be read: {error.strerror or error}.") from error


def _constants(graph: memoryview) -> dict[str, NDArray[np.float32]]:
    found: dict[str, NDArray[np.float32]] = {}
    is_graph = False
    for number, node in _fields(graph):
        if number != NODE:
            continue
        is_graph = True
        name, value = _constant(_bytes(node))
        if value is None:
            continue
        if name in found:
            raise _MalformedError(f"it has two constants of the name {name!r}")
        found[name] = value
    if not is_graph:
        raise _MalformedError("it has no nodes")
    return found


def _constant(node: memoryview) -> tuple[str, NDArray[np.float32] | None]:
    """The node's name, and its value if it is a constant of floats."""
    name = operation = ""
    tensor: memoryview | None = None
    for number, value in _fields(node):
        if number == NODE_NAME:
            name = _text(value)
        elif number == NODE_OP:
            operation = _text(value)
        elif number == NODE_ATTR:
            tensor = _tensor_of(_bytes(value)) or tensor
    return name, _floats(tensor, name) if operation == "Const" and tensor is not None else None


def _tensor_of(entry: memoryview) -> memoryview | None:
    """The tensor of an attribute `value`; None for any other attribute."""
    key, attribute = "", memoryview(b"")
    for number, value in _fields(entry):
        if number == ENTRY_KEY:
            key = _text(value)
        elif number == ENTRY_VALUE:
            attribute = _bytes(value)
    if key != "value":
        return None
    return next((_bytes(value) for number, value in _fields(attribute) if number == ATTR_TENSOR), None)


def _floats(tensor: memoryview, name: str) -> NDArray[np.float32] | None:
    dtype, content = 0, memoryview(b"")
    shape: tuple[int, ...] = ()
    for number, value in _fields(tensor):
        if number == TENSOR_DTYPE:
            dtype = _number(value)
        elif number == TENSOR_SHAPE:
            shape = _shape(_bytes(value))
        elif number in (TENSOR_CONTENT, TENSOR_FLOATS):
            content = _bytes(value)
    if dtype != FLOAT:
        return None
    # TensorFlow lets one value stand for a whole tensor. No weight is stored like that, and it would let
    # a small file request any amount of memory.
    if len(content) != 4 * math.prod(shape):
        raise _MalformedError(f"the constant {name!r} of the shape {shape} has {len(content)} bytes")
    return np.frombuffer(content, "<f4").reshape(shape)


def _shape(message: memoryview) -> tuple[int, ...]:
    sizes = []
    for number, value in _fields(message):
        if number == SHAPE_DIM:
            dim = (_number(size) for key, size in _fields(_bytes(value)) if key == DIM_SIZE)
            sizes.append(next(dim, 0))
    if len(sizes) > MAX_RANK or any(size > MAX_BYTES for size in sizes):
        raise _MalformedError(f"a tensor has the shape {sizes[:MAX_RANK]}")
    return tuple(sizes)


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """The number and value of each field of a message: an integer, or the bytes of anything else."""
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            value, at = _varint(message, at)
            yield tag >> 3, value
            continue
        if kind == LENGTH:
            length, at = _varint(message, at)
        elif kind in FIXED_BYTES:
            length = FIXED_BYTES[kind]
        else:
            raise _MalformedError(f"a field has the unknown type {kind}")
        if length > end - at:
            raise _MalformedError(f"it is cut off: {length} bytes are announced and {end - at} follow")
        yield tag >> 3, message[at : at + length]
        at += length


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The integer that begins at `at`, seven bits per byte, at most 64 bits; and where it ends."""
    value = 0
    for index, byte in enumerate(message[at : at + 10]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:
            return value, at + index + 1
    raise _MalformedError("it is cut off or has an integer of more than 64 bits")


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _MalformedError("a number stands where text, a message or bytes are expected")
    return value


def _number(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise _MalformedError("bytes stand where a number is expected")
    return value


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_bytes(value)).decode()
    except UnicodeDecodeError as error:
        raise _MalformedError("a name in it is no UTF-8") from error
