"""Pictures with the objects in them, from `objects.jsonl`, COCO's instances, or the JSON files in shards.

objects.jsonl, beside the pictures or the shards with them, has a line for each picture:

    {"image": "dog.jpg", "objects": [{"label": "dog", "box": [left, top, right, bottom]}]}

Boxes are fractions of width and height, and may be missing. In a shard, KEY.json has the same `objects`.
A picture with an object that cannot be read is skipped: counts in it would be wrong.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath

from minigpt4.core.errors import DataError
from minigpt4.train.data.caption_list import PHOTO_COLUMNS, json_lines, list_in, listed_photos, named_in
from minigpt4.train.data.coco import annotated_photos
from minigpt4.train.data.dataset import PhotoError, captions_in
from minigpt4.train.data.files import encoding_of, has_photo_suffix, pairs_in
from minigpt4.train.data.open import open_photos
from minigpt4.train.data.shards import ShardPhotos
from minigpt4.train.evaluate.coco_instances import instances_files, listed_instances
from minigpt4.train.evaluate.photos import EvalPhoto, Object, file_reader
from minigpt4.train.events import PhotoSkipped, Report

OBJECTS_FILE = "objects.jsonl"
FORMS = f"{OBJECTS_FILE} beside them, COCO's instances JSON, or 'objects' in KEY.json of shards"
NO_OBJECTS = "no objects are listed for it"
NO_PICTURE = "it has objects, but there is no such picture"
SHOWN = 60
"""Most characters of a damaged object in a message."""

Listed = Mapping[str, tuple[Object, ...] | str]
"""Objects by picture, or what is wrong with them, as a short phrase."""


def photos_with_objects(place: str, report: Report) -> Iterator[EvalPhoto]:
    """The pictures at a place that have objects, with their captions, if any.

    Pictures without objects, and objects of missing pictures, go to `report`. Raises DataError if the place
    holds no pictures with objects.
    """
    path = Path(place).expanduser()
    if path.suffix.lower() == ".json":
        yield from _coco(path, report)
    elif path.suffix.lower() == ".jsonl":
        yield from _folder(path.parent, path, report)
    elif not path.is_dir():
        listing = path.parent / OBJECTS_FILE
        listed = _listed(listing, path.name, report) if listing.is_file() else None
        yield from _shards(place, listed, report)
    elif (path / OBJECTS_FILE).exists():
        yield from _folder(path, path / OBJECTS_FILE, report)
    elif found := instances_files(path):
        if len(found) > 1:
            raise DataError(
                f"The folder {path} holds several instances files of COCO; name the one to use, "
                f"such as {found[0]}."
            )
        yield from _coco(found[0], report)
    elif any(path.glob("*.tar")):
        yield from _shards(place, None, report)
    else:
        raise DataError(f"The folder {path} holds no pictures with objects: {FORMS}.")


def objects_in(rows: object) -> tuple[Object, ...]:
    """Parse a picture's objects from JSON; raises ValueError, a short phrase, if one cannot be read."""
    if not isinstance(rows, list):
        raise ValueError("its objects are not a list")
    return tuple(_object(row) for row in rows)


def _object(row: object) -> Object:
    label = row.get("label") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(label, str) or not label.strip():
        raise ValueError(f"an object without a label: {_shown(row)}")
    box = row.get("box")
    if box is None:
        return Object(label.strip().lower(), None, bool(row.get("iscrowd")))
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_fraction, box)):
        raise ValueError(f"a box that is not four fractions of the picture: {_shown(box)}")
    left, top, right, bottom = map(float, box)
    if left > right or top > bottom:
        raise ValueError(f"a box that is not [left, top, right, bottom]: {_shown(box)}")
    return Object(label.strip().lower(), (left, top, right, bottom), bool(row.get("iscrowd")))


def _is_fraction(number: object) -> bool:
    is_number = isinstance(number, int | float) and not isinstance(number, bool)
    return is_number and math.isfinite(number) and 0 <= number <= 1  # type: ignore[arg-type, operator]


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _folder(folder: Path, listing: Path, report: Report) -> Iterator[EvalPhoto]:
    """The pictures of a folder and of its shards, with the objects of a list."""
    listed = _listed(listing, folder.name, report)
    if any(folder.glob("*.tar")):
        yield from _shards(str(folder), listed, report)
        return
    captioned = list_in(folder)
    photos = listed_photos(captioned, folder.name)[0] if captioned else []
    captions = {photo.key: captions_in({"captions": photo.captions}) for photo in photos or pairs_in(folder)}
    pictures = (
        EvalPhoto(key, folder.name, file_reader(folder / key, folder.name, key), captions.get(key, ()))
        for key in (photo.key for photo in pairs_in(folder))
    )
    yield from _joined(pictures, listed, folder.name, report)


