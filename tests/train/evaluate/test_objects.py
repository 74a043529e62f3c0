"""Objects of pictures: from objects.jsonl, COCO's instances and shards; what does not fit is named."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minigpt4.core.errors import DataError
from minigpt4.train.evaluate.open import open_photos
from minigpt4.train.evaluate.photos import EvalPhoto, Object
from minigpt4.train.events import Event, PhotoSkipped

DOG = {"label": "dog", "box": [0.1, 0.2, 0.5, 0.75]}
CAT = {"label": "cat"}


class Opened:
    """The pictures with objects at a place, and what was skipped."""

    def __init__(self, *places: Path) -> None:
        self.events: list[Event] = []
        self.photos = open_photos([str(place) for place in places], "objects", self.events.append)

    @property
    def skipped(self) -> dict[str, str]:
        return {one.key: one.reason for one in self.events if isinstance(one, PhotoSkipped)}

    def __getitem__(self, key: str) -> EvalPhoto:
        return next(photo for photo in self.photos if photo.key == key)


def jpeg() -> bytes:
    drawn = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(drawn, "JPEG")
    return drawn.getvalue()


def write_pictures(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(jpeg())
    return folder


def write_rows(folder: Path, *rows: Any) -> None:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "objects.jsonl").write_text("\n".join(lines) + "\n")


def write_shard(path: Path, metas: dict[str, dict[str, Any]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for key, meta in metas.items():
            for name, content in ((f"{key}.jpg", jpeg()), (f"{key}.json", json.dumps(meta).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def test_a_list_beside_pictures_gives_labels_and_boxes(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "own", "a.jpg", "b.jpg")
    (folder / "a.txt").write_text("A dog and a cat.")
    write_rows(
        folder, {"image": "a.jpg", "objects": [DOG, CAT]}, {"image": "./b.jpg", "objects": [{"label": "TV "}]}
    )
    for place in (folder, folder / "objects.jsonl"):
        opened = Opened(place)
        assert opened["a.jpg"].objects == (Object("dog", (0.1, 0.2, 0.5, 0.75)), Object("cat"))
        assert opened["a.jpg"].captions == ("A dog and a cat.",)
        assert opened["a.jpg"].read() == jpeg()
        assert opened["b.jpg"].objects == (Object("tv"),)
        assert opened.skipped == {}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "own", "a.jpg", "bare.jpg", "pixels.jpg", "none.jpg", "unnamed.jpg")
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    write_rows(
        folder,
        {"image": "a.jpg", "objects": [DOG]},
        {"image": "a.jpg", "objects": [CAT]},
        {"image": "gone.jpg", "objects": [DOG]},
        {"image": "../secret.jpg", "objects": [DOG]},
        {"image": "pixels.jpg", "objects": [DOG, {"label": "cat", "box": [10, 20, 30, 40]}]},
        {"image": "none.jpg", "objects": []},
        {"image": "unnamed.jpg", "objects": [{"box": [0, 0, 1, 1]}]},
        {"objects": [DOG]},
        '{"image": "a.j',
    )
    opened = Opened(folder)
    assert [photo.key for photo in opened.photos] == ["a.jpg"]
    assert opened["a.jpg"].objects[0].label == "dog"
    assert opened.skipped == {
        "objects.jsonl, line 2": "a second row of 'a.jpg'",
        "objects.jsonl, line 8": "no picture under 'image'",
        "objects.jsonl, line 9": "unreadable JSON",
        "gone.jpg": "it has objects, but there is no such picture",
        "../secret.jpg": "it has objects, but there is no such picture",
        "bare.jpg": "no objects are listed for it",
        "none.jpg": "no objects are listed for it",
        "pixels.jpg": "a box that is not four fractions of the picture: [10, 20, 30, 40]",
        "unnamed.jpg": 'an object without a label: {"box": [0, 0, 1, 1]}',
    }


@pytest.mark.parametrize("box", [[0.1, 0.2, 0.3], "0.1", [0.5, 0, 0.1, 1], [0, 0, 1, True], [0, 0, 1, 1e400]])
def test_a_box_must_be_one(tmp_path: Path, box: object) -> None:
    folder = write_pictures(tmp_path / "own", "a.jpg")
    write_rows(folder, {"image": "a.jpg", "objects": [{"label": "dog", "box": box}]})
    with pytest.raises(DataError, match=r"no picture to ask about in .*; of 'a.jpg': a box that is not"):
        Opened(folder)


def test_shards_take_the_list_beside_them_or_their_own_objects(tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    listed.mkdir()
    write_shard(listed / "0.tar", {"a": {"captions": ["A dog."]}, "b": {"caption": "A cat."}})
    write_rows(listed, {"image": "a.jpg", "objects": [DOG]}, {"image": "c.jpg", "objects": [CAT]})
    own = write_shard(tmp_path / "own.tar", {"d": {"objects": [CAT]}, "e": {}, "f": {"objects": "many"}})
    for place in (listed, listed / "0.tar"):
        opened = Opened(place, own)
        assert {photo.key: photo.objects[0].label for photo in opened.photos} == {"a": "dog", "d": "cat"}
        assert (opened["a"].captions, opened["a"].set) == (("A dog.",), "0.tar")
        assert opened["d"].captions == ()
        assert opened["d"].read() == jpeg()
        assert opened.skipped == {
            "b": "no objects are listed for it",
            "c": "it has objects, but there is no such picture",
            "e": "no objects are listed for it",
            "f": "its objects are not a list",
        }


def write_coco(folder: Path) -> Path:
    write_pictures(folder / "val2017", "1.jpg", "2.jpg", "3.jpg")
    (folder / "annotations").mkdir()
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 200, "height": 100} for n in (1, 2, 3, 4)]
    rows = [
        {"image_id": 1, "category_id": 18, "bbox": [20, 10, 100, 50]},
        {"image_id": 1, "category_id": 1, "bbox": [150, 0, 60, 100], "iscrowd": 1},
        {"image_id": 2, "category_id": 18, "bbox": [0, 0]},
        {"image_id": 4, "category_id": 18, "bbox": [0, 0, 1, 1]},
        {"image_id": 9, "category_id": 18, "bbox": [0, 0, 1, 1]},
    ]
    content = {
        "images": images,
        "annotations": rows,
        "categories": [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}],
    }
    captions = {"images": images, "annotations": [{"image_id": 1, "caption": "A dog runs."}]}
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    (folder / "annotations" / "captions_val2017.json").write_text(json.dumps(captions))
    return folder


def test_cocos_instances_become_fractions(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "coco")
    for place in (folder, folder / "annotations" / "instances_val2017.json"):
        opened = Opened(place)
        (photo,) = opened.photos
        assert photo.objects == (
            Object("dog", (0.1, 0.1, 0.6, 0.6)),
            Object("person", (0.75, 0.0, 1.0, 1.0), is_crowd=True),
        )
        assert (photo.key, photo.captions, photo.read()) == ("1.jpg", ("A dog runs.",), jpeg())
        assert opened.skipped == {
            "2.jpg": "a box that is not [x, y, width, height]: [0, 0]",
            "3.jpg": "no objects are listed for it",
            "4.jpg": "it has objects, but there is no such picture",
            "instances_val2017.json": "1 objects of images that it does not list",
        }


def test_a_folder_without_objects_says_what_they_look_like(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no pictures with objects: objects\.jsonl beside them"):
        Opened(write_pictures(tmp_path / "own", "a.jpg"))
    write_rows(tmp_path / "own", "")
    with pytest.raises(DataError, match="names no picture"):
        Opened(tmp_path / "own")


@pytest.mark.parametrize("content", ["{", '{"annotations": []}', "[1]"])
def test_another_json_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(DataError, match=r"instances\.json"):
        Opened(tmp_path / "instances.json")
