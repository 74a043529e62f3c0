"""Reads images and text from the clipboard with the desktop's command-line tool.

The tools wait for the program that owns the content, so a call may take seconds: use a background thread.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.images.attachments import is_picture_name

WAIT_S = 3.0
"""Longest wait for the program that owns the clipboard's content."""

IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff", "image/gif", "image/avif")
"""Image formats, best first: programs that offer several convert the first into the others."""

FILE_TYPES = ("text/uri-list", "x-special/gnome-copied-files")
"""What file managers offer for copied files."""

TEXT_TYPES = ("text/plain;charset=utf-8", "UTF8_STRING", "text/plain", "STRING", "TEXT")

Desktop = Literal["wayland", "x11", "macos"]


class ClipboardError(Minigpt4Error):
    """The clipboard cannot be read, or has no image; the message says what to do instead."""


@dataclass(frozen=True)
class Tool:
    """A command-line program that reads the clipboard; `read` is completed by the type to be read."""

    program: str
    package: str
    list_types: tuple[str, ...]
    read: tuple[str, ...]


TOOLS: Mapping[Desktop, Tool] = {
    "wayland": Tool(
        "wl-paste",
        "wl-clipboard",
        ("wl-paste", "--list-types"),
        ("wl-paste", "--no-newline", "--type"),
    ),
    "x11": Tool(
        "xclip",
        "xclip",
        ("xclip", "-selection", "clipboard", "-o", "-t", "TARGETS"),
        ("xclip", "-selection", "clipboard", "-o", "-t"),
    ),
}


def clipboard_image() -> bytes:
    """The bytes of the clipboard's image, or of the first image among copied files.

    Raises ClipboardError, also if there is none.
    """
    desktop = desktop_kind()
    if desktop == "macos":
        content = _image_of_macos()
    else:
        content = _read_first(desktop, IMAGE_TYPES) or _first_file(_read_first(desktop, FILE_TYPES))
    if not content:
        raise ClipboardError("The clipboard holds no picture; copy one first, or choose a file.")
    return content


def clipboard_text() -> str:
    """The clipboard's text; empty if it holds something else. Raises ClipboardError."""
    desktop = desktop_kind()
    content = _output(("pbpaste",)) if desktop == "macos" else _read_first(desktop, TEXT_TYPES)
    return content.decode("utf-8", "replace")


def desktop_kind() -> Desktop | None:
    """The desktop whose clipboard can be read; None without one, as over SSH."""
    if sys.platform == "darwin":
        return "macos"
    if os.environ.get("WAYLAND_DISPLAY"):
        return "wayland"
    return "x11" if os.environ.get("DISPLAY") else None


def _read_first(desktop: Desktop | None, wanted: Sequence[str]) -> bytes:
    """The clipboard's content as the first of the wanted types that it offers; empty if it offers none."""
    if desktop is None:
        raise ClipboardError(
            "There is no clipboard here, as neither WAYLAND_DISPLAY nor DISPLAY is set; "
            "give the picture's path, or choose a file."
        )
    tool = TOOLS[desktop]
    if shutil.which(tool.program) is None:
        raise ClipboardError(
            f"Pictures cannot be pasted without {tool.program}; install {tool.package}, or choose a file."
        )
    offered = [line.strip() for line in _output(tool.list_types).decode("utf-8", "replace").split("\n")]
    for content_type in wanted:
        if content_type in offered:
            return _output((*tool.read, content_type))
    return b""


def _output(command: Sequence[str]) -> bytes:
    """The command's output; empty if it fails, as the tools do when the clipboard is empty."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise ClipboardError(
            f"The program that holds the clipboard did not answer within {WAIT_S:.0f} seconds; "
            "copy it once more."
        ) from error
    except OSError as error:
        raise ClipboardError(f"{command[0]} cannot be started: {error.strerror or error}.") from error
    return done.stdout if done.returncode == 0 else b""


def _first_file(uri_list: bytes) -> bytes:
    for line in uri_list.decode("utf-8", "replace").splitlines():
        path = Path(unquote(urlsplit(line.strip()).path))
        if line.strip().startswith("file://") and is_picture_name(path.name):
            try:
                return path.read_bytes()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else error
                raise ClipboardError(f"The copied file {path.name} cannot be read: {reason}.") from error
    return b""


def _image_of_macos() -> bytes:
    if shutil.which("pngpaste") is not None:
        return _output(("pngpaste", "-"))
    # AppleScript prints the bytes as «data PNGf8950...».
    printed = _output(("osascript", "-e", "the clipboard as «class PNGf»")).decode("utf-8", "replace")
    try:
        return bytes.fromhex(printed.strip().removeprefix("«data PNGf").removesuffix("»"))
    except ValueError:
        return b""
