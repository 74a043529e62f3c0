"""Shards: given by folders, globs and braces; read in place; never trusted."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.data.dataset import captions_in
from minigpt4.train.data.open import open_all, open_photos
from minigpt4.train.data.webdataset import Contents, Sample, Span, expand, scan


def write(path: Path, files: Sequence[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def photo(key: str, *captions: str) -> list[tuple[str, bytes]]:
    meta = json.dumps({"captions": captions}).encode()
    return [(f"{key}.jpg", b"jpg of " + key.encode()), (f"{key}.json", meta)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("00000", "00001", "00002", "00010"):
        write(tmp_path / f"{name}.tar", photo(f"k{name}", "A dog."))
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("", ["00000", "00001", "00002", "00010"]),
        ("0000*.tar", ["00000", "00001", "00002"]),
        ("{00000..00002}.tar", ["00000", "00001", "00002"]),
        ("{00009..00010}*.tar", []),
        ("000{02,10}.tar", ["00002", "00010"]),
        ("000{0..1}{0..0}.tar", ["00000", "00010"]),
        ("00001.tar", ["00001"]),
    ],
)
def test_patterns_expand_in_order(folder: Path, pattern: str, names: list[str]) -> None:
    if not names:
        with pytest.raises(DataError, match="00009"):
            expand([folder / pattern])
        return
    assert expand([folder / pattern]) == [folder / f"{name}.tar" for name in names]


def test_a_shard_given_twice_is_read_once(folder: Path) -> None:
    assert expand([folder / "00001.tar", folder]) == [
        folder / f"{name}.tar" for name in ("00001", "00000", "00002", "00010")
    ]


def test_the_error_for_a_folder_of_folders_lists_those_with_shards(folder: Path) -> None:
    with pytest.raises(DataError, match=folder.name):
        expand([folder.parent])


@pytest.mark.parametrize("pattern", ["{5..1}.tar", "{0..99999999}.tar"])
def test_invalid_ranges_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        expand([pattern])


def test_a_missing_shard_is_named() -> None:
    with pytest.raises(DataError, match="nowhere"):
        expand(["nowhere/*.tar"])
    with pytest.raises(DataError, match="nowhere"):
        open_photos("nowhere.tar")


def test_a_scan_lists_spans_in_order_and_reads_nothing_else(tmp_path: Path) -> None:
    files = [
        ("b.JPG", b"jpg of b"),
        ("b.txt", b"A dog."),
        ("a.json", b"{"),
        ("a.png", b"png"),
        ("a.txt", b""),
    ]
    assert scan(write(tmp_path / "s.tar", files)) == Contents(
        samples=[
            Sample("b", Span("jpg", 512, 8), None, Span("txt", 1536, 6)),
            Sample("a", Span("png", 3584, 3), Span("json", 2560, 1), Span("txt", 4608, 0)),
        ],
        skipped=[],
        damage="",
    )


def test_shards_given_in_several_ways_are_one_set_and_read_once(folder: Path) -> None:
    (photos,) = open_all([str(folder / "00001.tar"), str(folder), str(folder / "0000*.tar")], lambda _: None)
    keys = [photos.key(index) for index in range(len(photos))]
    assert keys == ["k00001", "k00000", "k00002", "k00010"]


def test_a_single_caption_or_a_text_file_is_enough(tmp_path: Path) -> None:
    files = [
        ("a.JPG", b"jpg"),
        ("a.json", b'{"caption": "A cat."}'),
        ("b.png", b"png"),
        ("b.txt", b"A dog.\n"),
    ]
    photos = open_photos(write(tmp_path / "s.tar", files))
    assert [captions_in(photos.meta(index)) for index in range(2)] == [("A cat.",), ("A dog.",)]
    assert photos.read(1) == b"png"


def test_names_are_only_keys_and_links_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    shard = write(tmp_path / "s.tar", [*photo("../../up", "A dog."), *photo("/etc/x", "A cat.")])
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("l.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    photos = open_photos(shard)
    assert [photos.key(index) for index in range(len(photos))] == ["../../up", "/etc/x"]
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100, b"\x1f\x8b" + bytes(600)])
def test_a_file_that_is_no_tar_is_refused_with_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.tar"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.tar"):
        open_photos(path)


def test_a_damaged_header_is_not_mistaken_for_the_end(tmp_path: Path) -> None:
    shard = write(tmp_path / "s.tar", [*photo("a", "A dog."), *photo("b", "A cat.")])
    content = bytearray(shard.read_bytes())
    content[4 * 512 : 5 * 512] = b"x" * 512
    shard.write_bytes(content)
    found = scan(shard)
    assert [sample.key for sample in found.samples] == ["a"]
    assert "after 2 readable files" in found.damage


def samples_of(shard: Path) -> tuple[list[str], list[tuple[str, str]]]:
    """Keys of samples, and keys and reasons of the others."""
    found = scan(shard)
    return [sample.key for sample in found.samples], found.skipped


def test_members_that_are_not_neighbours_are_one_sample(tmp_path: Path) -> None:
    files = [(f"{key}.{suffix}", b"A dog.") for suffix in ("png", "txt") for key in "abc"]
    files += [("d.png", b"png"), *photo("e", "A cat."), ("f.txt", b"A cow.")]
    shard = write(tmp_path / "s.tar", files)
    assert samples_of(shard) == (["a", "b", "c", "e"], [("d", "no caption"), ("f", "no photo")])
    photos = open_photos(shard)
    assert [captions_in(photos.meta(index)) for index in (0, 3)] == [("A dog.",), ("A cat.",)]


def test_a_key_with_dots_ends_before_the_last_one(tmp_path: Path) -> None:
    files = [
        *photo("a/IMG.v1", "A dog."),
        *photo("a/IMG.v2.0", "A cat."),
        *photo("b", "A cow."),
        ("IMG.v3.png", b"png"),
        ("._b.png", b"what macOS adds"),
        ("._b.txt", b"what macOS adds"),
    ]
    assert samples_of(write(tmp_path / "s.tar", files)) == (
        ["a/IMG.v1", "a/IMG.v2.0", "b"],
        [("IMG.v3", "no caption")],
    )


def test_a_key_that_stands_twice_is_two_samples_or_named(tmp_path: Path) -> None:
    twice = scan(write(tmp_path / "0.tar", [*photo("a", "A dog."), *photo("a", "A cat.")]))
    assert ([sample.key for sample in twice.samples], twice.skipped) == (["a", "a"], [])
    assert twice.is_regrouped
    half = [("a.png", b"png"), *photo("a", "A cat.")[:1], ("a.png", b"png"), ("a.txt", b"A cow.")]
    assert samples_of(write(tmp_path / "1.tar", half)) == (["a"], [("a", "no caption")])
    crossed = [("a.png", b"1"), ("a.png", b"2"), ("a.txt", b"One."), ("a.txt", b"Two.")]
    reason = "several files of the same name, not one after the other"
    assert samples_of(write(tmp_path / "3.tar", crossed)) == (["a"], [("a", reason)])
    scattered = [("a.jpg", b"jpg"), ("b.jpg", b"jpg"), ("a.jpg", b"jpg"), ("c.jpg", b"jpg"), ("a.txt", b"A.")]
    assert samples_of(write(tmp_path / "2.tar", scattered)) == (
        ["a"],
        [
            ("a", "several files of the same name, of which one is used"),
            ("b", "no caption"),
            ("c", "no caption"),
        ],
    )


def test_further_parts_of_a_webdataset_sample_are_ignored(tmp_path: Path) -> None:
    files = [("a.jpg", b"jpg"), ("a.mask.png", b"png"), ("a.json", b"{}"), ("a.seg.v2.json", b"{}")]
    found = scan(write(tmp_path / "s.tar", files))
    assert ([sample.key for sample in found.samples], found.skipped) == (["a"], [])
    assert not found.is_regrouped


def test_a_shard_that_is_read_as_before_keeps_its_fingerprint_and_another_does_not(tmp_path: Path) -> None:
    as_before = [*photo("a", "A dog."), *photo("b", "A cat."), ("c.jpg", b"jpg")]
    scattered = [*as_before, ("d.jpg", b"jpg"), ("c.txt", b"A cow.")]
    for name, files in (("0.tar", as_before), ("1.tar", scattered)):
        shard = write(tmp_path / name, files)
        digest = hashlib.sha256(shard.read_bytes()).hexdigest()
        fingerprint = hashlib.sha256(digest.encode()).hexdigest()
        assert (open_photos(shard).fingerprint == fingerprint) == (name == "0.tar")


def test_the_first_reasons_are_told_if_a_shard_has_no_sample(tmp_path: Path) -> None:
    shard = write(tmp_path / "s.tar", [("a.png", b"png"), ("b.png", b"png"), ("c.txt", b"A dog.")])
    with pytest.raises(DataError, match=r"captions; of 'a': no caption; of 'c': no photo\.$"):
        open_photos(shard)
