"""The pictures that paths name: files as they are, folders with everything below them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Found:
    """Pictures in the order of the paths, sorted by name within a folder, without duplicates."""

    pictures: tuple[Path, ...]
    empty: tuple[Path, ...]
    """Folders that were named and hold no picture."""

    faults: tuple[str, ...]
    """A sentence for each folder that cannot be read, and each path that is neither file nor folder."""


def find_pictures(paths: Iterable[Path]) -> Found:
    """Find pictures: in folders those that `train --data` finds, and files whatever their names are."""
    from minigpt4.train.data.files import photos_below

    pictures: dict[Path, Path] = {}
    empty: list[Path] = []
    faults: list[str] = []

    def unreadable(error: OSError) -> None:
        faults.append(
            f"The folder '{error.filename}' cannot be read ({error.strerror}), so its pictures are left out; "
            "change its permissions."
        )

    for path in paths:
        before = len(faults)
        is_folder = path.is_dir()
        below = [photo for photo, _ in photos_below(path, unreadable)] if is_folder else [path]
        if not below and len(faults) == before:
            empty.append(path)
        for picture in below:
            if picture.exists() and not picture.is_file():  # reading it might block forever
                faults.append(f"'{picture}' is a pipe or a device; save the picture in a file first.")
                continue
            # A picture that is reached through two links is captioned once.
            pictures.setdefault(picture.parent.resolve() / picture.name, picture)
    return Found(tuple(pictures.values()), tuple(empty), tuple(faults))
