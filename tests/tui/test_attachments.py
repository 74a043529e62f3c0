"""A picture may be typed, quoted, escaped, dropped or piped, and is one kind of attachment."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest

from minigpt4.core.errors import ImageError, UsageError
from minigpt4.tui.attachments import Attachment, attachment, attachments_in, complete_path, names_files


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


def test_bytes_are_called_by_their_label() -> None:
    with pytest.raises(ImageError, match=r"clipboard\.png is not a picture"):
        Attachment(b"nothing of a picture", "clipboard.png").open()
    with pytest.raises(ImageError, match="Standard input is not a picture"):
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
