"""Every row of a caption list is learnt as it is written, or named with its line and a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.errors import DataError
from minigpt4.train.data.dataset import PhotoSet
from minigpt4.train.data.open import open_photos


@pytest.fixture
def folder(tmp_path: Path, photo: Callable[[str], bytes]) -> Path:
    for number in range(6):
        (tmp_path / f"{number}.png").write_bytes(photo("red") + bytes([number]))
    return tmp_path


def captions(photos: PhotoSet) -> dict[str, tuple[str, ...]]:
    return {photos.key(place): tuple(photos.meta(place)["captions"]) for place in range(len(photos))}


def opened(folder: Path, name: str, text: str | bytes, events: Any) -> dict[str, tuple[str, ...]]:
    """The captions by photo, as opened from a list of this content."""
    (folder / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return captions(open_photos(folder, report=events))


def test_a_row_with_more_fields_than_the_heading_is_named_by_its_line(folder: Path, events: Any) -> None:
    table = 'photo,caption\n0.png,A cat, asleep\n1.png,"A dog, awake"\n2.png,A cow.,,\n'
    assert opened(folder, "captions.csv", table, events) == {
        "1.png": ("A dog, awake",),
        "2.png": ("A cow.",),
    }
    reason = "more fields than the heading names; put a caption with commas in quotes"
    assert events.skipped == [("captions.csv, line 2", reason)]


def test_spaces_after_commas_do_not_undo_the_quotes_that_follow(folder: Path, events: Any) -> None:
    table = 'photo, caption\n0.png, "A cat, asleep"\n1.png, "A dog"\n2.png, A cow\n'
    assert opened(folder, "captions.csv", table, events) == {
        "0.png": ("A cat, asleep",),
        "1.png": ("A dog",),
        "2.png": ("A cow",),
    }
    assert events.skipped == []


def test_spaces_of_a_photo_s_name_are_kept_and_a_name_too_long_for_a_file_is_named(
    folder: Path, events: Any
) -> None:
    (folder / " 7.png").write_bytes((folder / "0.png").read_bytes())
    long = f"{'x' * 300}.png"
    lines = [{"photo": name, "caption": "A cat."} for name in (" 7.png", " 1.png ", long)]
    text = "\n".join(map(json.dumps, lines))
    assert list(opened(folder, "captions.jsonl", text, events)) == [" 7.png", "1.png"]
    assert events.skipped == [(long, "there is no such file")]


def test_a_caption_does_not_spill_into_the_empty_columns_of_a_spreadsheet(folder: Path, events: Any) -> None:
    table = "photo,caption,,\n0.png,A cat, asleep,\n1.png,A dog.,,\n,,,\n"
    assert opened(folder, "captions.csv", table, events) == {"1.png": ("A dog.",)}
    assert [key for key, _ in events.skipped] == ["captions.csv, line 2"]


def test_a_row_with_fewer_fields_is_learnt_if_none_that_matters_is_missing(folder: Path, events: Any) -> None:
    table = "photo,caption,by\n0.png,A cat.\n1.png\n1.png,A dog.,me\n"
    assert opened(folder, "captions.csv", table, events) == {"0.png": ("A cat.",), "1.png": ("A dog.",)}
    assert events.skipped == [("captions.csv, line 3", "fewer fields than the heading names")]


@pytest.mark.parametrize(
    ("table", "line"),
    [
        ('photo,caption\n0.png,"A cat.\n1.png,A dog.\n2.png,A cow.\n', 2),
        ('photo,caption\r\n0.png,"A cat,\r\nasleep."\r\n1.png,"A dog.\r\n2.png,A cow.\r\n', 4),
        ('caption,photo\n"A cat,\nasleep.","0.png\nA dog.,1.png\n', 3),
        ('photo,caption\n0.png,A cat.\n1.png,"A dog.', 3),
    ],
)
def test_a_quote_that_is_never_closed_is_an_error_with_the_line_where_it_begins(
    folder: Path, events: Any, table: str, line: int
) -> None:
    with pytest.raises(DataError, match=rf"captions\.csv .*quote that begins in line {line} is never closed"):
        opened(folder, "captions.csv", table, events)


def test_a_quote_that_swallows_rows_up_to_another_loses_its_own_row_alone(folder: Path, events: Any) -> None:
    table = 'photo,caption\n0.png,"A cat.\n1.png,"A dog, awake."\n2.png,A cow.\n3.png,"A pig" eats.\n'
    assert opened(folder, "captions.csv", table, events) == {
        "1.png": ("A dog, awake.",),
        "2.png": ("A cow.",),
    }
    assert [key for key, _ in events.skipped] == ["captions.csv, line 2", "captions.csv, line 5"]
    assert events.skipped[0][1] == "a quote that begins here is not closed"


def test_a_tab_separated_list_is_read_by_its_own_name(folder: Path, events: Any) -> None:
    table = "photo\tcaption\n0.png\tA cat, asleep; well.\n1.png\tA dog.\tAwake.\n"
    for name in ("captions.tsv", "metadata.tsv"):
        events.reported.clear()
        assert opened(folder, name, table, events) == {"0.png": ("A cat, asleep; well.",)}
        assert [key for key, _ in events.skipped] == [f"{name}, line 3"]
        assert captions(open_photos(folder / name)) == {"0.png": ("A cat, asleep; well.",)}
        (folder / name).unlink()


def test_a_photo_that_is_spelled_in_two_ways_is_one(folder: Path, events: Any) -> None:
    table = "photo,caption\n0.png,A cat.\n./0.png,Cats.\n.//0.png,Two.\n../0.png,Out.\n"
    assert opened(folder, "captions.csv", table, events) == {"0.png": ("A cat.", "Cats.", "Two.")}
    assert [key for key, _ in events.skipped] == ["../0.png"]


@pytest.mark.parametrize("row", ['0.png,"A "big" cat."', '0.png,"A \\"big\\" cat."', '0.png,"A cat."  '])
def test_a_quote_within_a_quoted_caption_is_told_how_to_be_written(
    folder: Path, events: Any, row: str
) -> None:
    assert list(opened(folder, "captions.csv", f"photo,caption\n{row}\n1.png,A dog.\n", events)) == ["1.png"]
    reason = "text after a closing quote; write a quote within a quoted caption twice"
    assert events.skipped == [("captions.csv, line 2", reason)]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("captions.csv", "", "is empty; its first line should name 'photo' and 'caption'"),
        ("captions.csv", "photo,caption\n\n", "has no rows"),
        ("captions.jsonl", "\n", "has no rows"),
        ("captions.jsonl", "[]", "has no rows"),
    ],
)
def test_a_list_of_nothing_is_called_so(
    folder: Path, events: Any, name: str, text: str, sentence: str
) -> None:
    with pytest.raises(DataError, match=rf"{name} {sentence}\."):
        opened(folder, name, text, events)


def test_a_caption_column_that_is_named_twice_holds_several_captions(folder: Path, events: Any) -> None:
    table = "photo,caption,Caption\n0.png,A cat.,Cats.\n1.png,A dog.,\n2.png,A cow.\n"
    assert opened(folder, "captions.csv", table, events) == {
        "0.png": ("A cat.", "Cats."),
        "1.png": ("A dog.",),
        "2.png": ("A cow.",),
    }
    assert events.skipped == []
    with pytest.raises(DataError, match="has two columns 'photo'"):
        opened(folder, "captions.csv", "photo,photo,caption\n0.png,1.png,A cat.\n", events)


def test_excel_s_line_that_names_the_separator_is_no_heading(folder: Path, events: Any) -> None:
    table = "\ufeffsep=;\r\nphoto;caption\r\n0.png;A cat, asleep\r\n1.png\r\n"
    assert opened(folder, "captions.csv", table, events) == {"0.png": ("A cat, asleep",)}
    assert [key for key, _ in events.skipped] == ["captions.csv, line 4"]
    assert opened(folder, "captions.csv", "sep=|\nphoto|caption\n0.png|A cat.\n", events)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_lists_and_texts_in_utf_16_are_read(folder: Path, events: Any, encoding: str) -> None:
    table = "photo\tcaption\n0.png\tEine süße Katze.\n".encode(encoding)
    rows = '{"photo": "0.png", "caption": "Eine süße Katze."}\n'.encode(encoding)
    for name, content in (("captions.csv", table), ("captions.jsonl", rows), ("0.txt", rows[:0])):
        text = content or "Eine süße Katze.".encode(encoding)
        assert opened(folder, name, text, events)["0.png"] == ("Eine süße Katze.",)
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"captions\.csv begins as UTF-16.*save it as UTF-8"):
        opened(folder, "captions.csv", "photo,caption\n".encode("utf-16") + b"x", events)


ROWS = [{"photo": f"{number}.png", "caption": "A cat."} for number in range(4)]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "[\n" + ",\n".join(map(json.dumps, ROWS)) + ",\n]\n",
        "".join(f"{json.dumps(row)},\n" for row in ROWS),
        "\n".join(json.dumps(row, indent=2) for row in ROWS),  # as jq writes it
    ],
)
def test_a_json_array_indented_objects_and_commas_at_line_ends_are_read(
    folder: Path, events: Any, text: str
) -> None:
    assert opened(folder, "captions.jsonl", text, events) == {row["photo"]: ("A cat.",) for row in ROWS}
    assert events.skipped == []


@pytest.mark.parametrize("indent", [None, 1])
def test_a_damaged_row_of_an_array_is_named_and_the_rest_read(
    folder: Path, events: Any, indent: int | None
) -> None:
    text = json.dumps(ROWS, indent=indent).replace('"1.png",', '"1.png"')
    assert list(opened(folder, "captions.jsonl", text, events)) == ["0.png", "2.png", "3.png"]
    assert events.skipped == [(f"captions.jsonl, line {6 if indent else 1}", "unreadable JSON")]


def test_values_of_the_wrong_type_are_named_and_texts_read_wherever_they_stand(
    folder: Path, events: Any
) -> None:
    lines = [
        '{"photo": "0.png", "captions": "A cat."}',
        '{"photo": "1.png", "caption": ["A dog.", "Dogs."]}',
        '{"photo": "2.png", "caption": 7}',
        '{"photo": "2.png", "captions": {"en": "A cow."}}',
        '{"photo": "2.png", "captions": ["A cow.", ["Cows."]]}',
        '{"photo": "3.png", "caption": "A pig.", "caption": "Pigs."}',
        '{"photo": "3.png", "caption": null}',
        '{"photo": ["3.png"], "caption": "A pig."}',
    ]
    assert opened(folder, "captions.jsonl", "\n".join(lines), events) == {
        "0.png": ("A cat.",),
        "1.png": ("A dog.", "Dogs."),
        "2.png": ("A cow.",),
    }
    assert events.skipped == [
        ("captions.jsonl, line 3", "a caption that is not a text: 7"),
        ("captions.jsonl, line 4", 'a caption that is not a text: {"en": "A cow."}'),
        ("captions.jsonl, line 5", 'a caption that is not a text: ["Cows."]'),
        ("captions.jsonl, line 6", "'caption' is given twice"),
        ("captions.jsonl, line 8", "no photo is named; it should stand under 'photo'"),
        ("3.png", "no caption"),
    ]


def test_the_first_reasons_are_told_if_no_row_can_be_learnt(folder: Path, events: Any) -> None:
    table = "photo,caption\n0.png,A cat, asleep\n1.png,A dog, awake\n2.png\n"
    reasons = r"; of 'captions\.csv, line 2': more fields .*; of 'captions\.csv, line 4': fewer fields .*\."
    with pytest.raises(DataError, match=reasons):
        opened(folder, "captions.csv", table, events)
    assert len(events.skipped) == 3


def test_the_order_of_photos_is_that_of_their_first_rows(folder: Path, events: Any) -> None:
    table = "photo,caption\n2.png,\n1.png,A dog.\n2.png,A cow.\n"
    assert list(opened(folder, "captions.csv", table, events)) == ["2.png", "1.png"]
    assert events.skipped == []


def test_captions_under_both_names_are_learnt_each_once(folder: Path, events: Any) -> None:
    rows = (
        '{"photo": "0.png", "caption": "A cat.", "captions": ["A cat.", "Cats."]}',
        '{"photo": "1.png", "caption": "A dog.", "captions": "Dogs."}',
        '{"photo": "2.png", "caption": "A cow.", "captions": 5}',
    )
    found = opened(folder, "captions.jsonl", "\n".join(rows), events)
    assert found == {"0.png": ("A cat.", "Cats."), "1.png": ("A dog.", "Dogs."), "2.png": ("A cow.",)}
    assert events.skipped == [("captions.jsonl, line 3", "a caption that is not a text: 5")]


def test_json_that_is_no_row_is_not_called_unreadable(folder: Path, events: Any) -> None:
    rows = ('{"photo": "0.png", "caption": "A cat."}', "null", "[1, 2]", '"A cat."', "{")
    assert list(opened(folder, "captions.jsonl", "\n".join(rows), events)) == ["0.png"]
    no_row = "no JSON object, as in {...}"
    assert [reason for _, reason in events.skipped] == [no_row, no_row, no_row, "unreadable JSON"]
