"""Captions in one list beside the photos: `captions.jsonl` or `captions.csv`.

A row names a photo, by its path relative to the list's folder, and one or more captions; rows of
the same photo are merged. The file names of Hugging Face's image folders are accepted, too.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from minigpt4.core.errors import DataError
from minigpt4.train.data.files import FilePhoto
from minigpt4.train.events import PhotoSkipped, Report

LISTS = ("captions.jsonl", "captions.csv", "metadata.jsonl", "metadata.csv")
PHOTO_COLUMNS = ("photo", "image", "file", "file_name", "filename", "path")
CAPTION_COLUMNS = ("caption", "text", "description")

ROW_LIMIT = 1024 * 1024
"""Characters. A file with a longer row is not a list of captions."""

Row = tuple[int, Mapping[str, Any] | str]
"""A line's number, and its content or the reason why it cannot be read."""


def list_in(folder: Path) -> Path | None:
    """The folder's list, if it has one."""
    return next((folder / name for name in LISTS if (folder / name).is_file()), None)


def listed_photos(path: Path, name: str, report: Report) -> list[FilePhoto]:
    """The photos of a list, in order of first appearance; raises DataError if it is not a list."""
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    found: dict[str, list[object]] = {}
    try:
        for number, row in rows:
            fault = row if isinstance(row, str) else _take(row, found)
            if fault:
                report(PhotoSkipped(name, f"{path.name}, line {number}", fault))
    except OSError as error:
        raise DataError(f"The list {path} cannot be read: {error.strerror or error}.") from error
    return [FilePhoto(photo, path.parent / photo, captions) for photo, captions in found.items()]


def _take(row: Mapping[str, Any], found: dict[str, list[object]]) -> str | None:
    """Add a row to `found`; the reason if it cannot be added."""
    photo = next((row[column] for column in PHOTO_COLUMNS if column in row), None)
    if not isinstance(photo, str) or not photo.strip() or "\0" in photo:
        return f"no photo is named; it should stand under '{PHOTO_COLUMNS[0]}'"
    captions = row.get("captions")
    if not isinstance(captions, list):
        captions = [row[column] for column in CAPTION_COLUMNS if column in row][:1]
    found.setdefault(photo.strip(), []).extend(captions)
    return None


def _json_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        number = 0
        while line := file.readline(ROW_LIMIT + 1):
            number += 1
            if len(line) > ROW_LIMIT:
                yield number, f"a line of more than {ROW_LIMIT} characters"
                while line and not line.endswith("\n"):
                    line = file.readline(ROW_LIMIT + 1)
            elif line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                yield number, row if isinstance(row, dict) else "unreadable JSON"


def _csv_rows(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        first = file.readline(ROW_LIMIT)
        # Spreadsheets use the separator of their locale.
        delimiter = max(",;\t", key=first.count)
        file.seek(0)
        rows = csv.reader(file, delimiter=delimiter)
        columns = [column.strip().lower() for column in next(rows, [])]
        if not set(columns) & set(PHOTO_COLUMNS) or not set(columns) & set(CAPTION_COLUMNS):
            raise DataError(
                f"The list {path} begins with the columns {', '.join(columns) or 'of nothing'}; its first "
                f"line should name '{PHOTO_COLUMNS[0]}' and '{CAPTION_COLUMNS[0]}'."
            )
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield rows.line_num, f"unreadable CSV ({error})"
                continue
            if row is None:
                return
            if row:
                yield rows.line_num, dict(zip(columns, row, strict=False))
