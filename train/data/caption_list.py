"""Captions in one list beside the photos: `captions.jsonl`, `captions.csv` or `captions.tsv`.

A row names a photo, by its path relative to the list's folder, and one or more captions; rows of
the same photo are merged. The file names of Hugging Face's image folders are accepted, too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TextIO

from minigpt4.core.errors import DataError
from minigpt4.train.data.caption_table import Row, Table
from minigpt4.train.data.dataset import caption_faults, captions_in
from minigpt4.train.data.files import FilePhoto, encoding_of, is_file
from minigpt4.train.events import PhotoSkipped

LISTS = tuple(f"{stem}.{suffix}" for stem in ("captions", "metadata") for suffix in ("jsonl", "csv", "tsv"))
TABLE_SUFFIXES = (".csv", ".tsv")
PHOTO_COLUMNS = ("photo", "image", "file", "file_name", "filename", "path")
CAPTION_COLUMNS = ("caption", "text", "description")

ROW_LIMIT = 1024 * 1024
"""Characters. A file with a longer row is not a list of captions."""


def list_in(folder: Path) -> Path | None:
    """The folder's list, if it has one; a FIFO of that name counts, and is refused when it is read."""
    places = (folder / name for name in LISTS)
    return next((place for place in places if place.exists() and not place.is_dir()), None)


def listed_photos(path: Path, name: str) -> tuple[list[FilePhoto], list[PhotoSkipped]]:
    """The photos of a list, in order of first appearance, and the unusable rows.

    Raises DataError if it is not a list.
    """
    found: dict[str, list[object]] = {}
    skipped: list[PhotoSkipped] = []
    try:
        encoding = encoding_of(path)
        newline = "" if path.suffix.lower() in TABLE_SUFFIXES else None
        with path.open(encoding=encoding, errors="surrogateescape", newline=newline) as file:
            for number, row in _rows(file, path):
                for fault in [row] if isinstance(row, str) else _take(row, path.parent, found):
                    skipped.append(PhotoSkipped(name, f"{path.name}, line {number}", fault))
    except UnicodeDecodeError as error:
        raise DataError(
            f"The list {path} begins as {encoding.upper()} but does not go on so; save it as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(f"The list {path} cannot be read: {error.strerror or error}.") from error
    if not found and not skipped:
        raise DataError(f"The list {path} has no rows.")
    photos = [FilePhoto(key, path.parent / key, captions) for key, captions in found.items()]
    return photos, skipped


def named_in(row: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """The photo that a row names, and its captions as `captions_in` reads them; None if it names no photo."""
    photo = next((row[column] for column in PHOTO_COLUMNS if column in row), None)
    if not isinstance(photo, str) or not photo.strip() or "\0" in photo:
        return None
    single = next((row[column] for column in CAPTION_COLUMNS if column in row), None)
    # Both are captions; one that is given under both names counts once.
    texts = _listed(single)
    return photo, {
        "captions": [*texts, *(text for text in _listed(row.get("captions")) if text not in texts)]
    }


def _listed(texts: object) -> list[Any]:
    if texts is None:
        return []
    return texts if isinstance(texts, list) else [texts]


def _take(row: Mapping[str, Any], folder: Path, found: dict[str, list[object]]) -> list[str]:
    """Add a row to `found`; returns the reasons for anything that cannot be added."""
    named = named_in(row)
    if named is None:
        return [f"no photo is named; it should stand under '{PHOTO_COLUMNS[0]}'"]
    photo, meta = named
    # Spaces around a name usually belong to the list, not to the file name.
    spelled = photo if photo != photo.strip() and is_file(folder / photo) else photo.strip()
    key = str(PurePosixPath(spelled))  # ./a.png is a.png
    captions, faults = captions_in(meta), caption_faults(meta)
    if captions or not faults:  # a photo with only empty captions is reported when the set is opened
        found.setdefault(key, []).extend(captions)
    return faults


def _rows(file: TextIO, path: Path) -> Iterator[Row]:
    if path.suffix.lower() in TABLE_SUFFIXES:
        return Table(file, path, PHOTO_COLUMNS, CAPTION_COLUMNS).rows()
    start = file.read(ROW_LIMIT).lstrip()
    file.seek(0)
    if start.startswith("[") and start[1:].lstrip()[:1] in ("{", "]", ""):
        text = file.read()
        return _spread_rows(text, text.index("[") + 1)
    is_indented = start.partition("\n")[0].strip() == "{"
    return _spread_rows(file.read(), 0) if is_indented else json_lines(file)


UNREADABLE = "unreadable JSON"


def json_lines(file: TextIO) -> Iterator[Row]:
    """The rows of JSON Lines; a comma at the end of a line, as in an array, is ignored."""
    number = 0
    while line := file.readline(ROW_LIMIT + 1):
        number += 1
        if len(line) > ROW_LIMIT:
            yield number, f"a line of more than {ROW_LIMIT} characters"
            while line and not line.endswith("\n"):
                line = file.readline(ROW_LIMIT + 1)
        elif text := line.strip():
            try:
                row = _row_of(_DECODER.decode(text.removesuffix(",")))
            except (ValueError, RecursionError):
                row = UNREADABLE
            yield number, row


def _spread_rows(text: str, place: int) -> Iterator[Row]:
    """JSON objects from `place` on, across lines, with or without the commas of an array.

    Each has the number of the line on which it begins; a damaged one does not affect the others.
    """
    number, counted = 1, 0
    while True:
        gap = _GAP.match(text, place)
        place = gap.end() if gap else place
        if place == len(text):
            return
        number, counted = number + text.count("\n", counted, place), place
        try:
            value, place = _DECODER.raw_decode(text, place)
            row = _row_of(value)
        except (ValueError, RecursionError):
            following = _NEXT_ROW.search(text, place + 1)
            row, place = UNREADABLE, following.end() - 1 if following else len(text)
        yield number, row


_GAP = re.compile(r"[\s,]*(?:\]\s*\Z)?")
_NEXT_ROW = re.compile(r"(?:\}\s*,\s*|^[ \t]*)\{", re.MULTILINE)


@dataclass(frozen=True)
class _Doubled:
    """Stands for a JSON object with a repeated key: one of the values would be lost."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Doubled:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        for key in (*PHOTO_COLUMNS, *CAPTION_COLUMNS, "captions"):
            if keys.count(key) > 1:
                return _Doubled(key)
    return row


_DECODER = json.JSONDecoder(object_pairs_hook=_object)


def _row_of(value: object) -> Mapping[str, Any] | str:
    if isinstance(value, _Doubled):
        return f"'{value.key}' is given twice"
    return value if isinstance(value, dict) else "no JSON object, as in {...}"
