"""Opening a set of photos by what is there."""

from __future__ import annotations

from pathlib import Path

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.data.caption_list import list_in, listed_photos
from minigpt4.train.data.coco import ALIGN_FILE, annotated_photos, coco_files
from minigpt4.train.data.dataset import PhotoSet
from minigpt4.train.data.file_dataset import FilePhotos
from minigpt4.train.data.folder import has_pairs, pairs_in
from minigpt4.train.data.remote import fetched, is_remote
from minigpt4.train.data.shard_dataset import ShardPhotos
from minigpt4.train.data.webdataset import expand, expand_braces
from minigpt4.train.events import Report

FORMS = (
    "a captions.jsonl or captions.csv beside photos, photos with a text of the same name (dog.jpg and "
    f"dog.txt), .tar shards, COCO's captions, or {ALIGN_FILE} with image/"
)


def open_photos(
    place: str | Path, *, name: str | None = None, report: Report = lambda _event: None
) -> PhotoSet:
    """The photos with captions that lie at a place:

    - a folder with cc_sbu_align's `filter_cap.json`, with a list (caption_list.py), with `.tar` shards, with
      COCO's captions, or with photos beside texts, the first of these that it has;
    - a shard, a list or a JSON file of these by itself, or shards by a glob or braces;
    - the same shards on a web server, which are fetched into the cache.

    `name` is what people call it, else the last part of the place. Photos that cannot be used are
    told to `report`. Raises DataError where there is nothing of this kind.
    """
    text = str(place)
    if is_remote(text):
        called = name or text.partition("?")[0].rstrip("/").rpartition("/")[2]
        return ShardPhotos(called, fetched(list(expand_braces(text)), called, report), report)
    path = Path(place).expanduser()
    called = name or path.name or str(path)
    if path.is_dir():
        return _open_folder(path, called, report)
    if not path.is_file():
        return ShardPhotos(called, expand([path]), report)
    match path.suffix.lower():
        case ".jsonl" | ".csv":
            return FilePhotos(called, path.parent, listed_photos(path, called, report), report)
        case ".json":
            return FilePhotos(called, *annotated_photos(path), report)
        case _:
            return ShardPhotos(called, [path], report)


def holds_photos(place: str | Path) -> bool:
    """Whether `open_photos` would find a set there; nothing of it is read or fetched."""
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
    """The file that tells what a folder holds, the folder itself where it holds pairs; None for others."""
    if (folder / ALIGN_FILE).is_file():
        return folder / ALIGN_FILE
    told = list_in(folder) or next(iter(sorted(folder.glob("*.tar"))), None)
    told = told or next(iter(coco_files(folder)), None)
    return told or (folder if has_pairs(folder) else None)
