"""The header of a GGUF file: metadata and the table of tensors.

Read without the `gguf` package's reader: it takes 1 s for LLaMA's vocabulary, this 4 ms. Layout:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

The file is untrusted and is read before llama.cpp reads it, whose parser has had overflows: every length,
count, shape and offset is checked against the file's size, and names against the library's limits.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

MAGIC = b"GGUF"
VERSIONS = (2, 3)
LEAST_BYTES = 24
"""Magic, version, and the counts of tensors and of metadata."""

DEFAULT_ALIGNMENT = 32
MOST_DIMENSIONS = 4
"""ggml's GGML_MAX_DIMS."""

LONGEST_NAME = 63
"""Bytes of a tensor's name: ggml's GGML_MAX_NAME without the final zero."""

MOST_NUMBERS = 1 << 40
"""Numbers in one tensor; a thousand times the largest that exists, and far from overflowing 64 bits."""

_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

Value = int | float | bool | str


@dataclass(frozen=True)
class GgufTensor:
    """A tensor's ggml type by name, its shape (rows first) and its place in the file in bytes."""

    kind: str
    shape: tuple[int, ...]
    start: int
    length: int


@dataclass(frozen=True)
class GgufHeader:
    """The header; `lengths` is how many items the metadata's lists have.

    Their content is skipped, except for the lists requested from `read_header`, which are in `lists`.
    """

    metadata: dict[str, Value]
    lengths: dict[str, int]
    tensors: dict[str, GgufTensor]
    lists: dict[str, list[Value]] = field(default_factory=dict)
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Where the content of each list begins and ends in the file, in bytes."""

    @property
    def end(self) -> int:
        """Where the last tensor ends: a shorter file is truncated."""
        return max((tensor.start + tensor.length for tensor in self.tensors.values()), default=0)


def read_header(path: Path, lists: Collection[str] = ()) -> GgufHeader:
    """The header, with the content of the metadata `lists` of these names.

    Raises ValueError, stating the problem, for a damaged header, OSError for an unreadable file.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return _Reader(data, lists).header()
        except (struct.error, IndexError, UnicodeDecodeError, OverflowError) as error:
            raise ValueError("its header is cut short or damaged") from error


class _Reader:
    """Steps through the header; raises at once for a count that is impossible in a file of this size."""

    def __init__(self, data: mmap.mmap, wanted: Collection[str]) -> None:
        self._data = data
        self._wanted = wanted
        self._place = 0

    def header(self) -> GgufHeader:
        if self._take(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin with GGUF")
        version, tensor_count, metadata_count = self._unpack("I"), self._unpack("Q"), self._unpack("Q")
        if version not in VERSIONS:
            raise ValueError(f"its version is {version}, not {' or '.join(map(str, VERSIONS))}")
        metadata: dict[str, Value] = {}
        lengths: dict[str, int] = {}
        lists: dict[str, list[Value]] = {}
        places: dict[str, tuple[int, int]] = {}
        for _ in range(int(metadata_count)):
            key, kind = self._string(), int(self._unpack("I"))
            if key in metadata or key in lengths:
                raise ValueError(f"its metadata have the key '{key[:80]}' twice")
            start = self._place
            if kind != _ARRAY:
                metadata[key] = self._value(kind)
                continue
            if key in self._wanted:
                lists[key] = self._list()
                lengths[key] = len(lists[key])
            else:
                lengths[key] = self._skip_list()
            places[key] = (start, self._place)
        tensors = self._tensors(int(tensor_count), metadata)
        return GgufHeader(metadata, lengths, tensors, lists, places)

    def _tensors(self, count: int, metadata: dict[str, Value]) -> dict[str, GgufTensor]:
        entries = []
        for _ in range(count):
            name = self._string()
            if len(name.encode()) > LONGEST_NAME:
                raise ValueError(f"the name of its tensor {name[:80]}... is longer than {LONGEST_NAME} bytes")
            dimensions = int(self._unpack("I"))
            if dimensions > MOST_DIMENSIONS:
                raise ValueError(f"its tensor {name} has {dimensions} dimensions")
            shape = tuple(int(self._unpack("Q")) for _ in range(dimensions))[::-1]
            entries.append((name, shape, int(self._unpack("I")), int(self._unpack("Q"))))
        alignment = _alignment(metadata)
        start = math.ceil(self._place / alignment) * alignment
        tensors: dict[str, GgufTensor] = {}
        for name, shape, kind, offset in entries:
            if name in tensors:
                raise ValueError(f"it has the tensor {name} twice")
            if offset % alignment:
                raise ValueError(f"its tensor {name} begins at an impossible place ({offset})")
            if offset > len(self._data):
                raise ValueError(f"it has {len(self._data)} bytes, but its weights end after {offset}")
            ggml, length = _stored(name, shape, kind)
            tensors[name] = GgufTensor(ggml, shape, start + offset, length)
        return tensors

    def _take(self, length: int) -> bytes:
        if length > len(self._data) - self._place:
            raise IndexError
        taken = self._data[self._place : self._place + length]
        self._place += length
        return taken

    def _unpack(self, code: str) -> int | float | bool:
        (value,) = struct.unpack_from(f"<{code}", self._data, self._place)
        self._place += struct.calcsize(f"<{code}")
        assert isinstance(value, int | float)
        return value

    def _value(self, kind: int) -> Value:
        return self._string() if kind == _STRING else self._unpack(self._code(kind))

    def _string(self) -> str:
        return self._take(int(self._unpack("Q"))).decode()

    def _code(self, kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(f"its metadata have a value of the unknown type {kind}")
        return _SCALARS[kind]

    def _list(self) -> list[Value]:
        kind, count = int(self._unpack("I")), int(self._unpack("Q"))
        if kind == _STRING:
            return [self._text() for _ in range(count)]
        packed = self._take(struct.calcsize(f"<{self._code(kind)}") * count)
        return list(struct.unpack(f"<{count}{self._code(kind)}", packed))

    def _text(self) -> str:
        """A string of a list: a token may be bytes that are not UTF-8."""
        return self._take(int(self._unpack("Q"))).decode("utf-8", "replace")

    def _skip_list(self) -> int:
        kind, count = int(self._unpack("I")), int(self._unpack("Q"))
        if kind != _STRING:
            self._take(struct.calcsize(f"<{self._code(kind)}") * count)
            return count
        data, place, read = self._data, self._place, struct.Struct("<Q").unpack_from
        for _ in range(count):
            place += 8 + read(data, place)[0]
        if place > len(data):
            raise IndexError
        self._place = place
        return count


def _alignment(metadata: dict[str, Value]) -> int:
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"its alignment is {alignment!r}, which is not a power of two")
    return alignment


def _stored(name: str, shape: tuple[int, ...], kind: int) -> tuple[str, int]:
    """The name of a tensor's ggml type, and its length in bytes."""
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        ggml = GGMLQuantizationType(kind)
    except ValueError:
        raise ValueError(f"its tensor {name} is of the type {kind}, which is not known here") from None
    numbers, size = GGML_QUANT_SIZES[ggml]
    if 0 in shape or math.prod(shape) > MOST_NUMBERS or (shape[-1] if shape else 1) % numbers:
        raise ValueError(f"its tensor {name} has the impossible shape {shape} for {ggml.name}")
    return ggml.name, math.prod(shape) // numbers * size