def _shards(place: str, listed: Listed | None, report: Report) -> Iterator[EvalPhoto]:
    photos = open_photos(place, report=report)
    if not isinstance(photos, ShardPhotos):
        raise DataError(f"{place} holds no pictures with objects: {FORMS}.")
    by_key = {_member_key(image): found for image, found in (listed or {}).items()}
    found: dict[str, tuple[Object, ...] | str] = dict(by_key)
    pictures = []
    for index in range(len(photos)):
        key, where = photos.key(index), photos.shard(index).name
        try:
            content = photos.content(index)
        except PhotoError as error:
            report(PhotoSkipped(where, error.key, error.reason))
            found.pop(key, None)
            continue
        if key not in by_key and "objects" in content:
            found[key] = _objects_or_fault(content["objects"])
        pictures.append(EvalPhoto(key, where, partial(photos.read, index), captions_in(content)))
    yield from _joined(pictures, found, photos.name, report)


def _coco(path: Path, report: Report) -> Iterator[EvalPhoto]:
    """The pictures of an instances file, with the captions of the captions file beside it."""
    listed = listed_instances(path, report)
    captioned = path.with_name(path.name.replace("instances", "captions", 1))
    photos = annotated_photos(captioned, captioned.name)[1] if captioned.is_file() else []
    captions = {photo.path.name: captions_in({"captions": photo.captions}) for photo in photos}
    folder = listed.folder
    pictures = (
        EvalPhoto(file, folder.name, file_reader(folder / file, folder.name, file), captions.get(file, ()))
        for file in listed.objects
        if _is_within(file) and (folder / file).is_file()
    )
    yield from _joined(pictures, listed.objects, path.name, report)


def _joined(
    pictures: Iterable[EvalPhoto], listed: Listed, source: str, report: Report
) -> Iterator[EvalPhoto]:
    """The pictures with their objects; either without the other is reported."""
    seen = set()
    for picture in pictures:
        seen.add(picture.key)
        found = listed.get(picture.key) or NO_OBJECTS
        if isinstance(found, str):
            report(PhotoSkipped(picture.set, picture.key, found))
        else:
            yield replace(picture, objects=found)
    for key in listed:
        if key not in seen:
            report(PhotoSkipped(source, key, NO_PICTURE))


def _listed(path: Path, name: str, report: Report) -> dict[str, tuple[Object, ...] | str]:
    """The rows of an objects.jsonl by their pictures; raises DataError if it cannot be read."""
    found: dict[str, tuple[Object, ...] | str] = {}
    try:
        with path.open(encoding=encoding_of(path), errors="surrogateescape") as file:
            for number, row in json_lines(file):
                named = named_in(row) if isinstance(row, Mapping) else None
                if isinstance(row, str) or named is None:
                    fault = row if isinstance(row, str) else f"no picture under '{PHOTO_COLUMNS[1]}'"
                    report(PhotoSkipped(name, f"{path.name}, line {number}", fault))
                    continue
                key = str(PurePosixPath(named[0].strip()))
                if key in found:
                    report(PhotoSkipped(name, f"{path.name}, line {number}", f"a second row of '{key}'"))
                else:
                    found[key] = _objects_or_fault(row.get("objects"))
    except OSError as error:
        raise DataError(f"The objects {path} cannot be read: {error.strerror or error}.") from error
    if not found:
        raise DataError(f'{path} names no picture; a line should be {{"image": ..., "objects": [...]}}.')
    return found


def _objects_or_fault(rows: object) -> tuple[Object, ...] | str:
    try:
        return objects_in(rows)
    except ValueError as fault:
        return str(fault)


def _is_within(file: str) -> bool:
    """Whether a listed file lies in the list's folder; no other file may be read."""
    path = PurePosixPath(file)
    return not path.is_absolute() and ".." not in path.parts


def _member_key(image: str) -> str:
    """The key of the shard member with this file name."""
    return image.rpartition(".")[0] if has_photo_suffix(image) else image
