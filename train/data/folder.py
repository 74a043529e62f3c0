"""A folder of photos, each beside a text of the same name: `dog.jpg` and `dog.txt`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from minigpt4.train.data.dataset import CAPTION_LIMIT
from minigpt4.train.data.file_dataset import FilePhoto

SUFFIXES = frozenset(
    f".{suffix}" for suffix in "jpg jpeg png webp gif bmp tif tiff avif heic ppm jp2 tga".split()
)
"""Endings of files that are taken for photos, in small letters; whether they can be opened is seen later."""


def has_pairs(folder: Path) -> bool:
    """Whether a photo below the folder has a text of its name."""
    return any(text is not None for _, text in _photos_in(folder))


def pairs_in(folder: Path) -> list[FilePhoto]:
    """Every photo below the folder, by its path within, with its text as its one caption."""
    photos = []
    for path, text in _photos_in(folder):
        captions = [_text(text)] if text is not None else []
        photos.append(FilePhoto(path.relative_to(folder).as_posix(), path, {"captions": captions}))
    return photos


def _photos_in(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """Photos and their texts in the order of their names; what is hidden is passed over."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        texts = {Path(name).stem: name for name in files if Path(name).suffix.lower() == ".txt"}
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                text = texts.get(Path(name).stem)
                yield Path(place, name), Path(place, text) if text is not None else None


def _text(path: Path) -> str:
    # What is no UTF-8 is kept as such, and told as such when the photo is left out.
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        return file.read(CAPTION_LIMIT + 1)
