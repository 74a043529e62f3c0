"""One type for a picture from any source: path, pasted or dropped line, clipboard, standard input."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, unquote_to_bytes, urlsplit

from minigpt4.core.errors import ImageError, UsageError

if TYPE_CHECKING:
    from threading import Event

    # Opening needs numpy and Pillow, and a screen that shows no picture yet needs neither.
    from minigpt4.core.pixels import Picture
    from minigpt4.tui.images.early_preview import EarlyPreview

STANDARD_INPUT = "-"

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .webp .gif .bmp .dib .tif .tiff .avif .jp2 .j2k .jpx "
    ".ppm .pgm .pbm .pnm .tga .ico".split()
)
"""File name extensions of images. Only for listing them: a file of any name can be opened."""

MAX_COMPLETIONS = 200

SHOWN_S = 0.5
"""Maximum seconds for which opening is delayed so that an early preview is shown soon."""

MAX_DROP = 100_000
"""Characters of the longest text that is checked for dropped files: enough for hundreds of them."""

WINDOWS = re.compile(r"[A-Za-z]:[\\/]")
"""The start of a Windows path."""

WEB_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
"""The start of an address; only those of http and https are fetched."""

WINDOWS_WORDS = re.compile(r"""\"([^"]+)\"|'([^']+)'|(\S+)""")
WINDOWS_DRIVES = Path("/mnt")
"""Where Linux on Windows (WSL) mounts the drives, each as a folder named by its letter."""


@dataclass(frozen=True)
class Attachment:
    """An image given by the user, not opened yet; `label` is the name they gave."""

    source: Path | bytes | str
    """The file, a file's bytes, or the picture's address on the web."""

    label: str

    early: EarlyPreview | None = field(default=None, compare=False)
    """The preview that is shown until it is open."""

    opens_after: Event | None = field(default=None, compare=False)
    """An event that `open` briefly waits for, as opening keeps the processor busy."""

    @property
    def name(self) -> str:
        """The image's name without its folder."""
        if isinstance(self.source, bytes):
            return self.label
        return _name_in(self.source) if isinstance(self.source, str) else self.source.name

    def open(self) -> Picture:
        """Read it; raises ImageError if it cannot be read or decoded.

        An image on the web is fetched first. One whose embedding is cached has been decoded before, and is
        not decoded again.
        """
        if self.opens_after is not None:
            self.opens_after.wait(SHOWN_S)
        from minigpt4.core.embedding_cache import is_cached

        picture = self._read()
        if not is_cached(picture.key):
            picture.image  # noqa: B018 (decoded now and kept)
        return picture

    def _read(self) -> Picture:
        from minigpt4.core.pixels import Picture, open_picture

        if isinstance(self.source, str):
            from minigpt4.tui.images.fetch import fetch_picture, shown

            return Picture(fetch_picture(self.source), self.name, shown(self.source))
        is_input = isinstance(self.source, bytes) and self.label == STANDARD_INPUT
        name = "Standard input" if is_input else self.label if isinstance(self.source, bytes) else None
        return open_picture(self.source, name)


def attachment(argument: str, standard_input: BinaryIO | None = None) -> Attachment:
    """The image that an argument names: a path, an address, or `-` for standard input.

    Standard input is read at once. Raises UsageError if it is a terminal.
    """
    if argument != STANDARD_INPUT:
        if not argument.strip():
            raise UsageError("The path of a picture is empty; give a file, or - for standard input.")
        return named(argument)
    from minigpt4.core.pixels import MAX_FILE_BYTES

    if standard_input is None or standard_input.isatty():
        raise UsageError("'-' reads the picture from standard input; pipe one in, as in `... < photo.jpg`.")
    try:
        return Attachment(standard_input.read(MAX_FILE_BYTES + 1), argument)
    except OSError as error:
        raise ImageError(f"Standard input cannot be read: {error.strerror}.") from error


def named(text: str) -> Attachment:
    """The image that a path or an address names; an existing file takes precedence over an address."""
    path = path_in(text)
    if WEB_ADDRESS.match(text) and not text.startswith("file:/") and not is_file(path):
        return Attachment(text.strip(), text.strip())
    return Attachment(path, text)


