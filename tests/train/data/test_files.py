"""Photos as files: pairs, lists, COCO's and MiniGPT-4's JSON."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import DataError
from minigpt4.train.data import files
from minigpt4.train.data.dataset import CAPTION_LIMIT, PhotoError, PhotoSet
from minigpt4.train.data.open import holds_photos, open_photos

Photo = Callable[[str], bytes]


def write(folder: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def known(photos: PhotoSet) -> dict[str, tuple[str, ...]]:
    """Captions by key."""
    return {photos.key(place): tuple(photos.meta(place)["captions"]) for place in range(len(photos))}


def test_photos_beside_texts_are_found_in_all_folders(tmp_path: Path, photo: Photo, events: Any) -> None:
    write(
        tmp_path,
        {
            "Dog.JPG": photo("red"),
            "Dog.txt": "My dog Bello.\n",
            "2024/bee.png": photo("blue"),
            "2024/bee.txt": "\ufeffBees, at home.",
            "alone.jpg": photo("green"),
            "notes.txt": "not about a photo",
            ".hidden.jpg": b"",
            ".git/cat.jpg": b"",
            ".git/cat.txt": "No.",
            "long.jpg": photo("red"),
            "long.txt": "x" * (CAPTION_LIMIT + 1),
            "latin.jpg": photo("red"),
            "latin.txt": "Stra\xdfe".encode("latin-1"),
            "empty.jpg": photo("red"),
            "empty.txt": "",
        },
    )
    photos = open_photos(tmp_path, name="mine", report=events)
    assert photos.name == "mine"
    assert known(photos) == {"Dog.JPG": ("My dog Bello.",), "2024/bee.png": ("Bees, at home.",)}
    assert photos.read(0) == photo("red")
    assert dict(events.skipped) == {
        "alone.jpg": "no caption",
        "empty.jpg": "no caption",
        "latin.jpg": "a caption that is not UTF-8",
        "long.jpg": f"a caption of {CAPTION_LIMIT + 1} characters, more than {CAPTION_LIMIT}",
    }


def test_photos_in_linked_folders_are_found_once(tmp_path: Path, photo: Photo) -> None:
    pair: dict[str, bytes | str] = {"a.jpg": photo("red"), "a.txt": "An ant."}
    elsewhere = write(tmp_path / "elsewhere", pair)
    folder = write(tmp_path / "mine", {f"own/{name}": content for name, content in pair.items()})
    for name, target in (
        ("linked", elsewhere),
        ("once-more", elsewhere),
        ("inside", folder / "own"),
        ("circle", tmp_path),
        ("broken", tmp_path / "gone"),
    ):
        (folder / name).symlink_to(target)
    assert list(known(open_photos(folder))) == ["linked/a.jpg", "own/a.jpg"]
    shutil.rmtree(folder / "own")
    assert holds_photos(folder)


JSON_LIST = """\
{"photo": "a.jpg", "caption": "An ant."}

