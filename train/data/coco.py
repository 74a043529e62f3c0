"""COCO's captions (arXiv 1504.00325) and the pairs of MiniGPT-4's second stage, each one JSON file.

COCO: {"images": [{"id", "file_name"}], "annotations": [{"image_id", "caption"}]}, with the photos in
a folder near it. cc_sbu_align: {"annotations": [{"image_id", "caption"}]}, with the photos in
`image/ID.jpg` beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from minigpt4.core.errors import DataError
from minigpt4.core.storage.regular_file import read_regular_file
from minigpt4.train.data.files import FilePhoto
from minigpt4.train.events import PhotoSkipped

ALIGN_FILE, ALIGN_FOLDER = "filter_cap.json", "image"
COCO_FILES = "captions*.json"


def coco_files(folder: Path) -> list[Path]:
    """COCO's caption files in the folder, or in its `annotations`."""
    return sorted(folder.glob(COCO_FILES)) or sorted((folder / "annotations").glob(COCO_FILES))


def annotated_photos(path: Path, name: str) -> tuple[Path, list[FilePhoto], list[PhotoSkipped]]:
    """The folder with the photos of a JSON file of either form, the photos, and skipped entries.

    Raises DataError if it is neither form, or the photos are not found near it.
    """
    content = _content(path)
    captions: dict[str, list[object]] = {}
    skipped = [
        PhotoSkipped(name, f"{path.name}, '{part}' entry {number}", "not a JSON object")
        for part in ("annotations", "images")
        for number, row in enumerate(rows_in(content.get(part)), start=1)
        if not isinstance(row, dict)
    ]
    for annotation in dicts(content.get("annotations")):
        captions.setdefault(str(annotation.get("image_id")), []).append(annotation.get("caption"))
    if "images" not in content:
        folder = path.parent / ALIGN_FOLDER
        files = {key: f"{key}.jpg" for key in captions}
    else:
        files, doubled = files_of(content["images"])
        skipped += [PhotoSkipped(name, key, "its id is given to several images") for key in doubled]
        strangers = sum(len(texts) for key, texts in captions.items() if key not in {*files, *doubled})
        if strangers:
            reason = f"{strangers} captions of images that it does not list"
            skipped.append(PhotoSkipped(name, path.name, reason))
        folder = photo_folder(path, list(files.values()))
    photos = [FilePhoto(key, folder / file, captions.get(key, [])) for key, file in files.items()]
    if not photos:
        raise DataError(
            f"{path} names no photo with a caption; it should be COCO's captions or {ALIGN_FILE}."
        )
    return folder, photos, skipped


def files_of(images: object) -> tuple[dict[str, str], list[str]]:
    """The file of each image id, and the ids with several files."""
    by_id: dict[str, set[str]] = {}
    for image in dicts(images):
        by_id.setdefault(str(image.get("id")), set()).add(str(image.get("file_name")))
    files = {key: next(iter(names)) for key, names in by_id.items() if len(names) == 1}
    return files, [key for key in by_id if key not in files]


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_regular_file(path))
    except OSError as error:
        raise DataError(f"The captions {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"The captions {path} are not valid JSON ({error}); fetch the file again.") from error
    if not isinstance(content, dict) or "annotations" not in content:
        raise DataError(
            f"{path} holds no 'annotations'; it should be COCO's captions or {ALIGN_FILE}. "
            "Captions of your own go into captions.jsonl, as JSON lines or as an array."
        )
    return content


def dicts(rows: object) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of an array."""
    return (row for row in rows_in(rows) if isinstance(row, dict))


def rows_in(rows: object) -> list[object]:
    """The array, or an empty list in place of anything else."""
    return rows if isinstance(rows, list) else []


def photo_folder(path: Path, files: Sequence[str]) -> Path:
    """The nearest folder in which one of the first photos is found; raises DataError."""
    roots = (path.parent, path.parent.parent)
    near = [*roots, *(place for root in roots for place in sorted(root.iterdir()) if place.is_dir())]
    # `captions_train2017.json` belongs to `train2017` even if another folder has the same file names.
    own = [place for place in near if place.name and place.name == path.stem.partition("_")[2]]
    for file in files[:100]:
        for place in own + near:
            if (place / file).is_file():
                return place
    raise DataError(
        f"The photos of {path} are not near it ({files[0] if files else 'it names none'} is missing); put "
        f"their folder beside it, as {path.parent / (path.stem.partition('_')[2] or 'images')}."
    )
