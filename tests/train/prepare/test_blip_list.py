"""Caption lists: streamed, counted once, and damage reported with its offset."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from minigpt4.core.errors import DataError
from minigpt4.train.prepare import blip_list as pair_list
from minigpt4.train.prepare.blip_list import ListIndex, Pair, count_pairs, pairs_at

Write = Callable[..., Path]


def rows(count: int) -> list[dict[str, str]]:
    return [
        {"caption": f"Caption {number}.", "url": f"https://x.org/{number}.jpg"} for number in range(count)
    ]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: object, name: str = "list.json") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    return write


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks and blocks so small that rows are cut by them."""
    monkeypatch.setattr(pair_list, "CHUNK", 64)
    monkeypatch.setattr(pair_list, "BLOCK", 4)


def all_pairs(path: Path) -> list[Pair]:
    index = count_pairs(path)
    return list(pairs_at(path, index, range(index.rows)))


@pytest.mark.parametrize("dump", [json.dumps, lambda value: json.dumps(value, indent=3, ensure_ascii=False)])
def test_every_pair_is_read_in_any_formatting_of_the_list(
    write: Write, small_pieces: None, dump: Callable[[Any], str]
) -> None:
    wanted = [*rows(30), {"url": "http://x.org/é.jpg", "caption": " Ein süßer Hund 🐕 "}]
    pairs = all_pairs(write(dump(wanted).encode()))
    assert pairs == [Pair(row["url"], row["caption"].strip()) for row in wanted]


def test_json_lines_are_read_too(write: Write, small_pieces: None) -> None:
    lines = "\n".join(json.dumps(row) for row in rows(9))
    assert len(all_pairs(write(lines.encode() + b"\n"))) == 9
    assert len(all_pairs(write(b"\xef\xbb\xbf" + lines.encode()))) == 9


UNUSABLE = [
    {"url": "https://x.org/a.jpg"},
    {"url": "https://x.org/a.jpg", "caption": "  "},
    {"url": "https://x.org/a.jpg", "caption": "word " * 9_000},
    {"url": "https://x.org/a.jpg", "caption": "half a pair \ud83d"},
    {"url": "ftp://x.org/a.jpg", "caption": "A dog."},
    {"url": None, "caption": "A dog."},
    ["https://x.org/a.jpg", "A dog."],
    12345678,
    None,
]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.sampled_from(UNUSABLE),
            st.builds(
                lambda number, text: {"url": f"https://x.org/{number}", "caption": f"é{text}"},
                st.integers(0),
                st.text(st.characters(exclude_categories=["Cs"])),
            ),
        ),
        max_size=25,
    )
)
@example([12345678, {"url": "https://x.org/a", "caption": "b"}])
def test_only_usable_rows_are_numbered(write: Write, small_pieces: None, values: Sequence[Any]) -> None:
    usable = [value for value in values if value not in UNUSABLE]
    if not any(usable):
        return
    # A different name each time: file timestamps are too coarse to distinguish consecutive writes.
    path = write(values, f"{uuid4()}.json")
    index = count_pairs(path)
    assert (index.rows, index.unusable) == (len(usable), len(values) - len(usable))
    assert [pair.url for pair in pairs_at(path, index, range(index.rows))] == [row["url"] for row in usable]


def test_bytes_that_are_no_utf8_make_one_row_unusable(write: Write) -> None:
    good, bad = json.dumps(rows(1)[0]).encode(), b'{"url": "https://x.org/a", "caption": "caf\xe9"}'
    index = count_pairs(write(b"[" + b", ".join([good, bad, good]) + b"]"))
    assert (index.rows, index.unusable) == (2, 1)


def test_distant_rows_are_reached_without_reading_those_between(
    write: Write, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(rows(400))
    index = count_pairs(path)
    read: list[Pair | None] = []
    taken_apart = pair_list._pair
    monkeypatch.setattr(pair_list, "_pair", lambda *args: read.append(got := taken_apart(*args)) or got)
    assert [pair.caption for pair in pairs_at(path, index, [1, 2, 390])] == [
        "Caption 1.",
        "Caption 2.",
        "Caption 390.",
    ]
    assert len(read) < 10


def test_a_list_is_counted_once(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(rows(10))
    before = count_pairs(path)
    with monkeypatch.context() as patch:
        patch.setattr(pair_list, "_rows", lambda *_: pytest.fail("read again"))
        assert count_pairs(path) == before
    path.write_text(json.dumps(rows(12)))
    os.utime(path, ns=(1, 1))
    assert count_pairs(path).rows == 12


def test_an_interrupted_count_resumes(
    write: Write, small_pieces: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write([*rows(40), None])
    monkeypatch.setattr(pair_list, "SAVE_EVERY_S", -1.0)

    def interrupt(end: int) -> None:
        if end > path.stat().st_size // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        count_pairs(path, progress=interrupt)
    begun: list[int] = []
    reading = pair_list._rows
    monkeypatch.setattr(pair_list, "_rows", lambda path, start: begun.append(start) or reading(path, start))
    index = count_pairs(path)
    assert begun[0] > path.stat().st_size // 3
    assert (index.rows, index.unusable, len(index.offsets)) == (40, 1, 10)
    assert [pair.url for pair in pairs_at(path, index, range(40))] == [row["url"] for row in rows(40)]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty; it must be an uncompressed JSON array"),
        (b"\x1f\x8b\x08", "begins with '\\x1f'"),
        (
            b'[{"url": "https://x.org/a", "caption": "b"}, {"url": "http',
            "is cut off or damaged at its end, at byte 45",
        ),
        (b'[{"url": "https://x.org/a", "caption": "b"}', "is cut off"),
        (b'[{"url": "https://x.org/a", "caption": "b"}, @' + b" " * (3 << 20), "is damaged, at byte 45"),
        (b"[" * 200_000, "is damaged"),
        (b"[]", "holds no row with a 'url' and a 'caption'"),
        (b'[{"URL": "https://x.org/a", "TEXT": "b"}]', "holds no row with a 'url' and a 'caption'"),
    ],
    ids=["empty", "gzip", "in a row", "between rows", "in the middle", "nested", "no rows", "other columns"],
)
def test_a_damaged_list_is_reported_with_its_offset(write: Write, content: bytes, sentence: str) -> None:
    path = write(content)
    with pytest.raises(DataError) as refused:
        count_pairs(path)
    assert sentence in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_missing_list_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.json does not exist; check the path"):
        count_pairs(tmp_path / "none.json")


def test_a_list_that_shrinks_while_it_is_read_is_an_error(write: Write) -> None:
    path = write(rows(3))
    with pytest.raises(DataError, match="changed while it was being read"):
        list(pairs_at(path, ListIndex(rows=9, offsets=(1,), is_whole=True), range(9)))
