"""Folders and the pictures in them. Disks may be slow or far away: for other threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from minigpt4.tui.images.attachments import is_picture_name

MOST_LISTED = 2000
"""Most names of one folder that are shown; the rest is found by the filter."""

MOST_FOUND = 200
MOST_LOOKED_AT = 50_000
"""Names after which a search ends: a second or two on a local disk."""


@dataclass(frozen=True)
class Listing:
    """What one folder holds, without hidden ones; `problem` if it cannot be read."""

    folders: tuple[Path, ...] = ()
    pictures: tuple[Path, ...] = ()
    left_out: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Found:
    """Pictures whose path below a folder holds the letters that were looked for; maybe not all."""

    pictures: tuple[Path, ...]
    is_all: bool


def listing(folder: Path) -> Listing:
    """The folders and the pictures in a folder, each in the order of a dictionary."""
    try:
        folders, pictures = _scanned(folder)
    except OSError as error:
        return Listing(problem=(error.strerror or str(error)).lower())
    room = max(0, MOST_LISTED - len(folders))
    left_out = max(0, len(folders) - MOST_LISTED) + max(0, len(pictures) - room)
    return Listing(tuple(folders[:MOST_LISTED]), tuple(pictures[:room]), left_out)


def found_below(folder: Path, letters: str, is_over: Callable[[], bool] = lambda: False) -> Found:
    """Pictures below a folder, nearer ones first, whose path from there holds the letters.

    Capitals and spaces make no difference. Ends early, with what it has, once `is_over`.
    """
    wanted = _plain(letters)
    found: list[Path] = []
    looked_at = 0
    waiting = deque([folder])
    while waiting:
        if is_over() or looked_at > MOST_LOOKED_AT:
            return Found(tuple(found), False)
        try:
            folders, pictures = _scanned(waiting.popleft(), links=False)
        except OSError:
            continue
        looked_at += len(folders) + len(pictures)
        for picture in pictures:
            if wanted in _plain(str(picture.relative_to(folder))):
                if len(found) == MOST_FOUND:
                    return Found(tuple(found), False)
                found.append(picture)
        waiting.extend(folders)
    return Found(tuple(found), True)


def _scanned(folder: Path, *, links: bool = True) -> tuple[list[Path], list[Path]]:
    """Folders and pictures; without `links`, no folder that is a link, for those may go in circles."""
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