{"image": "deep/b.jpg", "captions": ["A bee.", "Two bees.", ""]}
{"photo": "a.jpg", "text": "Ants."}
{"photo": "a.jpg"
{"caption": "Of what?"}
{"photo": "gone.jpg", "caption": "Gone."}
{"photo": "../outside.jpg", "caption": "A secret."}
{"photo": "silent.jpg"}
[1]
"""


def test_a_json_list_names_photos_relative_to_itself(tmp_path: Path, photo: Photo, events: Any) -> None:
    write(tmp_path, {"outside.jpg": photo("red")})
    folder = write(
        tmp_path / "mine",
        {"captions.jsonl": JSON_LIST, "a.jpg": photo("red"), "deep/b.jpg": photo("blue"), "silent.jpg": b""},
    )
    photos = open_photos(folder, report=events)
    assert known(photos) == {"a.jpg": ("An ant.", "Ants."), "deep/b.jpg": ("A bee.", "Two bees.")}
    assert photos.read(1) == photo("blue")
    assert events.skipped == [
        ("captions.jsonl, line 5", "unreadable JSON"),
        ("captions.jsonl, line 6", "no photo is named; it should stand under 'photo'"),
        ("captions.jsonl, line 10", "no JSON object, as in {...}"),
        ("gone.jpg", "there is no such file"),
        ("../outside.jpg", f"its file lies outside of {folder}; name it relative to the list"),
        ("silent.jpg", "no caption"),
    ]
    assert open_photos(folder / "captions.jsonl").fingerprint == photos.fingerprint


def test_an_absolute_name_in_a_list_is_not_followed(tmp_path: Path, photo: Photo, events: Any) -> None:
    secret = write(tmp_path, {"secret.jpg": photo("red")}) / "secret.jpg"
    row = json.dumps({"photo": str(secret), "caption": "A secret."})
    with pytest.raises(DataError, match=r"'mine' has no photo with captions in .*outside of"):
        open_photos(write(tmp_path / "mine", {"captions.jsonl": row}), report=events)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_table_is_read_in_the_dialect_of_spreadsheets(
    tmp_path: Path, photo: Photo, events: Any, delimiter: str, mark: str
) -> None:
    rows = [
        ["File_Name", "Caption"],
        ["a.jpg", '"An ant; red, small.\nIt runs."'],
        ["a.jpg", "Ants."],
        ["b.jpg"],
    ]
    text = mark + "\r\n".join(delimiter.join(row) for row in rows) + "\r\n"
    folder = write(tmp_path, {"captions.csv": text, "a.jpg": photo("red"), "b.jpg": photo("red")})
    assert known(open_photos(folder, report=events)) == {"a.jpg": ("An ant; red, small.\nIt runs.", "Ants.")}
    assert events.skipped == [("captions.csv, line 5", "fewer fields than the heading names")]


def test_a_table_without_the_right_columns_is_refused_with_its_columns(tmp_path: Path) -> None:
    folder = write(tmp_path, {"captions.csv": "url,title\nx,y\n"})
    with pytest.raises(
        DataError, match="begins with the columns url, title; its first line should name 'photo'"
    ):
        open_photos(folder)


def test_an_endless_line_or_cell_is_skipped_alone(
    tmp_path: Path, photo: Photo, events: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt4.train.data.caption_list.ROW_LIMIT", 100)
    lines = ['{"photo": "a.jpg", "caption": "An ant."}', "x" * 350, '{"photo": "b.jpg", "caption": "A bee."}']
    files: dict[str, bytes | str] = {"a.jpg": photo("red"), "b.jpg": photo("red")}
    photos = open_photos(write(tmp_path / "j", files | {"captions.jsonl": "\n".join(lines)}), report=events)
    assert len(photos) == 2
    assert events.skipped == [("captions.jsonl, line 2", "a line of more than 100 characters")]
    events.reported.clear()
    table = f"photo,caption\na.jpg,An ant.\nb.jpg,{'x' * 200_000}\nb.jpg,A bee.\n"
    assert len(open_photos(write(tmp_path / "c", files | {"captions.csv": table}), report=events)) == 2
    assert [key for key, _ in events.skipped] == ["captions.csv, line 3"]


def test_the_released_pairs_of_the_second_stage_are_read(tmp_path: Path, photo: Photo, events: Any) -> None:
    pairs = [{"image_id": "2", "caption": "A long walk."}, {"image_id": "../../2", "caption": "No."}]
    folder = write(
        tmp_path, {"filter_cap.json": json.dumps({"annotations": pairs}), "image/2.jpg": photo("red")}
    )
    photos = open_photos(folder, report=events)
    assert known(photos) == {"2": ("A long walk.",)}
    assert photos.read(0) == photo("red")
    assert [key for key, _ in events.skipped] == ["../../2"]


def test_entries_of_coco_that_are_none_are_named(tmp_path: Path, photo: Photo, events: Any) -> None:
    content = json.loads(coco("1.jpg", "2.jpg"))
    content["annotations"] += ["A photo.", {"image_id": 1, "caption": {"en": "A photo."}}]
    content["images"].append(None)
    files: dict[str, bytes | str] = {f"val/{number}.jpg": photo("red") for number in (1, 2)}
    folder = write(tmp_path, {**files, "captions_val.json": json.dumps(content)})
    assert len(open_photos(folder, report=events)) == 2
    assert events.skipped == [
        ("captions_val.json, 'annotations' entry 5", "not a JSON object"),
        ("captions_val.json, 'images' entry 3", "not a JSON object"),
        ("1", 'a caption that is not a text: {"en": "A photo."}'),
    ]


def test_captions_of_coco_that_belong_to_no_image_or_to_several_are_named(
    tmp_path: Path, photo: Photo, events: Any
) -> None:
    ids = {"1.jpg": 1, "2.jpg": 2, "3.jpg": 2}
    content = {
        "images": [{"id": number, "file_name": file} for file, number in ids.items()],
        "annotations": [{"image_id": number, "caption": "A photo."} for number in (1, 2, 99, None)],
    }
    files: dict[str, bytes | str] = {file: photo("red") for file in ids}
    folder = write(tmp_path, {**files, "captions_val.json": json.dumps(content)})
    only = open_photos(folder, report=events)
    assert (len(only), only.key(0), only.meta(0)["captions"]) == (1, "1", ("A photo.",))
    assert events.skipped == [
        ("2", "its id is given to several images"),
        ("captions_val.json", "2 captions of images that it does not list"),
    ]


def coco(*files: str) -> str:
    images = [{"id": number, "file_name": name} for number, name in enumerate(files, start=1)]
    annotations = [
        {"image_id": number, "caption": f"{word} {number}."}
        for word in ("A photo", "Photo")
        for number in range(1, len(files) + 1)
    ]
    return json.dumps({"images": images, "annotations": annotations})


def test_the_photos_of_coco_captions_are_found_near_them(tmp_path: Path, photo: Photo) -> None:
    files: dict[str, bytes | str] = {"annotations/captions_val.json": coco("1.jpg", "2.jpg")}
    for number in "12":
        files[f"train/{number}.jpg"] = photo("red")  # of the same names
        files[f"val/{number}.jpg"] = photo("blue")
    folder = write(tmp_path / "coco", files)
    photos = open_photos(folder)
    assert known(photos) == {"1": ("A photo 1.", "Photo 1."), "2": ("A photo 2.", "Photo 2.")}
    assert photos.read(1) == photo("blue")
    write(folder, {"annotations/captions_train.json": coco("1.jpg")})
    with pytest.raises(
        DataError, match=r"several captions files of COCO; name the one to use, such as .*train"
    ):
        open_photos(folder)
    assert open_photos(folder / "annotations" / "captions_train.json").read(0) == photo("red")


def test_missing_coco_photos_are_an_error(tmp_path: Path) -> None:
    # Two levels down: photos are also looked for in the folder above, where other tests have theirs.
    folder = write(tmp_path / "coco" / "annotations", {"captions_val.json": coco("1.jpg")})
    with pytest.raises(
        DataError, match=r"are not near it \(1\.jpg is missing\); put their folder beside it, as .*val"
    ):
        open_photos(folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("{", "are not valid JSON"), ("[]", "holds no 'annotations'"), ('{"annotations": 7}', "names no photo")],
)
def test_json_of_another_form_is_refused_with_its_path(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(DataError, match=rf"odd\.json.* {sentence}"):
        open_photos(write(tmp_path, {"odd.json": text}) / "odd.json")


def test_the_fingerprint_depends_on_photos_and_captions_alone(tmp_path: Path, photo: Photo) -> None:
    files: dict[str, bytes | str] = {
        "a.jpg": photo("red"),
        "a.txt": "An ant.",
        "b.jpg": photo("blue"),
        "b.txt": "B.",
    }
    prints = [
        open_photos(write(tmp_path / name, files | changes)).fingerprint
        for name, changes in [
            ("one", {}),
            ("same", {}),
            ("caption", {"a.txt": "An aunt."}),
            ("photo", {"a.jpg": photo("red") + b" "}),
            ("key", {"c.jpg": photo("red"), "c.txt": "An ant."}),
        ]
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4


def test_files_are_hashed_once_until_they_change(
    tmp_path: Path, photo: Photo, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path, {"a.jpg": photo("red"), "a.txt": "A.", "b.jpg": photo("blue"), "b.txt": "B."})
    before = open_photos(folder).fingerprint
    hashed: list[str] = []
    real = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: (hashed.append(path.name), real(path))[1])
    assert open_photos(folder).fingerprint == before
    assert hashed == []
    (folder / "b.jpg").write_bytes(photo("cyan"))
    os.utime(folder / "b.jpg", (1, 1))
    assert open_photos(folder).fingerprint != before
    assert hashed == ["b.jpg"]


def test_a_deleted_file_is_a_bad_photo(tmp_path: Path, photo: Photo) -> None:
    photos = open_photos(write(tmp_path, {"a.jpg": photo("red"), "a.txt": "An ant."}))
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(PhotoError, match=r"'a\.jpg' of .* the file cannot be read"):
        photos.read(0)


def test_an_empty_folder_is_refused_with_the_accepted_forms(tmp_path: Path, photo: Photo) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"holds no photos with captions: a captions\.jsonl, \.csv or \.tsv be"
    ):
        open_photos(tmp_path / "empty")
    write(tmp_path / "cats", {"a.jpg": photo("red"), "captions.csv": "photo,caption\na.jpg,A cat.\n"})
    with pytest.raises(DataError, match=r"Its folders cats do; name one of them\."):
        open_photos(tmp_path)
    assert not holds_photos(tmp_path)
    assert holds_photos(tmp_path / "cats")
    with pytest.raises(DataError, match="There is no shard"):
        open_photos(tmp_path / "nowhere")
    assert not holds_photos(tmp_path / "nowhere")
