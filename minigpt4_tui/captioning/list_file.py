"""Captions in one list, captions.jsonl or captions.csv, which grows row by row."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.locks import acquire
from minigpt4.tui.captioning.output import Existing


class ListFile:
    """A list that names pictures relative to its folder, as `train --data` reads it.

    Rows are appended and synced to disk one by one. Replaced rows are removed at the end of the run, so that
    a stop in the middle loses no caption.
    """

    def __init__(self, path: Path, existing: Existing) -> None:
        """Open or create the file and lock it; raises UsageError, DataError or OSError."""
        from minigpt4.train.data.list_rows import FORMS

        self.path = path
        self._existing = existing
        self._form = FORMS[path.suffix.lower()]
        if path.exists() and not path.is_file():
            raise UsageError(f"'{path}' is not a file to which rows can be added; choose another --output.")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._was_there = path.exists()
        # Unbuffered: nothing is left to be written by close() after a row has failed.
        self._file = path.open("ab", buffering=0)
        try:
            if not acquire(self._file, wait=False):
                raise UsageError(f"'{path}' is being written by another process; wait until it has ended.")
            content = path.read_bytes()
            self._rows = self._form(content, path)
            self.cut_off = self._rows.cut_off
            """An incomplete last row of the file, which is removed."""

            if self.cut_off:
                self._file.truncate(len(content) - len(self.cut_off))
            if self._rows.lacks_line_end:
                self._add(b"\n")
        except BaseException:
            self._file.close()
            raise
        self._captions: dict[str, set[str]] = {}
        for row in self._rows.rows:
            self._captions.setdefault(row.photo, set()).update(row.captions)

    def check(self, picture: Path) -> None:
        """Accept every picture: any can be listed."""

    def has_caption(self, picture: Path) -> bool:
        """Whether a row has a caption for the picture."""
        return bool(self._captions.get(self._name(picture)))

    def write(self, picture: Path, caption: str) -> None:
        """Add a row, unless in append mode the same caption is there already; raises OSError."""
        name = self._name(picture)
        known = self._captions.setdefault(name, set())
        if self._existing == "append" and caption in known:
            return
        self._add(self._rows.new(name, caption))
        known.add(caption)

    def outside(self, pictures: Sequence[Path]) -> list[Path]:
        """The pictures that are not below the list's folder, and are therefore listed by absolute path."""
        return [picture for picture in pictures if Path(self._name(picture)).is_absolute()]

    def finish(self, captioned: Collection[Path]) -> None:
        """Remove the rows that were replaced, and a new list that got no rows; close the file."""
        with self._file:
            if self._existing == "overwrite":
                self._keep_last({self._name(picture) for picture in captioned})
            if not self._was_there and self.path.stat().st_size == 0:
                self.path.unlink()

    def _keep_last(self, names: Collection[str]) -> None:
        """Keep only the last row of each of these pictures."""
        now = self._form(self.path.read_bytes(), self.path)
        last = {row.photo: row for row in now.rows}
        kept = [row for row in now.rows if row.photo not in names or row is last[row.photo]]
        if len(kept) < len(now.rows):
            with replacing(self.path) as draft:
                draft.write_bytes(now.head + b"".join(row.content for row in kept))

    def _add(self, content: bytes) -> None:
        """Append to the file and sync it; on failure, restore the old size."""
        size = os.fstat(self._file.fileno()).st_size
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.truncate(size)
            raise

    def _name(self, picture: Path) -> str:
        """The picture's path relative to the list's folder, or its absolute path if it lies elsewhere."""
        whole = Path(os.path.normpath(picture.absolute()))
        folder = Path(os.path.normpath(self.path.parent.absolute()))
        real = whole.parent.resolve() / whole.name
        for place, base in ((whole, folder), (real, folder.resolve())):
            if place.is_relative_to(base):
                return str(place.relative_to(base))
        return str(whole)
