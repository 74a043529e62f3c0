"""Shards as a set: random access to photos, damage reported and skipped."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.core.errors import DataError
from minigpt4.core.storage.paths import cache_home
from minigpt4.train.data import shards
from minigpt4.train.data.dataset import CAPTION_LIMIT, PhotoError, captions_in
from minigpt4.train.data.open import open_photos
from minigpt4.train.data.shards import SPANS, ShardIndex, ShardPhotos
from minigpt4.train.events import PhotosRead

WriteTar = Callable[..., Path]
Sample = Callable[..., list[tuple[str, bytes]]]


@pytest.fixture
def two_shards(write_tar: WriteTar, sample: Sample, tmp_path: Path) -> Path:
    write_tar("set/0.tar", [*sample("a", "An ant."), *sample("b", "A bee.", "Two bees.")])
    write_tar("set/1.tar", [*sample("a", "A cat."), *sample("deep/ö", "A dog.")])
    return tmp_path / "set"


def test_every_photo_can_be_read_in_any_order(two_shards: Path, photo: Any, events: Any) -> None:
    photos = open_photos(two_shards, report=events)
    assert (photos.name, len(photos)) == ("set", 4)
    assert [photos.key(place) for place in (3, 0, 2, 1)] == ["deep/ö", "a", "a", "b"]
    assert [photos.read(place) for place in (2, 3)] == [photo("red") + b"a", photo("red") + "deep/ö".encode()]
    assert [captions_in(photos.meta(place)) for place in (2, 1)] == [("A cat.",), ("A bee.", "Two bees.")]
    assert events.reported == [PhotosRead("set", 1, 2), PhotosRead("set", 2, 2)]


def test_headers_and_checksums_are_read_once(two_shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_photos(two_shards)
    monkeypatch.setattr(shards, "_build", lambda path: pytest.fail(f"{path} was indexed again"))
    again = open_photos(two_shards)
    assert again.fingerprint == before.fingerprint
    assert [again.key(place) for place in range(4)] == [before.key(place) for place in range(4)]
    assert again.read(3) == before.read(3)


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half", b"nothing of the kind" * 100])
def test_a_damaged_index_is_rebuilt(two_shards: Path, damage: bytes) -> None:
    keys = [open_photos(two_shards).key(place) for place in range(4)]
    for kept in (cache_home() / "shards").iterdir():
        kept.write_bytes(damage)
    assert [open_photos(two_shards).key(place) for place in range(4)] == keys


def test_a_cache_that_cannot_be_written_is_ignored(two_shards: Path) -> None:
    cache_home().mkdir(parents=True, exist_ok=True)
    (cache_home() / "shards").write_text("in the way")
    assert len(open_photos(two_shards)) == 4


def test_a_changed_shard_is_indexed_again_and_has_another_fingerprint(
    two_shards: Path, write_tar: WriteTar, sample: Sample
) -> None:
    before = open_photos(two_shards).fingerprint
    status = (two_shards / "1.tar").stat()
    # As long as before, and of the same minute.
    write_tar("set/1.tar", [*sample("a", "A cow."), *sample("deep/ö", "A dog.")])
    os.utime(two_shards / "1.tar", ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    after = open_photos(two_shards)
    assert (two_shards / "1.tar").stat().st_size == status.st_size
    assert captions_in(after.meta(2)) == ("A cow.",)
    assert after.fingerprint != before


def test_the_fingerprint_depends_on_the_content_and_not_on_the_path(two_shards: Path, tmp_path: Path) -> None:
    before = open_photos(two_shards)
    two_shards.rename(tmp_path / "moved")
    for shard in (tmp_path / "moved").iterdir():
        os.utime(shard, (1, 1))
    assert open_photos(tmp_path / "moved").fingerprint == before.fingerprint
    assert open_photos(tmp_path / "moved" / "0.tar").fingerprint != before.fingerprint


def test_each_unusable_photo_is_reported_once_and_the_rest_kept(
    write_tar: WriteTar, sample: Sample, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt4.train.data.webdataset.MEMBER_LIMIT", 2_000)
    monkeypatch.setattr("minigpt4.train.data.webdataset.META_LIMIT", 2_000)
    shard = write_tar(
        "s.tar",
        [
            ("no-caption.jpg", b"jpg"),
            *sample("good", "A dog."),
            ("no-photo.json", b'{"caption": "A dog."}'),
            ("huge.jpg", bytes(2_001)),
            ("huge.json", b'{"caption": "A dog."}'),
            ("talkative.jpg", b"jpg"),
            ("talkative.txt", bytes(2_001)),
        ],
    )
    photos = open_photos(shard, report=events)
    assert [photos.key(place) for place in range(len(photos))] == ["good"]
    assert events.skipped == [
        ("no-caption", "no caption"),
        ("no-photo", "no photo"),
        ("huge", "a jpg of more than 0 MB"),
        ("talkative", "a txt of more than 0 MB"),
    ]
    events.reported.clear()
    open_photos(shard, report=events)
    assert len(events.skipped) == 4  # reported again from the cached index


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("json", b"{", "unreadable JSON"),
        ("json", b'{"caption": "\xff"}', "a caption that is not UTF-8"),
        ("json", b'{"caption": "\\ud800"}', "a caption that is not UTF-8"),
        ("json", b'{"captions": ["  ", 7, null]}', "a caption that is not a text: 7"),
        ("json", b"[" * 100_000, "unreadable JSON"),
        ("json", b'["A dog."]', "no caption"),
        ("txt", b"\xff\xfe", "no caption"),
        ("txt", b"\xe4hnlich", "a caption that is not UTF-8"),
        ("txt", b" \n", "no caption"),
        ("txt", b"long " * CAPTION_LIMIT, f"a caption of {5 * CAPTION_LIMIT} characters, more than 20000"),
    ],
)
def test_bad_captions_are_reported_when_their_photo_is_read(
    write_tar: WriteTar, sample: Sample, name: str, content: bytes, reason: str
) -> None:
    shard = write_tar("s.tar", [("a.jpg", b"jpg"), (f"a.{name}", content), *sample("b", "A bee.")])
    photos = open_photos(shard)
    with pytest.raises(PhotoError, match=r"The photo 'a' of 's\.tar' cannot be used: ") as caught:
        photos.meta(0)
    assert (caught.value.key, caught.value.reason) == ("a", reason)
    assert captions_in(photos.meta(1)) == ("A bee.",)


def pair(meta: bytes, text: bytes) -> list[tuple[str, bytes]]:
    return [("a.jpg", b"jpg"), ("a.json", meta), ("a.txt", text)]


@pytest.mark.parametrize(
    "meta",
    [b"{}", b'{"url": "x", "caption": null}', b'{"captions": ["", " "], "caption": ""}', b'["A cat."]'],
)
def test_a_json_without_captions_leaves_them_to_the_text(write_tar: WriteTar, meta: bytes) -> None:
    photos = open_photos(write_tar("s.tar", pair(meta, b" A dog.\n")))
    assert captions_in(photos.meta(0)) == ("A dog.",)
    assert ("url" in photos.meta(0)) == (b"url" in meta)


def test_a_json_with_captions_comes_before_the_text(write_tar: WriteTar) -> None:
    photos = open_photos(write_tar("s.tar", pair(b'{"caption": "A cat."}', b"A dog.")))
    assert captions_in(photos.meta(0)) == ("A cat.",)


@pytest.mark.parametrize(
    ("meta", "text", "reason"),
    [
        (b"{", b"A dog.", "unreadable JSON"),
        (b'{"caption": 5}', b"A dog.", "a caption that is not a text: 5"),
        (b"{}", b" \n", "no caption"),
        (b"{}", b"\xff\xff\xff", "a caption that is not UTF-8"),
    ],
)
def test_what_is_wrong_in_either_is_named(write_tar: WriteTar, meta: bytes, text: bytes, reason: str) -> None:
    photos = open_photos(write_tar("s.tar", pair(meta, text)))
    with pytest.raises(PhotoError) as caught:
        photos.meta(0)
    assert caught.value.reason == reason


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_a_text_in_another_encoding_is_read_without_its_mark(write_tar: WriteTar, encoding: str) -> None:
    photos = open_photos(write_tar("s.tar", [("a.jpg", b"jpg"), ("a.txt", "Zwölf Hunde.".encode(encoding))]))
    assert captions_in(photos.meta(0)) == ("Zwölf Hunde.",)


def test_an_index_of_an_earlier_form_is_built_again(
    write_tar: WriteTar, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for its name, which holds the version, and once for its content."""
    shard = write_tar("s.tar", pair(b"{}", b"A dog."))
    earlier = np.dtype([(name, SPANS[name]) for name in ("photo", "photo_size", "json", "json_size")])

    def build(path: Path, whole: Callable[[Path], ShardIndex] = shards._build) -> ShardIndex:
        index = whole(path)
        return replace(index, spans=np.array([tuple(row)[:4] for row in index.spans], dtype=earlier))

    with monkeypatch.context() as patch:
        patch.setattr(shards, "_build", build)
        shards.shard_index(shard)
    (kept,) = (cache_home() / "shards").iterdir()
    before = kept.read_bytes()
    assert captions_in(open_photos(shard).meta(0)) == ("A dog.",)
    assert kept.read_bytes() != before
    monkeypatch.setattr(shards, "VERSION", shards.VERSION - 1)
    open_photos(shard)
    assert len(list((cache_home() / "shards").iterdir())) == 2


