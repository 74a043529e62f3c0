"""A picture may be typed, quoted, escaped, dropped or piped, and is one kind of attachment."""

from __future__ import annotations

import os
import re
import shlex
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import ImageError, UsageError
from minigpt4.tui.images import attachments as module
from minigpt4.tui.images.attachments import Attachment, attachment, attachments_in, complete_path, names_files

# Whatever Linux lets a file be called, bytes that are no UTF-8 among them.
any_path = (
    st.binary(min_size=1, max_size=30)
    .filter(lambda name: 0 not in name)
    .map(lambda name: Path(os.fsdecode(b"/nowhere/" + name)))
)


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, Path]:
    """One picture with a plain name and one with everything a name may hold."""
    plain, odd = tmp_path / "cat.png", tmp_path / "My cat's (2nd) photo.JPG"
    plain.touch()
    odd.touch()
    return plain, odd


def sources(line: str) -> list[Path | bytes]:
    return [one.source for one in attachments_in(line)]


def test_a_path_with_spaces_needs_no_quotes(photos: tuple[Path, Path]) -> None:
    assert sources(f"  {photos[1]} ") == [photos[1]]


@pytest.mark.parametrize("form", ["quoted", "escaped", "address"])
def test_what_terminals_paste_for_a_dropped_file_is_that_file(photos: tuple[Path, Path], form: str) -> None:
    odd = str(photos[1])
    pasted = {
        "quoted": '"' + odd + '"',
        "escaped": odd.replace(" ", "\\ ").replace("'", "\\'").replace("(", "\\(").replace(")", "\\)"),
        "address": photos[1].as_uri(),
    }[form]
    assert sources(pasted) == [photos[1]]
    assert sources(f"{pasted} {photos[0]}") == [photos[1], photos[0]]
    assert names_files(f"{pasted} {photos[0]}")


@given(any_path)
def test_whatever_a_file_is_called_dropping_it_quoted_names_it(path: Path) -> None:
    name = str(path)
    assert sources(shlex.quote(name)) == [path]
    assert sources('"' + re.sub(r'(["\\])', r"\\\1", name) + '"') == [path]
    assert sources(path.as_uri()) == [path]
    assert sources(path.as_uri().replace("file://", "file:")) == [path]


@given(st.lists(any_path.filter(lambda path: "\n" not in str(path)), min_size=1, max_size=3))
def test_several_dropped_with_backslashes_are_several(paths: list[Path]) -> None:
    escaped = [re.sub(r"([^\w/.-])", r"\\\1", str(path), flags=re.ASCII) for path in paths]
    assert sources(" ".join(escaped)) == paths


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_may_come_a_line_each_spaces_and_all(
    photos: tuple[Path, Path], tmp_path: Path, end: str
) -> None:
    spaced = tmp_path / "two words.png"
    spaced.touch()
    lines = [str(spaced), str(photos[0]), photos[1].as_uri()]
    assert sources(end.join(lines) + end) == [spaced, *photos]
    assert names_files(end.join(lines))
    assert not names_files(end.join([*lines, "what are these?"]))


def test_an_address_may_name_a_host_and_hold_signs_that_should_be_escaped(tmp_path: Path) -> None:
    assert sources("file://localhost/a%20b.jpg") == [Path("/a b.jpg")]
    odd = tmp_path / "50% #1?.png"
    odd.touch()
    assert sources(f"file://{odd}") == [odd]


def test_a_path_of_windows_is_found_where_linux_has_its_drives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "c" / "Users" / "Ann Lee"
    folder.mkdir(parents=True)
    monkeypatch.setattr(module, "WINDOWS_DRIVES", tmp_path)
    (folder / "a.jpg").touch()
    there = folder / "a.jpg"
    assert sources(r'"C:\Users\Ann Lee\a.jpg"') == [there]
    assert sources(r"C:\Users\Ann Lee\a.jpg") == [there]
    assert sources("file:///C:/Users/Ann%20Lee/a.jpg") == [there]
    assert sources(r'"C:\Users\Ann Lee\a.jpg" C:\b.png') == [there, tmp_path / "c" / "b.png"]
    assert sources(r"D:\b.png") == [Path(r"D:\b.png")], "an error can then name it as it was typed"


def test_a_book_that_is_pasted_is_not_taken_for_files(photos: tuple[Path, Path]) -> None:
    assert not names_files(f"{photos[0]} " * 100_000)


def test_a_question_names_no_files(photos: tuple[Path, Path]) -> None:
    assert not names_files("What is this?")
    assert not names_files(f"{photos[0]} what is this?")
    assert not names_files("")
    assert not names_files("What's this?")  # half a quotation


def test_home_is_written_with_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert attachment("~/a.jpg").source == tmp_path / "a.jpg"
    assert attachment("~no-such-user/a.jpg").source == Path("~no-such-user/a.jpg")


def test_a_dash_is_standard_input() -> None:
    assert attachment("-", BytesIO(b"bytes")) == Attachment(b"bytes", "-")
    with pytest.raises(UsageError, match="reads the picture from standard input"):
        attachment("-", None)


def test_a_picture_is_called_without_its_folder(photos: tuple[Path, Path]) -> None:
    assert attachment(str(photos[1])).name == photos[1].name
    assert Attachment(b"", "clipboard.png").name == "clipboard.png"


def test_bytes_are_called_by_their_label() -> None:
    with pytest.raises(ImageError, match=r"clipboard\.png is a text, not a picture"):
        Attachment(b"nothing of a picture", "clipboard.png").open()
    with pytest.raises(ImageError, match="Standard input is a text, not a picture"):
        Attachment(b"nothing of a picture", "-").open()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("Photos", "phones", ".cache"):
        (tmp_path / name).mkdir()
    for name in ("photo 1.JPG", "photo 2.png", "paper.pdf", ".dot.png"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_path_is_completed_to_folders_and_pictures(folder: Path) -> None:
    assert complete_path("ph") == ["phones/", "photo 1.JPG", "photo 2.png"]
    assert complete_path(f"{folder}/ph")[0] == f"{folder}/phones/"
    assert complete_path("") == ["Photos/", "phones/", "photo 1.JPG", "photo 2.png"]


def test_a_path_is_completed_as_it_is_written(folder: Path) -> None:
    assert complete_path("~") == ["~/"]
    assert complete_path("~/Ph") == ["~/Photos/"]
    assert complete_path("./Ph") == ["./Photos/"]
    assert complete_path("PHOTO") == ["Photos/", "photo 1.JPG", "photo 2.png"]


def test_hidden_names_are_completed_by_their_dot_alone(folder: Path) -> None:
    assert complete_path(".") == [".cache/", ".dot.png"]


@pytest.mark.parametrize("prefix", ["gone/x", "photo 1.JPG/", "~stranger/x", "a\0b/"])
def test_what_cannot_be_read_completes_to_nothing(folder: Path, prefix: str) -> None:
    assert complete_path(prefix) == []


def test_what_is_completed_is_what_is_attached(folder: Path) -> None:
    assert names_files(complete_path("~/photo 1")[0])
