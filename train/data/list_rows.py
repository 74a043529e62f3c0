"""A caption list as rows of bytes, which can be added and removed.

`caption_list.py` reads the content of a row; this module knows its position in the file.
"""

from __future__ import annotations

import csv
import io
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from minigpt4.core.errors import DataError
from minigpt4.train.data.caption_list import CAPTION_COLUMNS, PHOTO_COLUMNS, json_lines, named_in
from minigpt4.train.data.caption_table import MORE_FIELDS, OpenQuoteError, Row, Table
from minigpt4.train.data.dataset import captions_in

HEADING = f"{PHOTO_COLUMNS[0]},{CAPTION_COLUMNS[0]}\n"
"""The heading of a new CSV file."""


@dataclass(frozen=True)
class ListedRow:
    """A row as it stands in the file, with the blank lines after it."""

    photo: str
    """The photo's path relative to the list's folder, normalised; "" if the row names none."""

    captions: tuple[str, ...]
    content: bytes


class CaptionRows(ABC):
    """The rows of a list, and new ones in its format."""

    def __init__(self, content: bytes, path: Path) -> None:
        """Read a list with this `content`; raises DataError if rows cannot be added to it."""
        if not json.detect_encoding(content[:4]).startswith("utf-8"):
            raise DataError(f"The list {path} is not in UTF-8; convert it before rows are added.")
        self.cut_off = b""
        """An incomplete row that a crash or a full disk left at the end."""

        self._path = path
        text = content.decode("utf-8", "surrogateescape")
        self._lines = list(io.StringIO(text, newline=""))
        read = list(self._read(text.removeprefix("\ufeff")))
        begins = [number - 1 for number, _ in read]
        self.head = self._bytes(0, begins[0] if begins else len(self._lines))
        """The content before the first row."""

        self.rows = [
            _listed(row, self._bytes(begin, end))
            for (_, row), (begin, end) in zip(read, pairwise([*begins, len(self._lines)]), strict=True)
        ]

    @property
    def lacks_line_end(self) -> bool:
        """Whether the last line needs a line end before another row can be added."""
        return bool(self._lines) and not self._lines[-1].endswith(("\n", "\r"))

    @abstractmethod
    def new(self, photo: str, caption: str) -> bytes:
        """A row for the end of the list, with its line end."""

    @abstractmethod
    def _read(self, text: str) -> Iterator[Row]:
        """The rows with the numbers of their first lines, after `_cut` of an incomplete one."""

    def _cut(self, number: int) -> None:
        """Cut everything from that line on off the end."""
        self.cut_off = self._bytes(number - 1, len(self._lines))
        del self._lines[number - 1 :]

    def _bytes(self, begin: int, end: int) -> bytes:
        return "".join(self._lines[begin:end]).encode("utf-8", "surrogateescape")


class JsonRows(CaptionRows):
    """`{"photo": "dog.jpg", "caption": "A dog."}`, one object per line."""

    def new(self, photo: str, caption: str) -> bytes:
        """The object on one line."""
        content = {PHOTO_COLUMNS[0]: photo, CAPTION_COLUMNS[0]: caption}
        try:
            return json.dumps(content, ensure_ascii=False).encode() + b"\n"
        except UnicodeEncodeError:  # a file name that is not UTF-8
            return json.dumps(content).encode() + b"\n"

    def _read(self, text: str) -> Iterator[Row]:
        rows = list(json_lines(io.StringIO(text, newline=None)))
        if rows and self.lacks_line_end:
            number, last = rows[-1]
            if isinstance(last, str) and self._lines[number - 1].startswith("{"):
                self._cut(rows.pop()[0])
        if rows and all(isinstance(row, str) for _, row in rows):
            raise DataError(f"The list {self._path} has no JSON object per line, and rows cannot be added.")
        return iter(rows)


class CsvRows(CaptionRows):
    """The columns and the separator of the list, or `photo,caption` if it is empty.

    All new fields are quoted, so that a row that is cut off ends within an open quote.
    """

    def new(self, photo: str, caption: str) -> bytes:
        """The row, preceded by the heading if the list is empty."""
        target = io.StringIO()
        if not self.head:
            target.write(HEADING)
            self.head = HEADING.encode()
        fields = [""] * len(self._columns)
        fields[self._place_of(PHOTO_COLUMNS)], fields[self._place_of(CAPTION_COLUMNS)] = photo, caption
        csv.writer(target, delimiter=self._delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(
            fields
        )
        return target.getvalue().encode("utf-8", "surrogateescape")

    def _place_of(self, names: Sequence[str]) -> int:
        """The index of the column that is read, if the list has several of these."""
        return next(self._columns.index(name) for name in names if name in self._columns)

    def _read(self, text: str) -> Iterator[Row]:
        if HEADING.startswith(text):
            if text not in ("", HEADING):
                self._cut(1)
            text = HEADING
        table = Table(io.StringIO(text, newline=""), self._path, PHOTO_COLUMNS, CAPTION_COLUMNS)
        self._delimiter, self._columns = table.delimiter, table.columns
        rows = []
        try:
            for row in table.rows():
                rows.append(row)
        except OpenQuoteError as error:
            # In a row that this module did not write, it may be a mistake that is followed by other rows.
            if error.row < len(self._lines) and not self._is_quoted(error.row):
                raise
            self._cut(error.row)
        if rows and self.lacks_line_end and self._is_half(*rows[-1]):
            self._cut(rows.pop()[0])
        return iter(rows)

    def _is_half(self, number: int, row: object) -> bool:
        """Whether a row without a line end was cut off although each of its quotes is closed."""
        if not isinstance(row, dict):
            return row != MORE_FIELDS
        # A row cut between the two quotes that stand for one in a caption looks as if it were closed.
        caption = str(row.get(self._columns[self._place_of(CAPTION_COLUMNS)]))
        return self._is_quoted(number) and (caption != caption.rstrip() or caption.count('"') % 2 == 1)

    def _is_quoted(self, number: int) -> bool:
        return self._lines[number - 1].startswith('"')


FORMS: dict[str, type[CaptionRows]] = {".jsonl": JsonRows, ".csv": CsvRows}
"""By the suffix of the list."""


def _listed(row: object, content: bytes) -> ListedRow:
    named = named_in(row) if isinstance(row, dict) else None
    if named is None:
        return ListedRow("", (), content)
    photo, meta = named
    return ListedRow(os.path.normpath(photo), captions_in(meta), content)
