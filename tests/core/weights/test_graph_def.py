"""Reading the constants of a frozen TensorFlow graph, and refusing every file that is none."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.core.errors import BundleError
from minigpt4.core.weights import graph_def
from minigpt4.core.weights.graph_def import read_constants


def varint(value: int) -> bytes:
    """An integer in protobuf's wire format."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    """One field of a message: an integer, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(content: bytes, shape: list[int], dtype: int = 1) -> bytes:
    """A TensorProto."""
    dims = b"".join(field(2, field(1, size)) for size in shape)
    return field(1, dtype) + field(2, dims) + field(4, content)


def node(name: str, value: bytes, operation: str = "Const") -> bytes:
    """A GraphDef of one node with an attribute `value`."""
    attribute = field(1, b"value") + field(2, field(8, value))
    return field(1, field(1, name.encode()) + field(2, operation.encode()) + field(5, attribute))


def floats(*values: float) -> bytes:
    """Values as the format keeps them."""
    return struct.pack(f"<{len(values)}f", *values)


GRAPH = (
    node("weights", tensor(floats(1, 2, 3, 4, 5, 6), [2, 3]))
    + node("count", tensor(b"\7\0\0\0", [1], dtype=3))
    + node("image", tensor(floats(1), [1]), operation="Placeholder")
)


def test_the_float_constants_are_read_by_name(tmp_path: Path) -> None:
    constants = read_constants(_written(tmp_path, GRAPH))
    assert list(constants) == ["weights"]
    assert constants["weights"].tolist() == [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"\x12\x00", "it has no nodes"),
        (GRAPH[:40], "it is cut off"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "it is cut off"),
        (b"\x0a" + b"\xff" * 11, "more than 64 bits"),
        (b"\x0b\x00", "unknown type 3"),
        (node("huge", tensor(floats(1), [1 << 20, 1 << 20])), "has 4 bytes"),
        (node("huge", tensor(floats(1), [1 << 40])), "a tensor has the shape"),
        (node("negative", tensor(floats(1), [(1 << 64) - 1])), "a tensor has the shape"),
        (node("deep", tensor(floats(1), [1] * 9)), "a tensor has the shape"),
        (node("twice", tensor(floats(1), [1])) * 2, "two constants of the name 'twice'"),
        (field(1, field(1, b"\xff\xfe")), "no UTF-8"),
        (field(1, 5), "a number stands where"),
    ],
)
def test_a_hostile_file_is_refused_in_one_sentence(tmp_path: Path, content: bytes, reason: str) -> None:
    path = _written(tmp_path, content)
    with pytest.raises(BundleError) as raised:
        read_constants(path)
    message = str(raised.value)
    assert reason in message and str(path) in message and message.endswith("fetch it again.")
    assert "\n" not in message


def test_a_file_over_the_limit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_def, "MAX_BYTES", len(GRAPH) - 1)
    with pytest.raises(BundleError, match="more than the"):
        read_constants(_written(tmp_path, GRAPH))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"none\.pb cannot be read: No such file"):
        read_constants(tmp_path / "none.pb")


@settings(deadline=None, max_examples=300)
@given(
    data=st.one_of(
        st.binary(max_size=200),
        st.tuples(st.integers(0, len(GRAPH) - 1), st.binary(min_size=1, max_size=4)).map(
            lambda change: GRAPH[: change[0]] + change[1] + GRAPH[change[0] + len(change[1]) :]
        ),
    )
)
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = _written(tmp_path_factory.mktemp("graph"), data)
    try:
        constants = read_constants(path)
    except BundleError as error:
        assert "\n" not in str(error)
    else:
        assert sum(value.nbytes for value in constants.values()) <= len(data)


def _written(folder: Path, content: bytes) -> Path:
    path = folder / "graph.pb"
    path.write_bytes(content)
    return path


def test_values_are_views_of_the_file(tmp_path: Path) -> None:
    value = read_constants(_written(tmp_path, GRAPH))["weights"]
    assert not value.flags.owndata and not value.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        value += np.float32(1)
