"""Exports: read by training as they are, whole or not at all, and the originals stay untouched."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from PIL import Image

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.curate.export import FORMS, Export, Item
from minigpt4.train.data.dataset import captions_in
from minigpt4.train.data.open import open_photos
from minigpt4.train.evaluate.photos import EvalPhoto

TEXTS = {"cat.jpg": "A cat – “black” – sleeps.", "more/dog.png": "A dog runs."}


def drawn(form: str, color: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 7), color).save(file, form)
    return file.getvalue()


@pytest.fixture
def items() -> list[Item]:
    files = {"cat.jpg": drawn("JPEG", "red"), "more/dog.png": drawn("PNG", "blue")}
    return [
        Item(EvalPhoto(key, "set", lambda key=key: files[key]), hashlib.sha256(files[key]).hexdigest(), text)  # type: ignore[misc]
        for key, text in TEXTS.items()
    ]


@pytest.mark.parametrize("form", FORMS)
def test_training_reads_every_form(form: str, items: list[Item], tmp_path: Path) -> None:
    assert Export(form, tmp_path / "out").write(items)
    photos = open_photos(tmp_path / "out")
    found = {captions_in(photos.meta(index)): photos.read(index) for index in range(len(photos))}
    assert set(found) == {(text,) for text in TEXTS.values()}
    assert found[TEXTS["cat.jpg"],] == items[0].read(), "a JPEG is copied as it is"
    dog = Image.open(io.BytesIO(found[TEXTS["more/dog.png"],])).convert("RGB")
    assert dog.size == (9, 7)
    red, _, blue = dog.getpixel((4, 3))  # type: ignore[misc]
    assert blue > 240 > 20 > red


def test_align_is_as_the_authors_released_theirs(items: list[Item], tmp_path: Path) -> None:
    Export("cc_sbu_align", tmp_path / "out").write(items)
    rows = json.loads((tmp_path / "out" / "filter_cap.json").read_text())["annotations"]
    assert [row["caption"] for row in rows] == list(TEXTS.values())
    for row in rows:
        assert Image.open(tmp_path / "out" / "image" / f"{row['image_id']}.jpg").format == "JPEG"


def test_an_export_is_replaced_by_a_newer_one_and_kept_if_nothing_is_new(
    items: list[Item], tmp_path: Path
) -> None:
    export = Export("captions", tmp_path / "out")
    export.write(items)
    assert not export.write(items)
    assert export.write(items[:1])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "captions.jsonl",
        "cat.jpg",
        "curated.json",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_picture_that_has_changed_leaves_the_older_export_as_it_was(
    items: list[Item], tmp_path: Path
) -> None:
    export = Export("webdataset", tmp_path / "out")
    export.write(items[:1])
    before = (tmp_path / "out" / "00000.tar").read_bytes()
    changed = Item(EvalPhoto("dog", "set", lambda: b"another"), items[1].digest, "A dog.")
    with pytest.raises(DataError, match="'dog' has changed since it was described"):
        export.write([items[0], changed])
    assert (tmp_path / "out" / "00000.tar").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="neither empty nor"):
        Export.named(f"captions:{tmp_path}")


@pytest.mark.parametrize("text", ["captions", "captions:", "zip:out"])
def test_a_form_without_a_folder_and_an_unknown_form_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no export; write FORM:FOLDER"):
        Export.named(text)
