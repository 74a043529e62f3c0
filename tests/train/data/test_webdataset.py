"""Shards: given by folders, globs and braces; read in place; never trusted."""

from __future__ import annotations

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
    files = [("b.JPG", b"jpg of b"), ("b.txt", b"A dog."), ("a.json", b"{"), ("a.png", b"png")]
    assert scan(write(tmp_path / "s.tar", files)) == Contents(
        samples=[
            Sample("b", Span("jpg", 512, 8), Span("txt", 1536, 6)),
            Sample("a", Span("png", 3584, 3), Span("json", 2560, 1)),
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
