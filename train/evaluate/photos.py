"""What an evaluation asks about: pictures, with what is known of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minigpt4.core.errors import DataError
from minigpt4.core.pixels import MAX_FILE_BYTES
from minigpt4.core.storage.regular_file import read_regular_file
from minigpt4.train.data.dataset import PhotoError, PhotoSet, captions_in
from minigpt4.train.data.files import photos_below, reason_of
from minigpt4.train.data.open import holds_photos, open_all
from minigpt4.train.data.shards import ShardPhotos
from minigpt4.train.events import PhotoSkipped, Report

Need = Literal["captions", "objects", "questions"]
"""What a suite needs to know of a picture: its captions, its objects, or questions with their answers."""


@dataclass(frozen=True)
class Object:
    """One object in a picture: its label, and its box as fractions (left, top, right, bottom), if known."""

    label: str
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Question:
    """A question about a picture, people's answers to it, and the choices if it has some."""

    id: str
    text: str
    answers: tuple[str, ...]
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class EvalPhoto:
    """A picture and what is known of it. `set` is its folder, list or shard."""

    key: str
    set: str
    read: Callable[[], bytes]
    """The encoded image; raises PhotoError."""

    captions: tuple[str, ...] = ()
    objects: tuple[Object, ...] = ()
    questions: tuple[Question, ...] = ()


def open_photos(places: Sequence[str], need: Need | None, report: Report) -> list[EvalPhoto]:
    """The pictures at some places, in their order: what `train --data` reads, or without a need any folder.

    Those that lack what is needed are passed to `report`, and so is a second picture of the same name.
    Raises DataError if none is left.
    """
    if need is None:
        found = [photo for place in places for photo in _plain(place, report)]
    elif need == "captions":
        found = [photo for photos in open_all(places, report) for photo in _captioned(photos, report)]
    else:
        raise NotImplementedError
    unique: dict[str, EvalPhoto] = {}
    for photo in found:
        if photo.key in unique:
            report(PhotoSkipped(photo.set, photo.key, "another picture has the same name"))
        else:
            unique[photo.key] = photo
    if not unique:
        raise DataError(f"There is no picture to ask about in {' '.join(places)}.")
    return list(unique.values())


def _captioned(photos: PhotoSet, report: Report) -> Iterator[EvalPhoto]:
    for index in range(len(photos)):
        where = photos.shard(index).name if isinstance(photos, ShardPhotos) else photos.name
        try:
            captions = captions_in(photos.meta(index))
        except PhotoError as error:
            report(PhotoSkipped(where, error.key, error.reason))
            continue
        yield EvalPhoto(photos.key(index), where, lambda index=index: photos.read(index), captions)  # type: ignore[misc]


def _plain(place: str, report: Report) -> Iterator[EvalPhoto]:
    """The pictures of a folder, with or without captions; other places as `train --data` reads them."""
    folder = Path(place).expanduser()
    if not folder.is_dir() or holds_photos(place):
        for photos in open_all([place], report):
            yield from _captioned(photos, report)
        return
    for path, _ in photos_below(folder):
        key = str(path.relative_to(folder))
        yield EvalPhoto(key, folder.name, _reader(path, folder.name, key))


def _reader(path: Path, name: str, key: str) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return read_regular_file(path)[: MAX_FILE_BYTES + 1]
        except OSError as error:
            raise PhotoError(name, key, f"the file cannot be read ({reason_of(error)})") from error

    return read
