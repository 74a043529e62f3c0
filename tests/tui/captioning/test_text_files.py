"""Texts beside the pictures: whose they are, and which are left as they are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from minigpt4.tui.captioning.output import CaptionError, Existing
from minigpt4.tui.captioning.text_files import TextFiles


def texts(folder: Path, *names: str, existing: Existing = "skip") -> TextFiles:
    """The texts of a run over pictures of these names, which are there."""
    for name in names:
        (folder / name).touch()
    return TextFiles([folder / name for name in names], existing)


def refusal(target: TextFiles, picture: Path) -> str:
    with pytest.raises(CaptionError) as found:
        target.check(picture)
    return str(found.value)


def test_a_text_with_words_is_a_caption_and_a_blank_one_is_none(tmp_path: Path) -> None:
    target = texts(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    (tmp_path / "a.txt").write_text(" \n")
    (tmp_path / "b.txt").write_text("Mine.")
    assert [target.has_caption(tmp_path / f"{stem}.jpg") for stem in "abc"] == [False, True, False]


@pytest.mark.parametrize("name", ["dog.TXT", "dog.Txt"])
def test_a_text_in_capitals_is_the_one_that_training_reads_and_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Mine.\n")
    target = texts(tmp_path, "dog.jpg", existing="append")
    assert target.has_caption(tmp_path / "dog.jpg")
    target.write(tmp_path / "dog.jpg", "A dog.")
    assert (tmp_path / name).read_text() == "Mine.\nA dog.\n"
    assert not (tmp_path / "dog.txt").exists()


def test_a_text_in_utf16_is_appended_to_in_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Größe.\n", encoding="utf-16")
    texts(tmp_path, "a.jpg", existing="append").write(tmp_path / "a.jpg", "A cat.")
    assert (tmp_path / "a.txt").read_text("utf-8") == "Größe.\nA cat.\n"


def test_a_text_that_cannot_be_read_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"Gr\xfc\xdfe")
    (tmp_path / "b.txt").symlink_to("b.txt")
    modes: tuple[Existing, ...] = ("skip", "append")
    for existing in modes:
        target = texts(tmp_path, "a.jpg", existing=existing)
        with pytest.raises(CaptionError, match=r"not UTF-8.*left as it is"):
            target.has_caption(tmp_path / "a.jpg")
        with pytest.raises(CaptionError, match="left as it is"):
            texts(tmp_path, "b.jpg").has_caption(tmp_path / "b.jpg")
    assert (tmp_path / "a.txt").read_bytes() == b"Gr\xfc\xdfe"


def test_a_folder_in_the_place_of_a_text_is_told(tmp_path: Path) -> None:
    target = texts(tmp_path, "a.jpg")
    (tmp_path / "a.txt").mkdir()
    assert refusal(target, tmp_path / "a.jpg").endswith(
        "a.txt' cannot be written: it is a folder; --output captions.jsonl writes one list instead."
    )


def test_a_picture_called_txt_is_not_replaced_by_its_caption(tmp_path: Path) -> None:
    assert "would replace the picture itself" in refusal(texts(tmp_path, "a.txt"), tmp_path / "a.txt")


def test_pictures_of_one_stem_share_no_text_even_if_only_one_is_to_be_captioned(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    target = texts(tmp_path, "a.jpg", "b.jpg")
    assert f"'{tmp_path / 'a.jpg'}' and 'a.png' would share the text file 'a.txt'" in refusal(
        target, tmp_path / "a.jpg"
    )
    target.check(tmp_path / "b.jpg")


def test_a_photo_in_heic_which_gets_no_caption_does_not_keep_its_jpeg_from_one(tmp_path: Path) -> None:
    texts(tmp_path, "a.HEIC", "a.jpg").check(tmp_path / "a.jpg")


def test_a_text_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.txt").write_text("Mine.\n")
    target = texts(tmp_path, "a.jpg", existing="overwrite")

    def fails(number: int) -> None:
        raise OSError(number, os.strerror(number))

    for number, kind in ((28, OSError), (5, CaptionError)):  # a full disk concerns all pictures
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", lambda _file, number=number: fails(number))
            with pytest.raises(kind):
                target.write(tmp_path / "a.jpg", "A cat.")
        assert {path.name for path in tmp_path.iterdir()} == {"a.jpg", "a.txt"}
        assert (tmp_path / "a.txt").read_text() == "Mine.\n"
