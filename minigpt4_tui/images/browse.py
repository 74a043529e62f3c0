"""Lists and searches folders for images. Disks may be slow or remote: use background threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minigpt4.tui.images.attachments import is_picture_name

MAX_LISTED = 2000
"""Maximum names of one folder that are shown; the filter finds the others."""

MAX_FOUND = 200
MAX_SCANNED = 50_000
"""Names after which a search ends: one or two seconds on a local disk."""


@dataclass(frozen=True)
class Listing:
    """The contents of a folder without hidden files; `problem` if it cannot be read."""

    folders: tuple[Path, ...] = ()
    pictures: tuple[Path, ...] = ()
    omitted: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Found:
    """Images whose path below a folder contains the query; `is_all` is false if the search ended early."""

    pictures: tuple[Path, ...]
    is_all: bool


def listing(folder: Path) -> Listing:
    """The folders and the images in a folder, each in alphabetical order."""
    try:
        folders, pictures = _scanned(folder)
    except OSError as error:
        return Listing(problem=(error.strerror or str(error)).lower())
    shown = tuple(pictures[: max(0, MAX_LISTED - len(folders))])
    omitted = max(0, len(folders) - MAX_LISTED) + len(pictures) - len(shown)
    return Listing(tuple(folders[:MAX_LISTED]), shown, omitted)


def search_below(folder: Path, query: str, is_canceled: Callable[[], bool] = lambda: False) -> Found:
    """Images below a folder, nearest first, whose path relative to it contains the query.

    Case and spaces are ignored. Returns what it has found once `is_canceled`.
    """
    wanted = _plain(query)
    found: list[Path] = []
    scanned = 0
    queue = deque([folder])
    while queue:
        if is_canceled() or scanned > MAX_SCANNED:
            return Found(tuple(found), False)
        try:
            folders, pictures = _scanned(queue.popleft(), links=False)
        except OSError:
            continue
        scanned += len(folders) + len(pictures)
        for picture in pictures:
            if wanted in _plain(str(picture.relative_to(folder))):
                if len(found) == MAX_FOUND:
                    return Found(tuple(found), False)
                found.append(picture)
        queue.extend(folders)
    return Found(tuple(found), True)


def _scanned(folder: Path, *, links: bool = True) -> tuple[list[Path], list[Path]]:
    """Folders and images; without `links`, no symbolic links to folders, which may form cycles."""
    folders: list[str] = []
    pictures: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            try:
                if entry.is_dir(follow_symlinks=links):
                    folders.append(entry.name)
                elif is_picture_name(entry.name):
                    pictures.append(entry.name)
            except OSError:
                continue
    return [folder / name for name in _sorted(folders)], [folder / name for name in _sorted(pictures)]


def _sorted(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (name.casefold(), name))


def _plain(text: str) -> str:
    return "".join(text.casefold().split())
