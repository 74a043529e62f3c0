"""COCO's instances (arXiv 1405.0312): one JSON file of all objects in the pictures of a folder near it.

{"images": [{"id", "file_name", "width", "height"}], "categories": [{"id", "name"}],
 "annotations": [{"image_id", "category_id", "bbox": [x, y, width, height] in pixels, "iscrowd"}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from minigpt4.core.errors import DataError
from minigpt4.core.storage.regular_file import read_regular_file
from minigpt4.train.data.coco import dicts, files_of, photo_folder, rows_in
from minigpt4.train.evaluate.photos import Object
from minigpt4.train.events import PhotoSkipped, Report

FILES = "instances*.json"


@dataclass(frozen=True)
class Instances:
    """The pictures' folder, and the objects of each file, or what is wrong with them."""

    folder: Path
    objects: Mapping[str, tuple[Object, ...] | str]


def instances_files(folder: Path) -> list[Path]:
    """COCO's instances files in the folder, or in its `annotations`."""
    return sorted(folder.glob(FILES)) or sorted((folder / "annotations").glob(FILES))


def listed_instances(path: Path, report: Report) -> Instances:
    """Read an instances file; entries that belong to no picture go to `report`.

    Raises DataError if it is not an instances file, or if the pictures are not found near it.
    """
    content = _content(path)
    names = {row.get("id"): row.get("name") for row in dicts(content["categories"])}
    images = {str(row.get("id")): row for row in dicts(content["images"])}
    files, doubled = files_of(content["images"])
    found: dict[str, tuple[Object, ...] | str] = dict.fromkeys(files.values(), ())
    strangers = 0
    for row in rows_in(content["annotations"]):
        key = str(row.get("image_id")) if isinstance(row, dict) else ""
        if not isinstance(row, dict) or key not in files:
            strangers += 1
            continue
        before = found[files[key]]
        if not isinstance(before, str):
            one = _object(row, names.get(row.get("category_id")), images[key])
            found[files[key]] = one if isinstance(one, str) else (*before, one)
    for key in doubled:
        report(PhotoSkipped(path.name, key, "its id is given to several images"))
    if strangers:
        report(PhotoSkipped(path.name, path.name, f"{strangers} objects of images that it does not list"))
    return Instances(photo_folder(path, list(files.values())), found)


def _object(row: Mapping[str, Any], name: object, image: Mapping[str, Any]) -> Object | str:
    if not isinstance(name, str) or not name.strip():
        return f"an object of category {json.dumps(row.get('category_id'))}, which has no name"
    label, is_crowd = name.strip().lower(), bool(row.get("iscrowd"))
    width, height = image.get("width"), image.get("height")
    if row.get("bbox") is None or not _is_length(width) or not _is_length(height):
        return Object(label, None, is_crowd)
    try:
        x, y, w, h = map(float, row["bbox"])
    except (TypeError, ValueError):
        return f"a box that is not [x, y, width, height]: {json.dumps(row['bbox'])[:60]}"
    left, top, right, bottom = x / width, y / height, (x + w) / width, (y + h) / height
    return Object(label, (max(left, 0.0), max(top, 0.0), min(right, 1.0), min(bottom, 1.0)), is_crowd)


def _is_length(number: object) -> TypeGuard[float]:
    return isinstance(number, int | float) and number > 0


def _content(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_regular_file(path))
    except OSError as error:
        raise DataError(f"The objects {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"The objects {path} are not valid JSON ({error}); fetch the file again.") from error
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise DataError(
            f"{path} has no 'images', 'annotations' and 'categories'; it should be COCO's instances JSON."
        )
    return content
