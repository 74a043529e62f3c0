"""Pictures, and text, from the desktop's clipboard, by the tool that the desktop has for it.

The tools wait for the program that holds the clipboard, so each may take seconds: for other threads.
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

from minigpt4.tui.images.attachments import is_picture_name

WAIT_S = 3.0
"""Longest wait for a program that holds the clipboard."""

KINDS = ("image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff", "image/gif", "image/avif")
"""What can be read, best first: programs that offer several made the others from the first."""

FILES = ("text/uri-list", "x-special/gnome-copied-files")
"""What file managers offer for copied files."""

TEXTS = ("text/plain;charset=utf-8", "UTF8_STRING", "text/plain", "STRING", "TEXT")

Desktop = Literal["wayland", "x11", "macos"]
NO_PICTURE = "The clipboard holds no picture; copy one first, or choose a file."


@dataclass(frozen=True)
class ClipboardProblem:
    """Why there is nothing: a sentence with the way out."""

    sentence: str


@dataclass(frozen=True)
class Tool:
    """The program that reads a desktop's clipboard: the commands that list the kinds and print one."""

    program: str
    package: str
    kinds: tuple[str, ...]
    read: tuple[str, ...]

    def command_for(self, kind: str) -> tuple[str, ...]:
        """The command for one kind."""
        return tuple(kind if word == "KIND" else word for word in self.read)


TOOLS: Mapping[Desktop, Tool] = {
    "wayland": Tool(
        "wl-paste",
        "wl-clipboard",
        ("wl-paste", "--list-types"),
        ("wl-paste", "--no-newline", "--type", "KIND"),
    ),
    "x11": Tool(
        "xclip",
        "xclip",
        ("xclip", "-selection", "clipboard", "-t", "TARGETS", "-o"),
        ("xclip", "-selection", "clipboard", "-t", "KIND", "-o"),
    ),
}


def clipboard_image() -> bytes | ClipboardProblem:
    """The bytes of the clipboard's picture, or of the first picture among copied files."""
    desktop = desktop_kind()
    if desktop == "macos":
        return _image_of_macos()
    offered = _offered(desktop)
    if isinstance(offered, ClipboardProblem):
        return offered
    tool, kinds = offered
    for kind in KINDS:
        if kind in kinds:
            return _output(tool.command_for(kind)) or ClipboardProblem(NO_PICTURE)
    for kind in FILES:
        if kind in kinds:
            return _first_file(_output(tool.command_for(kind)))
    return ClipboardProblem(NO_PICTURE)


def clipboard_text() -> str | ClipboardProblem:
    """The clipboard's text; empty if it holds something else."""
    desktop = desktop_kind()
    if desktop == "macos":
        found = _output(("pbpaste",))
        return found if isinstance(found, ClipboardProblem) else found.decode("utf-8", "replace")
    offered = _offered(desktop)
    if isinstance(offered, ClipboardProblem):
        return offered
    tool, kinds = offered
    for kind in TEXTS:
        if kind in kinds:
            found = _output(tool.command_for(kind))
            return found if isinstance(found, ClipboardProblem) else found.decode("utf-8", "replace")
    return ""


def desktop_kind() -> Desktop | None:
    """Whose clipboard can be read; None without a desktop, as over SSH."""
    if sys.platform == "darwin":
        return "macos"
    if os.environ.get("WAYLAND_DISPLAY"):
        return "wayland"
    return "x11" if os.environ.get("DISPLAY") else None


def _offered(desktop: Desktop | None) -> tuple[Tool, list[str]] | ClipboardProblem:
    """The desktop's tool, and the kinds that the clipboard's content can be read as."""
    if desktop is None:
        return ClipboardProblem(
            "There is no clipboard here, as neither WAYLAND_DISPLAY nor DISPLAY is set; "
            "give the picture's path, or choose a file."
        )
    tool = TOOLS[desktop]
    if shutil.which(tool.program) is None:
        return ClipboardProblem(
            f"Pictures cannot be pasted without {tool.program}; install {tool.package}, or choose a file."
        )
    listed = _output(tool.kinds)
    if isinstance(listed, ClipboardProblem):
        return listed
    return tool, [kind.strip() for kind in listed.decode("utf-8", "replace").split("\n")]


def _output(command: Sequence[str]) -> bytes | ClipboardProblem:
    """The command's output; empty if it fails, as the tools do when the clipboard is empty."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=WAIT_S,
        )
    except subprocess.TimeoutExpired:
        return ClipboardProblem(
            f"The program that holds the clipboard did not answer within {WAIT_S:.0f} seconds; "
            "copy it once more."
        )
    except OSError as error:
        return ClipboardProblem(f"{command[0]} cannot be started: {error.strerror or error}.")
    return done.stdout if done.returncode == 0 else b""


def _first_file(listing: bytes | ClipboardProblem) -> bytes | ClipboardProblem:
    if isinstance(listing, ClipboardProblem):
        return listing
    for line in listing.decode("utf-8", "replace").splitlines():
        path = Path(unquote(urlsplit(line.strip()).path))
        if line.strip().startswith("file://") and is_picture_name(path.name):
            try:
                return path.read_bytes()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else error
                return ClipboardProblem(f"The copied file {path.name} cannot be read: {reason}.")
    return ClipboardProblem(NO_PICTURE)


def _image_of_macos() -> bytes | ClipboardProblem:
    if shutil.which("pngpaste") is not None:
        return _output(("pngpaste", "-")) or ClipboardProblem(NO_PICTURE)
    # AppleScript prints the bytes as «data PNGf8950...».
    printed = _output(("osascript", "-e", "the clipboard as «class PNGf»"))
    if isinstance(printed, ClipboardProblem):
        return printed
    digits = printed.decode("utf-8", "replace").strip().removeprefix("«data PNGf").removesuffix("»")
    try:
        return bytes.fromhex(digits) or ClipboardProblem(NO_PICTURE)
    except ValueError:
        return ClipboardProblem(NO_PICTURE)
