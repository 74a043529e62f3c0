"""However a picture comes (a path, a pasted or dropped line, standard input): one kind of value."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from minigpt4.core.errors import ImageError, UsageError
from minigpt4.core.pixels import MAX_FILE_BYTES, Picture, open_picture

STANDARD_INPUT = "-"


@dataclass(frozen=True)
class Attachment:
    """A picture that somebody gave, not opened yet; `label` is how they named it."""

    source: Path | bytes
    label: str

    def open(self) -> Picture:
        """Decode it; raises ImageError where that fails."""
        if isinstance(self.source, bytes):
            return open_picture(self.source, "Standard input")
        return open_picture(self.source)


def attachment(argument: str, standard_input: BinaryIO | None = None) -> Attachment:
    """The picture that an argument names: a path, a `file://` address, or `-` for standard input.

    Standard input is read at once. Raises UsageError where it cannot hold a picture.
    """
    if argument != STANDARD_INPUT:
        if not argument.strip():
            raise UsageError("The path of a picture is empty; give a file, or - for standard input.")
        return Attachment(_path(argument), argument)
    if standard_input is None or standard_input.isatty():
        raise UsageError("'-' reads the picture from standard input; pipe one in, as in `... < photo.jpg`.")
    try:
        return Attachment(standard_input.read(MAX_FILE_BYTES + 1), argument)
    except OSError as error:
        raise ImageError(f"Standard input cannot be read: {error.strerror}.") from error


def attachments_in(line: str) -> list[Attachment]:
    """The pictures that a typed, pasted or dropped line names.

    A line that is a file's path as it stands, spaces and all, is that file; any other is
    read as a shell would read it: quotes, backslashes, several words. Nothing is opened.
    """
    line = line.strip()
    if _exists(_path(line)):
        return [Attachment(_path(line), line)]
    try:
        words = shlex.split(line)
    except ValueError:
        words = [line]
    return [Attachment(_path(word), word) for word in words]


def names_files(line: str) -> bool:
    """Whether every word of the line is a file that is there, as when one is dropped on a terminal."""
    found = attachments_in(line)
    return bool(found) and all(isinstance(one.source, Path) and _exists(one.source) for one in found)


def _path(text: str) -> Path:
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    try:
        return Path(text).expanduser()
    except RuntimeError:
        # "~stranger": no such user, so it is a file's own name.
        return Path(text)


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
