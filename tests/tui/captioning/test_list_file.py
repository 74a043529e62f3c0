"""A list of captions that grows row by row, and what a kill may leave of it."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.data.caption_list import listed_photos
from minigpt4.train.data.list_rows import FORMS
from minigpt4.tui.captioning.list_file import ListFile
from minigpt4.tui.captioning.output import Existing

TEXTS = {
    "a.jpg": 'He says "no", twice.',
    "b, c.jpg": "Grüße; 猫\tand tab",
    "d/e.png": 'One "line".\nAnother one.',
}
FORM = pytest.mark.parametrize("suffix", FORMS)


def read(path: Path) -> dict[str, list[object]]:
    """What training reads."""
    photos, skipped = listed_photos(path, "list")
    assert skipped == []
    return {photo.key: list(photo.captions) for photo in photos}


def write(path: Path, texts: dict[str, str], existing: Existing = "skip") -> ListFile:
    target = ListFile(path, existing)
    for name, text in texts.items():
        target.write(path.parent / name, text)
    target.finish([path.parent / name for name in texts])
    return target


@FORM
def test_training_reads_what_is_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "new" / f"captions{suffix}"
    write(path, TEXTS)
    assert read(path) == {name: [text] for name, text in TEXTS.items()}


@FORM
def test_wherever_a_list_was_cut_off_it_is_repaired_and_completed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"captions{suffix}"
    write(path, TEXTS)
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        target = ListFile(path, "skip")
        due = {name: text for name, text in TEXTS.items() if not target.has_caption(tmp_path / name)}
        target.finish([])
        write(path, due)
        assert read(path) == {name: [text] for name, text in TEXTS.items()}, whole[:end]


@FORM
def test_overwriting_replaces_only_these_pictures_and_only_at_the_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"captions{suffix}"
    write(path, {"a.jpg": "Old a.", "b.jpg": "Old b.\nAnd more.", "c.jpg": "Old c."})
    target = ListFile(path, "overwrite")
    target.write(tmp_path / "b.jpg", "New b.")
    assert read(path)["b.jpg"] == ["Old b.\nAnd more.", "New b."]
    target.finish([tmp_path / "b.jpg"])
    assert read(path) == {"a.jpg": ["Old a."], "b.jpg": ["New b."], "c.jpg": ["Old c."]}


@FORM
def test_appending_adds_a_second_caption_but_not_the_same_twice(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"captions{suffix}"
    for text in ("A cat.", "Two cats.", "Two cats."):
        write(path, {"a.jpg": text}, "append")
    assert read(path)["a.jpg"] == ["A cat.", "Two cats."]


def test_a_table_of_another_program_keeps_its_columns_separator_and_rows(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    mine = '\ufeffsep=;\nid;File_Name;Text\n1;a.jpg;"My cat;\nshe sleeps"\n2;./b.jpg;\n'
    path.write_text(mine, "utf-8")
    target = ListFile(path, "skip")
    assert target.has_caption(tmp_path / "a.jpg")
    assert not target.has_caption(tmp_path / "b.jpg")
    target.finish([])
    write(path, {"c.jpg": "A dog; asleep."})
    assert path.read_text("utf-8") == mine + '"";"c.jpg";"A dog; asleep."\n'
    assert read(path)["c.jpg"] == ["A dog; asleep."]


def test_rows_that_cannot_be_read_and_captions_of_other_columns_stay(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    mine = '{"image": "a.jpg", "captions": ["One.", "Two."], "by": "me"}\nbroken\n\n{"photo": "b.jpg"}\n'
    path.write_text(mine)
    write(path, {"b.jpg": "A dog."}, "overwrite")
    assert path.read_text() == mine.replace('{"photo": "b.jpg"}', '{"photo": "b.jpg", "caption": "A dog."}')


def test_a_last_row_without_line_end_is_kept(tmp_path: Path) -> None:
    for name, content in (
        ("x.csv", "photo,caption\na.jpg,A cat"),
        ("y.csv", 'photo,caption\n"a.jpg","A cat"'),
        ("x.jsonl", '{"image": "a.jpg", "text": "A cat"}'),
    ):
        path = tmp_path / name
        path.write_text(content)
        target = write(path, {"b.jpg": "A dog."})
        assert not target.cut_off
        assert read(path) == {"a.jpg": ["A cat"], "b.jpg": ["A dog."]}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("x.csv", b"name,age\nann,7\n", "should name 'photo' and 'caption'"),
        ("x.csv", b"hello", "should name 'photo' and 'caption'"),
        ("x.csv", b'photo,caption\na.jpg,x\nb.jpg,"y\nc.jpg,z\n', "line 3 is never closed"),
        ("x.csv", "photo,caption\n".encode("utf-16"), "is not in UTF-8"),
        ("x.jsonl", b"words\n", "no JSON object per line"),
        ("x.jsonl", b"words", "no JSON object per line"),
        ("x.jsonl", b'[\n{"photo": "a.jpg"}]\n', "no JSON object per line"),
    ],
)
def test_a_file_that_is_no_list_stays_as_it_is(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=reason):
        ListFile(path, "skip")
    assert path.read_bytes() == content


def test_a_folder_or_a_pipe_is_no_list(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.csv")
    (tmp_path / "x.jsonl").mkdir()
    for name in ("x.csv", "x.jsonl"):
        with pytest.raises(UsageError, match="choose another --output"):
            ListFile(tmp_path / name, "skip")


def test_two_processes_do_not_write_the_same_list(tmp_path: Path) -> None:
    first = ListFile(tmp_path / "x.csv", "skip")
    with pytest.raises(UsageError, match="another process"):
        ListFile(tmp_path / "x.csv", "skip")
    first.finish([])
    assert not (tmp_path / "x.csv").exists()  # nothing was written
    ListFile(tmp_path / "x.csv", "skip").finish([])


@FORM
def test_strange_names_are_found_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    names = [os.fsdecode(b"caf\xe9.jpg"), " spaces .jpg ", 'quote"d.jpg', "two\nlines.jpg", "a;b,c.jpg"]
    for name in names:
        (tmp_path / name).touch()
    write(path, dict.fromkeys(names, "A café."))
    assert list(read(path)) == names
    again = ListFile(path, "skip")
    assert all(again.has_caption(tmp_path / name) for name in names)
    again.finish([])


def test_a_full_disk_leaves_whole_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.csv"
    write(path, {"a.jpg": "A cat."})
    before = path.read_bytes()
    target = ListFile(path, "skip")
    monkeypatch.setattr(os, "fsync", lambda _file: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space left"):
        target.write(tmp_path / "b.jpg", "A dog.")
    monkeypatch.undo()
    target.finish([])
    assert path.read_bytes() == before


def test_pictures_outside_are_named_by_their_whole_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lists").mkdir()
    (tmp_path / "link").symlink_to("lists")
    monkeypatch.chdir(tmp_path)
    target = ListFile(Path("lists/x.jsonl"), "skip")
    inside, through_link, outside = Path("lists/a.jpg"), Path("link/b.jpg"), Path("c.jpg")
    assert target.outside([inside, through_link, outside]) == [outside]
    for picture in (inside, through_link, outside):
        target.write(picture, "A cat.")
    target.finish([])
    rows = [json.loads(line)["photo"] for line in Path("lists/x.jsonl").read_text().splitlines()]
    assert rows == ["a.jpg", "b.jpg", str(tmp_path / "c.jpg")]


def test_a_csv_list_is_one_that_spreadsheets_read(tmp_path: Path) -> None:
    write(tmp_path / "x.csv", TEXTS)
    with (tmp_path / "x.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["photo"]: row["caption"] for row in rows} == TEXTS
