"""However a picture comes (path, pasted or dropped line, clipboard, standard input): one kind of value."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote_to_bytes

from minigpt4.core.errors import ImageError, UsageError

if TYPE_CHECKING:
    # Opening needs numpy and Pillow, and a screen that shows no picture yet needs neither.
    from minigpt4.core.pixels import Picture

STANDARD_INPUT = "-"

PICTURE_ENDINGS = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .avif .jp2 .j2k .jpx "
    ".ppm .pgm .pbm .pnm .tga .ico".split()
)
"""What the names of pictures end in. Only for finding them: a file is opened whatever it is called."""

MOST_COMPLETIONS = 200

LONGEST_DROP = 100_000
"""Letters of a text that may be dropped files: room for hundreds of them."""

WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
"""How paths of Windows begin."""

WINDOWS_WORDS = re.compile(r"""\"([^"]+)\"|'([^']+)'|(\S+)""")
WINDOWS_DRIVES = Path("/mnt")
"""Where Linux on Windows (WSL) has its drives, each as a folder called by its letter."""


@dataclass(frozen=True)
class Attachment:
    """A picture that somebody gave, not opened yet; `label` is how they named it."""

    source: Path | bytes
    label: str

    @property
    def name(self) -> str:
        """What the picture is called, without its folder."""
        return self.label if isinstance(self.source, bytes) else self.source.name

    def open(self) -> Picture:
        """Read it; raises ImageError if that fails, or if it cannot be decoded.

        A picture whose embedding is cached has been decoded before, and is not again.
        """
        from minigpt4.core.embedding_cache import is_cached
        from minigpt4.core.pixels import open_picture

        is_input = isinstance(self.source, bytes) and self.label == STANDARD_INPUT
        name = "Standard input" if is_input else self.label if isinstance(self.source, bytes) else None
        picture = open_picture(self.source, name)
        if not is_cached(picture.digest):
            picture.image  # noqa: B018 (decoded now and kept)
        return picture


def attachment(argument: str, standard_input: BinaryIO | None = None) -> Attachment:
    """The picture that an argument names: a path, a `file://` address, or `-` for standard input.

    Standard input is read at once. Raises UsageError where it cannot hold a picture.
    """
    if argument != STANDARD_INPUT:
        if not argument.strip():
            raise UsageError("The path of a picture is empty; give a file, or - for standard input.")
        return Attachment(_path(argument), argument)
    from minigpt4.core.pixels import MAX_FILE_BYTES

    if standard_input is None or standard_input.isatty():
        raise UsageError("'-' reads the picture from standard input; pipe one in, as in `... < photo.jpg`.")
    try:
        return Attachment(standard_input.read(MAX_FILE_BYTES + 1), argument)
    except OSError as error:
        raise ImageError(f"Standard input cannot be read: {error.strerror}.") from error


def attachments_in(text: str) -> list[Attachment]:
    """The pictures that a typed, pasted or dropped text names.

    A text that is a file's path as it stands, spaces and all, is that file. Otherwise it is read as a
    shell would read it: quotes, backslashes, several words; or, where that leads to no files, as a
    path a line. Nothing is opened.
    """
    bare = text.strip()
    if _exists(_path(bare)):
        return [Attachment(_path(bare), bare)]
    words = [Attachment(_path(word), word) for word in _words(text)]
    if "\n" in bare and not _are_files(words):
        lines = [one for line in bare.splitlines() if line.strip() for one in attachments_in(line)]
        if _are_files(lines):
            return lines
    return words


def names_files(text: str) -> bool:
    """Whether every word of the text is a file that is there, as when one is dropped on a terminal."""
    # A book that is pasted need not be taken apart into words.
    return len(text) <= LONGEST_DROP and _are_files(attachments_in(text))


def is_picture_name(name: str) -> bool:
    """Whether a file of that name is likely a picture."""
    return Path(name).suffix.lower() in PICTURE_ENDINGS


def complete_path(prefix: str) -> list[str]:
    """What a path that is being typed could become: folders (with a / at the end) and pictures.

    Written as the prefix is (with ~, relative), in order. Hidden ones are only found by their dot; where
    nothing begins as typed, capitals make no difference. What cannot be read completes to nothing.
    """
    if prefix == "~":
        return ["~/"]
    folder, begun = os.path.split(prefix)
    # As typed: split() drops the slashes that it splits at.
    head = prefix[: len(prefix) - len(begun)]
    found = [
        (name, is_folder) for name, is_folder in _entries(folder) if begun.startswith(".") or name[0] != "."
    ]
    matching = [one for one in found if one[0].startswith(begun)] or [
        one for one in found if one[0].lower().startswith(begun.lower())
    ]
    return sorted(head + name + "/" * is_folder for name, is_folder in matching)[:MOST_COMPLETIONS]


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """Names of the folders (True) and pictures (False) in a folder."""
    try:
        with os.scandir(_path(folder)) as listing:
            for entry in listing:
                try:
                    is_folder = entry.is_dir()
                except OSError:
                    continue
                if is_folder or is_picture_name(entry.name):
                    yield entry.name, is_folder
    except (OSError, ValueError):
        return


def _words(text: str) -> list[str]:
    if WINDOWS.match(text.lstrip(" \"'")):
        # Its backslashes are no escapes.
        return ["".join(groups) for groups in WINDOWS_WORDS.findall(text)]
    try:
        return shlex.split(text)
    except ValueError:
        return [text.strip()]


def _are_files(found: Sequence[Attachment]) -> bool:
    return bool(found) and all(isinstance(one.source, Path) and _exists(one.source) for one in found)


def _path(text: str) -> Path:
    """What a word names: an address, a path of Windows, or a path with or without ~."""
    if text.startswith("file:/"):
        # Some desktops leave out the host with its slashes.
        address = re.sub(r"^//[^/]*", "", text.removeprefix("file:"))
        # A percent sign stands for a byte: names need not be UTF-8.
        path = os.fsdecode(unquote_to_bytes(os.fsencode(address)))
        return _of_windows(path[1:]) or Path(path)
    try:
        return _of_windows(text) or Path(text).expanduser()
    except RuntimeError:
        # "~stranger": no such user, so it is a file's own name.
        return Path(text)


def _of_windows(text: str) -> Path | None:
    """A file of Windows as Linux sees it there (WSL); None where there is no such drive."""
    if not WINDOWS.match(text):
        return None
    drive = WINDOWS_DRIVES / text[0].lower()
    return drive / text[3:].replace("\\", "/") if drive.is_dir() else None


def _exists(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
