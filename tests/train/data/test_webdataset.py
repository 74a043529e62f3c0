"""Shards: named by folders, globs and braces; read in place; never trusted."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.data import webdataset as shards
from minigpt4.train.data.webdataset import count_photos, expand, read_shard


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
def test_patterns_name_shards_in_order(folder: Path, pattern: str, names: list[str]) -> None:
    if not names:
        with pytest.raises(DataError, match="00009"):
            expand([folder / pattern])
        return
    assert expand([folder / pattern]) == [folder / f"{name}.tar" for name in names]


def test_a_shard_named_twice_is_read_once(folder: Path) -> None:
    assert expand([folder / "00001.tar", folder]) == [
        folder / f"{name}.tar" for name in ("00001", "00000", "00002", "00010")
    ]


def test_a_folder_of_folders_says_which_of_them_have_shards(folder: Path) -> None:
    with pytest.raises(DataError, match=folder.name):
        expand([folder.parent])


@pytest.mark.parametrize("pattern", ["{5..1}.tar", "{0..99999999}.tar"])
def test_senseless_ranges_are_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        expand([pattern])


def test_a_missing_shard_is_named() -> None:
    with pytest.raises(DataError, match="nowhere"):
        expand(["nowhere/*.tar"])
    with pytest.raises(DataError, match="nowhere"):
        list(read_shard(Path("nowhere.tar")))


def test_samples_keep_key_bytes_captions_and_order(tmp_path: Path) -> None:
    shard = write(tmp_path / "s.tar", [*photo("b", "A dog.", " "), *photo("a", "A cat.", "Two cats.")])
    first, second = read_shard(shard)
    assert (first.key, first.jpg, first.captions, first.shard) == ("b", b"jpg of b", ("A dog.",), shard)
    assert (second.key, second.captions) == ("a", ("A cat.", "Two cats."))
    assert count_photos([shard, tmp_path / "missing.tar"]) == 2


def test_a_lone_caption_will_do_and_so_will_a_text_file(tmp_path: Path) -> None:
    files = [
        ("a.JPG", b"jpg"),
        ("a.json", b'{"caption": "A cat."}'),
        ("b.png", b"png"),
        ("b.txt", b"A dog.\n"),
    ]
    assert [sample.captions for sample in read_shard(write(tmp_path / "s.tar", files))] == [
        ("A cat.",),
        ("A dog.",),
    ]


def test_samples_that_lack_something_are_told(tmp_path: Path) -> None:
    files = [
        ("a.jpg", b"jpg"),
        *photo("b"),
        ("c.json", b'{"caption": "A dog."}'),
        ("d.jpg", b"jpg"),
        ("d.json", b"{"),
        ("e.jpg", b"jpg"),
        ("e.json", b"[1]"),
        *photo("f", "A cat."),
    ]
    told: list[tuple[str, str]] = []
    samples = list(read_shard(write(tmp_path / "s.tar", files), skipped=lambda *what: told.append(what)))
    assert [sample.key for sample in samples] == ["f"]
    assert told == [
        ("a", "no caption"),
        ("b", "no caption"),
        ("c", "no photo"),
        ("d", "unreadable JSON"),
        ("e", "no caption"),
    ]


def test_names_are_only_keys_and_links_are_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    shard = write(tmp_path / "s.tar", [*photo("../../up", "A dog."), *photo("/etc/x", "A cat.")])
    with tarfile.open(shard, "a") as archive:
        link = tarfile.TarInfo("l.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert [sample.key for sample in read_shard(shard)] == ["../../up", "/etc/x"]
    assert list(work.iterdir()) == []


def test_a_gigantic_member_is_left_out_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MEMBER_LIMIT", 100)
    shard = write(
        tmp_path / "s.tar",
        [("a.jpg", bytes(101)), ("a.json", b'{"caption": "A dog."}'), *photo("b", "A cat.")],
    )
    told: list[tuple[str, str]] = []
    assert [sample.key for sample in read_shard(shard, skipped=lambda *what: told.append(what))] == ["b"]
    assert told == [("a", "a jpg of more than 0 MB")]


@pytest.mark.parametrize("content", [b"", b"not a tar at all" * 100, b"\x1f\x8b" + bytes(600)])
def test_what_is_no_tar_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.tar"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.tar"):
        list(read_shard(path))


@settings(deadline=None, max_examples=60)
@given(cut=st.floats(0, 1, exclude_max=True))
def test_wherever_a_shard_is_cut_off_it_is_an_error_after_the_whole_samples(
    tmp_path_factory: pytest.TempPathFactory, cut: float
) -> None:
    shard = write(
        tmp_path_factory.mktemp("cut") / "s.tar", [file for key in "abc" for file in photo(key, "A dog.")]
    )
    end = 6 * 2 * 512  # six headers, each with a block of content; what follows is the end mark
    shard.write_bytes(shard.read_bytes()[: int(cut * end)])
    seen = []
    with pytest.raises(DataError, match=r"s\.tar"):
        for sample in read_shard(shard):
            seen.append(sample.key)
    assert seen == list("abc")[: len(seen)]


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    shard = write(tmp_path / "s.tar", [*photo("a", "A dog."), *photo("b", "A cat.")])
    content = bytearray(shard.read_bytes())
    content[4 * 512 : 5 * 512] = b"x" * 512
    shard.write_bytes(content)
    with pytest.raises(DataError, match="after 2 readable files"):
        list(read_shard(shard))