def attachments_in(text: str) -> list[Attachment]:
    """The images that a typed, pasted or dropped text names. Nothing is opened.

    A text that is the path of a file or folder, spaces included, names that one. Otherwise it is split like
    a shell command, with quotes and backslashes, or, if that yields no files, into one path per line.
    """
    bare = text.strip()
    if is_file(path_in(bare)) or (bare and is_folder(path_in(bare))):
        return [Attachment(path_in(bare), bare)]
    words = [named(word) for word in _words(text)]
    if "\n" in bare and not _are_files(words):
        lines = [one for line in bare.splitlines() if line.strip() for one in attachments_in(line)]
        if _are_files(lines):
            return lines
    return words


def names_files(text: str) -> bool:
    """Whether the text consists of paths of existing files, as when files are dropped on a terminal."""
    # A pasted book is not worth splitting.
    return len(text) <= MAX_DROP and _are_files(attachments_in(text))


def names_folder(text: str) -> bool:
    """Whether the text is the path of one folder; "/" alone counts as the beginning of a command."""
    found = attachments_in(text) if len(text) <= MAX_DROP and text.strip() != "/" else []
    return len(found) == 1 and isinstance(found[0].source, Path) and is_folder(found[0].source)


def is_folder(path: Path) -> bool:
    """Whether there is a folder of that path."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_picture_name(name: str) -> bool:
    """Whether a file of that name is likely an image."""
    return Path(name).suffix.lower() in IMAGE_SUFFIXES


def complete_path(prefix: str) -> list[str]:
    """Sorted completions of a partial path: folders (ending in /) and images.

    They are written like the prefix (with ~, relative). Hidden files are found only by a leading dot; case
    is ignored if nothing matches otherwise. A folder that cannot be read has no completions.
    """
    if prefix == "~":
        return ["~/"]
    folder, begun = os.path.split(prefix)
    # Not `folder`, from which split() has removed the slashes.
    head = prefix[: len(prefix) - len(begun)]
    found = [
        (name, is_folder) for name, is_folder in _entries(folder) if begun.startswith(".") or name[0] != "."
    ]
    matching = [one for one in found if one[0].startswith(begun)] or [
        one for one in found if one[0].lower().startswith(begun.lower())
    ]
    return sorted(head + name + "/" * is_folder for name, is_folder in matching)[:MAX_COMPLETIONS]


def _entries(folder: str) -> Iterator[tuple[str, bool]]:
    """Names of the folders (True) and pictures (False) in a folder."""
    try:
        with os.scandir(path_in(folder)) as listing:
            for entry in listing:
                try:
                    is_folder = entry.is_dir()
                except OSError:
                    continue
                if is_folder or is_picture_name(entry.name):
                    yield entry.name, is_folder
    except (OSError, ValueError):
        return


def _name_in(address: str) -> str:
    """The last part of an address's path, or the host."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return address
    return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.netloc or address


def _words(text: str) -> list[str]:
    if WINDOWS.match(text.lstrip(" \"'")):
        # Its backslashes are not escapes.
        return ["".join(groups) for groups in WINDOWS_WORDS.findall(text)]
    try:
        return shlex.split(text)
    except ValueError:
        return [text.strip()]


def _are_files(found: Sequence[Attachment]) -> bool:
    return bool(found) and all(isinstance(one.source, Path) and is_file(one.source) for one in found)


def path_in(text: str) -> Path:
    """The path in a URL, a Windows path, or a path with or without ~."""
    if text.startswith("file:/"):
        # Some desktops omit the host and its slashes.
        address = re.sub(r"^//[^/]*", "", text.removeprefix("file:"))
        # Percent encoding encodes bytes: names need not be UTF-8.
        path = os.fsdecode(unquote_to_bytes(os.fsencode(address)))
        return _of_windows(path[1:]) or Path(path)
    try:
        return _of_windows(text) or Path(text).expanduser()
    except RuntimeError:
        # "~stranger": no such user, so it is a file name.
        return Path(text)


def _of_windows(text: str) -> Path | None:
    """The Linux path of a Windows path under WSL; None if there is no such drive."""
    if not WINDOWS.match(text):
        return None
    drive = WINDOWS_DRIVES / text[0].lower()
    return drive / text[3:].replace("\\", "/") if drive.is_dir() else None


def is_file(path: Path) -> bool:
    """Whether there is a regular file of that path; FIFOs and devices do not count."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