def test_one_bad_caption_of_several_is_skipped(write_tar: WriteTar) -> None:
    meta = json.dumps({"captions": ["", "A dog.", "x" * (CAPTION_LIMIT + 1), " Dogs. "]}).encode()
    photos = open_photos(write_tar("s.tar", [("a.jpg", b"jpg"), ("a.json", meta)]))
    assert captions_in(photos.meta(0)) == ("A dog.", "Dogs.")


CAPTION = b'{"caption": "A dog."}'


@settings(max_examples=60)
@given(cut=st.integers(0, 6 * 1024))
def test_a_truncated_shard_gives_its_whole_samples(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    with tarfile.open(folder / "s.tar", "w") as archive:
        for key in "abc":
            for suffix, content in (("jpg", b"jpg"), ("json", CAPTION)):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    whole = (folder / "s.tar").read_bytes()
    (folder / "s.tar").write_bytes(whole[:cut])
    events: list[Any] = []
    # Each file is a header of 512 bytes and a block of as many; the last needs its content alone.
    samples = cut // 2048 + (cut % 2048 >= 1536 + len(CAPTION))
    if not samples:
        with pytest.raises(DataError, match=r"s\.tar"):
            ShardPhotos("s", [folder / "s.tar"], events.append)
        return
    photos = ShardPhotos("s", [folder / "s.tar"], events.append)
    assert [photos.key(place) for place in range(len(photos))] == list("abc")[:samples]
    assert photos.read(samples - 1) == b"jpg"
    assert [event.key for event in events if not isinstance(event, PhotosRead)][-1] == "s.tar"


def test_a_good_shard_beside_a_file_that_is_no_shard_is_used(
    write_tar: WriteTar, sample: Sample, tmp_path: Path, events: Any
) -> None:
    write_tar("set/0.tar", sample("a", "An ant."))
    (tmp_path / "set" / "1.tar").write_bytes(b"")
    photos = open_photos(tmp_path / "set", report=events)
    assert len(photos) == 1
    ((key, reason),) = events.skipped
    assert key == "1.tar"
    assert "is not a tar shard" in reason


def test_a_file_alone_that_is_no_shard_is_told_once(tmp_path: Path, events: Any) -> None:
    (tmp_path / "1.tar").write_bytes(b"")
    with pytest.raises(DataError, match="is not a tar shard"):
        open_photos(tmp_path / "1.tar", report=events)
    assert events.skipped == []


def test_shards_without_a_photo_are_an_error(write_tar: WriteTar) -> None:
    with pytest.raises(DataError, match=r"The shards of 's\.tar' hold no photo with captions\."):
        open_photos(write_tar("s.tar", [("readme.md", b"hello")]))


def test_a_shard_that_vanishes_or_shrinks_gives_bad_photos(write_tar: WriteTar, sample: Sample) -> None:
    shard = write_tar("s.tar", [*sample("a", "An ant."), *sample("b", "A bee.")])
    photos = open_photos(shard)
    os.truncate(shard, 600)
    with pytest.raises(PhotoError, match="has become shorter"):
        photos.read(1)
    shard.unlink()
    with pytest.raises(PhotoError, match="cannot be read"):
        photos.meta(0)


def test_a_negative_size_is_damage_and_not_an_endless_loop(
    write_tar: WriteTar, sample: Sample, events: Any
) -> None:
    shard = write_tar("s.tar", [*sample("a", "An ant."), *sample("b", "A bee.")])
    content = bytearray(shard.read_bytes())
    header = content.find(b"b.jpg")
    content[header + 124 : header + 136] = b"\xff" * 11 + b"\x00"  # base 256, below zero
    content[header + 148 : header + 156] = b" " * 8
    checksum = sum(content[header : header + 512])
    content[header + 148 : header + 156] = b"%06o\0 " % checksum
    shard.write_bytes(content)
    photos = open_photos(shard, report=events)
    assert len(photos) == 1
    assert events.skipped[-1][0] == "s.tar"
