"""A GGUF's header is read before llama.cpp reads the file: nothing in it is believed."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt4.core.errors import BundleError
from minigpt4.core.weights.gguf.facts import checked_header, language_facts, mmproj_facts, split_files
from minigpt4.core.weights.gguf.header import read_header


def small(
    path: Path, *, architecture: str = "llama", extra: Callable[[GGUFWriter], None] | None = None
) -> Path:
    writer = GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(8)
    writer.add_block_count(2)
    writer.add_head_count(2)
    writer.add_token_list(["<s>", "a", "b"])
    writer.add_token_types([3, 1, 1])
    writer.add_chat_template("{{ messages }}")
    if extra is not None:
        extra(writer)
    writer.add_tensor("token_embd.weight", np.arange(24, dtype=np.float32).reshape(3, 8))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def header_of(*, metadata: bytes = b"", entries: int = 0, tensors: bytes = b"", count: int = 0) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, count, entries) + metadata + tensors


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ENTRY = text(b"a") + struct.pack("<II", 4, 7)

HOSTILE = {
    "a text longer than the file": header_of(metadata=struct.pack("<Q", 1 << 62), entries=1),
    "a list longer than the file": header_of(
        metadata=text(b"a") + struct.pack("<IIQ", 9, 4, 1 << 61), entries=1
    ),
    "a list of texts without end": header_of(
        metadata=text(b"a") + struct.pack("<IIQ", 9, 8, 1 << 62), entries=1
    ),
    "a list of lists": header_of(metadata=text(b"a") + struct.pack("<IIQ", 9, 9, 1), entries=1),
    "a value of no type": header_of(metadata=text(b"a") + struct.pack("<I", 99), entries=1),
    "a key twice": header_of(metadata=ENTRY * 2, entries=2),
    "more entries than there are": header_of(metadata=ENTRY, entries=1 << 40),
    "more tensors than there are": header_of(count=1 << 40),
    "a tensor of many dimensions": header_of(tensors=tensor(b"t", (1,) * 5), count=1),
    "a tensor whose size overflows": header_of(tensors=tensor(b"t", (1 << 33, 1 << 33)), count=1),
    "a tensor of nothing": header_of(tensors=tensor(b"t", (0, 4)), count=1),
    "a tensor outside the file": header_of(tensors=tensor(b"t", (4,), offset=1 << 40), count=1),
    "a tensor between two places": header_of(tensors=tensor(b"t", (4,), offset=7), count=1),
    "a tensor of an unknown type": header_of(tensors=tensor(b"t", (4,), kind=9999), count=1),
    "a row that is no whole block": header_of(tensors=tensor(b"t", (5,), kind=2), count=1),
    "a tensor twice": header_of(tensors=tensor(b"t", (4,)) * 2, count=2),
    "a name that is too long": header_of(tensors=tensor(b"t" * 64, (4,)), count=1),
    "an alignment of three": header_of(
        metadata=text(b"general.alignment") + struct.pack("<II", 4, 3), entries=1
    ),
    "an alignment of nothing": header_of(
        metadata=text(b"general.alignment") + struct.pack("<II", 4, 0), entries=1
    ),
    "a future version": b"GGUF" + struct.pack("<IQQ", 4, 0, 0),
    "a name that is no text": header_of(metadata=text(b"\xff\xfe"), entries=1),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_an_impossible_header_is_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content + bytes(64))
    with pytest.raises(ValueError, match=r"^(its? |the name)"):
        read_header(path)
    with pytest.raises(BundleError, match="fetch it again"):
        checked_header(path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 600), value=st.binary(min_size=1, max_size=9))
def test_no_change_of_a_header_is_anything_but_a_sentence(tmp_path: Path, place: int, value: bytes) -> None:
    good = small(tmp_path / "good.gguf").read_bytes()
    path = tmp_path / "changed.gguf"
    path.write_bytes(good[:place] + value + good[place + len(value) :])
    try:
        header = checked_header(path)
    except BundleError:
        return
    assert header.end <= path.stat().st_size


def test_lists_are_read_on_request_and_have_their_places(tmp_path: Path) -> None:
    path = small(tmp_path / "small.gguf")
    header = read_header(path, ("tokenizer.ggml.tokens", "tokenizer.ggml.token_type"))
    assert header.lists == {
        "tokenizer.ggml.tokens": ["<s>", "a", "b"],
        "tokenizer.ggml.token_type": [3, 1, 1],
    }
    start, end = header.places["tokenizer.ggml.tokens"]
    assert b"<s>" in path.read_bytes()[start:end]
    assert read_header(path).lists == {}
    assert read_header(path).lengths["tokenizer.ggml.tokens"] == 3


def test_a_language_model_says_what_it_is(tmp_path: Path) -> None:
    path = small(tmp_path / "small.gguf", extra=lambda writer: writer.add_file_type(15))
    facts = language_facts(path)
    assert (facts.architecture, facts.width, facts.layers, facts.vocabulary) == ("llama", 8, 2, 3)
    assert (facts.quant, facts.template, facts.weights) == ("Q4_K_M", "{{ messages }}", 24)
    assert facts.cache_bytes(10, 2) == 2 * 2 * (4 + 4) * 10 * 2
    with pytest.raises(BundleError, match="is a language model"):
        mmproj_facts(path)


def test_a_file_cut_short_and_swapped_files_are_told(tmp_path: Path) -> None:
    path = small(tmp_path / "small.gguf")
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(BundleError, match="cut short"):
        language_facts(cut)
    clip = small(tmp_path / "mmproj.gguf", architecture="clip")
    with pytest.raises(BundleError, match="give it as --mmproj"):
        language_facts(clip)


def test_all_parts_of_a_split_model_must_be_there(tmp_path: Path) -> None:
    def split(number: int) -> Path:
        def extra(writer: GGUFWriter) -> None:
            writer.add_uint16("split.count", 2)
            writer.add_uint16("split.no", number)

        return small(tmp_path / f"model-{number + 1:05}-of-00002.gguf", extra=extra)

    first = split(0)
    with pytest.raises(BundleError, match=r"model-00002-of-00002\.gguf is not beside it"):
        language_facts(first)
    second = split(1)
    assert split_files(first, checked_header(first)) == [first, second]
    assert language_facts(first).bytes == first.stat().st_size + second.stat().st_size
    with pytest.raises(BundleError, match="give the first part"):
        language_facts(second)
    renamed = tmp_path / "renamed.gguf"
    renamed.write_bytes(first.read_bytes())
    with pytest.raises(BundleError, match="call it as it was published"):
        language_facts(renamed)
