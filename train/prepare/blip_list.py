"""Caption lists as BLIP released them: one JSON array of millions of `{"url": ..., "caption": ...}`.

A list is streamed in constant memory, about a million rows a second. JSON Lines (one object per
line) work, too. Only usable rows are numbered: those with a URL and a caption in valid UTF-8.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from minigpt4.core.errors import DataError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import cache_home

CHUNK = 1 << 20
ROW_LIMIT = 1 << 20
"""Bytes. No row is longer, unless the list is damaged."""

CAPTION_LIMIT = 10_000
"""Characters. A longer caption is a page of text mistaken for one."""

BLOCK = 4096
"""Rows between two offsets that the index keeps."""

SAVE_EVERY_S = 5.0

_GAP = re.compile(r"[ \t\r\n,]*")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Progress = Callable[[int], None]
"""Called with the number of bytes of the list read so far."""


@dataclass(frozen=True)
class Pair:
    """A photo's URL and its caption."""

    url: str
    caption: str


@dataclass(frozen=True)
class ListIndex:
    """The number of a list's usable and unusable rows, and the byte offset of each block of usable ones.

    `end` is the number of bytes counted so far; `is_whole` says that this is the whole list.
    """

    rows: int = 0
    unusable: int = 0
    offsets: tuple[int, ...] = ()
    end: int = 0
    is_whole: bool = False


def count_pairs(path: Path, *, progress: Progress = lambda _end: None) -> ListIndex:
    """Count a list once; the result is cached, and an interrupted count resumes.

    Raises DataError if the list is missing, damaged, cut off or without a usable row.
    """
    kept = _cache_path(path)
    index = _read_index(kept)
    if not index.is_whole:
        index = _count(path, index, kept, progress)
    if not index.rows:
        raise DataError(
            f"The list {path} holds no row with a 'url' and a 'caption'; give one as released by BLIP, a "
            'JSON array of {"url": ..., "caption": ...}.'
        )
    return index


