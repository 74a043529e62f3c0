"""Open the pictures that an evaluation asks about, with what its suite needs to know about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from minigpt4.core.errors import DataError
from minigpt4.train.data.dataset import PhotoError, PhotoSet, captions_in, first_reasons
from minigpt4.train.data.files import photos_below
from minigpt4.train.data.open import holds_photos, open_all
from minigpt4.train.data.shards import ShardPhotos
from minigpt4.train.evaluate.objects import photos_with_objects
from minigpt4.train.evaluate.photos import EvalPhoto, Need, file_reader
from minigpt4.train.evaluate.vqa_files import photos_with_questions
from minigpt4.train.events import Event, PhotoSkipped, Report


def open_photos(places: Sequence[str], need: Need | None, report: Report) -> list[EvalPhoto]:
    """The pictures at some places, in order: what `train --data` reads or, without a need, any folder.

    Pictures that lack what is needed go to `report`, and so does a second picture of the same name.
    Raises DataError, with the first reasons, if none is left.
    """
    skipped: list[PhotoSkipped] = []

    def keep(event: Event) -> None:
        report(event)
        if isinstance(event, PhotoSkipped):
            skipped.append(event)

    if need is None:
        found = [photo for place in places for photo in _plain(place, keep)]
    elif need == "captions":
        found = [photo for photos in open_all(places, keep) for photo in _captioned(photos, keep)]
    elif need == "objects":
        found = [photo for place in places for photo in photos_with_objects(place, keep)]
    else:
        found = [photo for place in places for photo in photos_with_questions(place, keep)]
    unique: dict[str, EvalPhoto] = {}
    for photo in found:
        if photo.key in unique:
            keep(PhotoSkipped(photo.set, photo.key, "another picture has the same name"))
        else:
            unique[photo.key] = photo
    if not unique:
        raise DataError(f"There is no picture to ask about in {' '.join(places)}{first_reasons(skipped)}.")
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
        yield EvalPhoto(key, folder.name, file_reader(path, folder.name, key))
