"""Open a set of photos in any of the supported forms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.data.caption_list import TABLE_SUFFIXES, list_in, listed_photos
from minigpt4.train.data.coco import ALIGN_FILE, annotated_photos, coco_files
from minigpt4.train.data.dataset import PhotoSet
from minigpt4.train.data.files import FilePhotos, has_pairs, pairs_in
from minigpt4.train.data.remote import fetched, is_remote
from minigpt4.train.data.shards import ShardPhotos
from minigpt4.train.data.webdataset import expand, expand_braces
from minigpt4.train.events import Report

FORMS = (
    "a captions.jsonl, .csv or .tsv beside photos, photos with a text of the same name (dog.jpg and "
    f"dog.txt), .tar shards, COCO's captions, or {ALIGN_FILE} with image/"
)

LIST_SUFFIXES = (".json", ".jsonl", *TABLE_SUFFIXES)


def open_photos(
    place: str | Path, *, name: str | None = None, report: Report = lambda _event: None
) -> PhotoSet:
    """The photos with captions at a place:

    - a folder with, in this order of precedence, cc_sbu_align's `filter_cap.json`, a list (caption_list.py),
      `.tar` shards, COCO's captions, or photos beside texts;
    - a single shard, list or JSON file of these, or shards by a glob or braces;
    - such shards on a web server, which are downloaded into the cache.

    `name` is for display, by default the last part of the place. Photos that cannot be used are passed to
    `report`. Raises DataError if there are no such photos.
    """
    text = str(place)
    if is_remote(text):
        called = name or text.partition("?")[0].rstrip("/").rpartition("/")[2]
        return ShardPhotos(called, fetched(list(expand_braces(text)), called, report), report)
    path = Path(place).expanduser()
    called = name or path.name or str(path)
    if path.is_dir():
        return _open_folder(path, called, report)
    suffix = path.suffix.lower()
    if not path.exists() or suffix not in LIST_SUFFIXES:
        return ShardPhotos(called, expand([path]), report)
    if suffix == ".json":
        folder, photos, skipped = annotated_photos(path, called)
        return FilePhotos(called, folder, photos, report, skipped)
    photos, skipped = listed_photos(path, called)
    return FilePhotos(called, path.parent, photos, report, skipped)


def open_all(places: Sequence[str], report: Report) -> list[PhotoSet]:
    """The sets at several places: one for all local shards, each shard once, and one per other place."""
    shards = [place for place in places if _are_shards(place)]
    others = [place for place in dict.fromkeys(places) if place not in shards]
    sets = [ShardPhotos(Path(shards[0]).name, expand(shards), report)] if shards else []
    return [*sets, *(open_photos(place, report=report) for place in others)]


def _are_shards(place: str) -> bool:
    path = Path(place).expanduser()
    if path.is_dir():
        form = _form_of(path)
        return form is not None and form is not path and form.suffix == ".tar"
    return not is_remote(place) and not (path.exists() and path.suffix.lower() in LIST_SUFFIXES)


def holds_photos(place: str | Path) -> bool:
    """Whether `open_photos` would find a set there; nothing is read or downloaded."""
    text = str(place)
    path = Path(place).expanduser()
    if is_remote(text) or path.is_file():
        return True
    if path.is_dir():
        return _form_of(path) is not None
    try:
        return bool(expand([path]))
    except (DataError, UsageError):
        return False


def _open_folder(folder: Path, name: str, report: Report) -> PhotoSet:
    form = _form_of(folder)
    if form is None:
        inside = sorted(place.name for place in folder.iterdir() if place.is_dir() and _form_of(place))
        hint = f" Its folders {', '.join(inside)} do; name one of them." if inside else ""
        raise DataError(f"The folder {folder} holds no photos with captions: {FORMS}.{hint}")
    if form is folder:
        return FilePhotos(name, folder, pairs_in(folder), report)
    if form.suffix == ".tar":
        return ShardPhotos(name, expand([folder]), report)
    if form.suffix == ".json" and len(files := coco_files(folder)) > 1 and form in files:
        raise DataError(
            f"The folder {folder} holds several captions files of COCO; name the one to use, such as {form}."
        )
    return open_photos(form, name=name, report=report)


def _form_of(folder: Path) -> Path | None:
    """The file that determines a folder's form, or the folder itself for pairs; None if there is none."""
    if (folder / ALIGN_FILE).is_file():
        return folder / ALIGN_FILE
    found = list_in(folder) or next(iter(sorted(folder.glob("*.tar"))), None)
    found = found or next(iter(coco_files(folder)), None)
    return found or (folder if has_pairs(folder) else None)