def pairs_at(
    path: Path, index: ListIndex, rows: Iterable[int], *, progress: Progress = lambda _end: None
) -> Iterator[Pair]:
    """The usable rows with these ascending numbers; blocks without any are not read."""
    reader: Iterator[tuple[int, Pair | None]] = iter(())
    at = -BLOCK
    for row in rows:
        if row // BLOCK > at // BLOCK:
            at = row // BLOCK * BLOCK
            reader = (item for item in _rows(path, index.offsets[at // BLOCK]) if item[1] is not None)
            progress(index.offsets[at // BLOCK])
        for _, pair in reader:
            at += 1
            if at > row:
                assert pair is not None
                yield pair
                break
        else:
            raise DataError(f"The list {path} changed while it was being read; run the same command again.")


def _count(path: Path, index: ListIndex, kept: Path, progress: Progress) -> ListIndex:
    rows, unusable, offsets, end = index.rows, index.unusable, list(index.offsets), index.end
    saved = time.monotonic()
    for offset, pair in _rows(path, end):
        if pair is None:
            unusable += 1
            continue
        if rows % BLOCK == 0:
            if time.monotonic() - saved > SAVE_EVERY_S:
                _write_index(kept, ListIndex(rows, unusable, tuple(offsets), offset))
                saved = time.monotonic()
            offsets.append(offset)
            progress(offset)
        rows += 1
    whole = ListIndex(rows, unusable, tuple(offsets), path.stat().st_size, is_whole=True)
    progress(whole.end)
    _write_index(kept, whole)
    return whole


def _rows(path: Path, start: int) -> Iterator[tuple[int, Pair | None]]:
    """The byte offset and pair of every row that begins at or after `start`; None for an unusable row."""
    try:
        with path.open("rb") as file:
            is_array, first = _opening(file, path)
            yield from _values(file, max(start, first), path, is_array=is_array)
    except OSError as error:
        raise DataError(f"The list {path} cannot be read: {error.strerror or error}.") from error


def _opening(file: BinaryIO, path: Path) -> tuple[bool, int]:
    """Whether the list is an array, and the offset of its first row."""
    head = file.read(CHUNK)
    begin = len(_BYTE_ORDER_MARK) if head.startswith(_BYTE_ORDER_MARK) else 0
    while head[begin : begin + 1].isspace():
        begin += 1
    mark = head[begin : begin + 1]
    if mark not in (b"[", b"{"):
        what = "is empty" if not mark else f"begins with {mark.decode('latin-1')!r}"
        raise DataError(
            f"The list {path} {what}; it must be an uncompressed JSON array of "
            '{"url": ..., "caption": ...}.'
        )
    return mark == b"[", begin + (mark == b"[")


def _values(file: BinaryIO, start: int, path: Path, *, is_array: bool) -> Iterator[tuple[int, Pair | None]]:
    # Decoded as Latin-1, a character is a byte, so offsets in the text are offsets in the file; JSON's
    # own syntax is ASCII. Rows with other characters are parsed once more, as UTF-8.
    scan: Callable[[str, int], tuple[Any, int]] = json.JSONDecoder().scan_once  # type: ignore[attr-defined]
    file.seek(start)
    text, place, base = "", 0, start
    while True:
        more = file.read(CHUNK)
        base += place
        text, place = text[place:] + more.decode("latin-1"), 0
        while True:
            gap = _GAP.match(text, place)
            place = gap.end() if gap else place
            if text.startswith("]", place) and is_array:
                return
            try:
                value, end = scan(text, place)
            except (StopIteration, ValueError, RecursionError) as error:
                if place == len(text) and not more and not is_array:
                    return
                if not more or len(text) - place > ROW_LIMIT or isinstance(error, RecursionError):
                    raise _damage(path, base + place, is_cut=not more) from None
                break
            if end == len(text) and more:
                # A number may continue in the next chunk.
                break
            yield base + place, _pair(value, text, place, end)
            place = end


def _damage(path: Path, offset: int, *, is_cut: bool) -> DataError:
    what = "is cut off or damaged at its end" if is_cut else "is damaged"
    return DataError(
        f"The list {path} {what}, at byte {offset}: no JSON row can be read there; fetch it again "
        "('curl -C - -O URL' resumes an interrupted download)."
    )


def _pair(value: Any, text: str, start: int, end: int) -> Pair | None:
    if not isinstance(value, dict):
        return None
    url, caption = value.get("url"), value.get("caption")
    if not isinstance(url, str) or not isinstance(caption, str):
        return None
    if not (url.isascii() and caption.isascii()):
        try:
            value = json.loads(text[start:end].encode("latin-1").decode("utf-8"))
            url, caption = value["url"], value["caption"]
            # Half of a surrogate pair is valid JSON, but not text.
            (url + caption).encode("utf-8")
        except UnicodeError:
            return None
    caption = caption.strip()
    if not caption or len(caption) > CAPTION_LIMIT or not url.startswith(("http://", "https://")):
        return None
    return Pair(url, caption)


def _cache_path(path: Path) -> Path:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise DataError(f"The list {path} does not exist; check the path.") from None
    except OSError as error:
        raise DataError(f"The list {path} cannot be read: {error.strerror or error}.") from error
    identity = f"{path.absolute()}\n{status.st_size}\n{status.st_mtime_ns}\n{BLOCK}"
    return cache_home() / "lists" / f"{hashlib.sha256(identity.encode()).hexdigest()[:24]}.json"


def _read_index(kept: Path) -> ListIndex:
    try:
        fields = json.loads(kept.read_text(encoding="utf-8"))
        return ListIndex(**fields | {"offsets": tuple(map(int, fields["offsets"]))})
    except (OSError, ValueError, TypeError, KeyError):
        return ListIndex()


def _write_index(kept: Path, index: ListIndex) -> None:
    with replacing(kept) as draft:
        draft.write_text(json.dumps(asdict(index)), encoding="utf-8")
