"""The rows of a caption list in CSV, as spreadsheets write it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minigpt4.core.errors import DataError

Row = tuple[int, Mapping[str, Any] | str]
"""The number of the line where a row begins, and its content or the reason why it cannot be read."""

MORE_FIELDS = "more fields than the heading names; put a caption with commas in quotes"

SEPARATORS = ",;\t"
"""Spreadsheets use the separator of their locale."""


class OpenQuoteError(DataError):
    """A quote is still open at the end of the list; `row` is the number of the line where its row begins."""

    def __init__(self, sentence: str, row: int) -> None:
        super().__init__(sentence)
        self.row = row


class Table:
    """A heading, which names the columns, and the rows under it."""

    def __init__(
        self,
        file: Iterable[str],
        path: Path,
        photo_columns: Sequence[str],
        caption_columns: Sequence[str],
    ) -> None:
        """Read the heading; raises DataError without the right columns, and OpenQuoteError."""
        self._photo_columns, self._caption_columns = photo_columns, caption_columns
        lines = _Lines(file)
        self.delimiter = _delimiter(lines)
        self._records = _records(lines, self.delimiter, path)
        _, heading = next(self._records, (1, ""))
        self.columns = [] if isinstance(heading, str) else [column.strip().lower() for column in heading]
        # Spreadsheets end every line with the separators of empty columns.
        while self.columns and not self.columns[-1]:
            self.columns.pop()
        _check_heading(self.columns, path, photo_columns, caption_columns)

    def rows(self) -> Iterator[Row]:
        """The rows; a caption column that is named twice yields a list. Raises OpenQuoteError."""
        for number, record in self._records:
            if isinstance(record, str):
                yield number, record
            else:
                yield number, _row(self.columns, record, self._photo_columns, self._caption_columns)


def _check_heading(
    columns: Sequence[str], path: Path, photo_columns: Sequence[str], caption_columns: Sequence[str]
) -> None:
    if not set(columns) & set(photo_columns) or not set(columns) & set(caption_columns):
        found = f"begins with the columns {', '.join(columns)}" if columns else "is empty"
        raise DataError(
            f"The list {path} {found}; its first line should name '{photo_columns[0]}' and "
            f"'{caption_columns[0]}'."
        )
    doubled = next((column for column in photo_columns if columns.count(column) > 1), None)
    if doubled is not None:
        raise DataError(f"The list {path} has two columns '{doubled}'; rename the one that names no photo.")


def _row(
    columns: Sequence[str],
    record: Sequence[str],
    photo_columns: Sequence[str],
    caption_columns: Sequence[str],
) -> Mapping[str, Any] | str:
    if any(field.strip() for field in record[len(columns) :]):
        return MORE_FIELDS
    row: dict[str, Any] = dict(zip(columns, record, strict=False))
    if not set(row) & set(caption_columns) or not set(row) & set(photo_columns):
        return "fewer fields than the heading names"
    for column in set(row) & set(caption_columns) if len(row) < len(record) else ():
        values = [field for name, field in zip(columns, record, strict=False) if name == column]
        row[column] = values if len(values) > 1 else values[0]
    return row


class _Lines:
    """The lines of a file, some of which may be read again."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._again: list[str] = []
        self.record: list[str] = []
        """The lines since the record's first."""

        self.number = 1
        """The number of the record's first line."""

        self.at_end = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._again.pop() if self._again else next(self._lines, None)
        self.at_end = line is None
        if line is None:
            raise StopIteration
        self.record.append(line)
        return line

    def begin_record(self, *, again: int = 0) -> None:
        """Begin a new record; the last `again` lines of the one before are read again."""
        kept = len(self.record) - again
        self.number += kept
        self._again += reversed(self.record[kept:])
        self.record.clear()


def _delimiter(lines: _Lines) -> str:
    """The separator, from Excel's first line `sep=;` or else the most frequent one in the heading."""
    first = next((line for line in lines if line.strip()), "")
    named = re.fullmatch(r'"?sep=([^"\r\n])"?\s*', first, re.IGNORECASE)
    lines.begin_record(again=0 if named or not first else 1)
    return named[1] if named else max(SEPARATORS, key=first.count)


def _records(lines: _Lines, delimiter: str, path: Path) -> Iterator[tuple[int, list[str] | str]]:
    """Each record that is not blank, with the number of its first line, or why it cannot be read."""
    reader = csv.reader(lines, delimiter=delimiter, skipinitialspace=True, strict=True)
    while True:
        try:
            record = next(reader, None)
        except csv.Error as error:
            if lines.at_end:
                raise OpenQuoteError(_open_quote(lines, delimiter, path), lines.number) from error
            # The lines after the first may be rows of their own, which a quote has swallowed.
            again = len(lines.record) - 1
            fault = "a quote that begins here is not closed" if again else _unreadable(error)
            yield lines.number, fault
            lines.begin_record(again=again)
            continue
        if record is None:
            return
        if any(field.strip() for field in record):
            yield lines.number, record
        lines.begin_record()


def _unreadable(error: csv.Error) -> str:
    if "expected after" in str(error):
        return "text after a closing quote; write a quote within a quoted caption twice"
    return f"unreadable CSV ({error})"


def _open_quote(lines: _Lines, delimiter: str, path: Path) -> str:
    """The sentence about a quote that is still open at the end of the list."""
    (fields,) = csv.reader(lines.record, delimiter=delimiter, skipinitialspace=True)
    text = "".join(lines.record)
    number = lines.number + len(_BREAK.findall(text)) - len(_BREAK.findall(fields[-1]))
    return (
        f"The list {path} cannot be read: the quote that begins in line {number} is never closed; close it, "
        "or write a quote within a quoted caption twice."
    )


_BREAK = re.compile(r"\r\n?|\n")
