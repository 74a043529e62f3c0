"""Contact sheets: written atomically, safe for any caption."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image

from minigpt4.core.errors import UsageError
from minigpt4.train.inspection.contact_sheet import COLUMNS, SIDE, Cell, Part, thumbnail, write_sheet

EVIL = '<script>alert("x")</script> & \x1b[31m \ud83d'


def cell(title: str = "k", *captions: str, colour: str = "red") -> Cell:
    return Cell(title, captions, thumbnail(Image.new("RGB", (400, 300), colour)))


def test_html_shows_every_picture_with_all_its_captions(tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    parts = [
        Part("A sample", ((cell("one", "A dog.", "Ein Hund."),), (cell("two", "一只狗"),))),
        Part("Look alike", ((cell("three"), cell("four")),)),
        Part("Empty", ()),
    ]
    write_sheet(path, "5 photos", parts)
    page = path.read_text("utf-8")
    for text in ("one", "A dog.", "Ein Hund.", "一只狗", "three", "four", "Look alike", "5 photos"):
        assert text in page
    assert "Empty" not in page
    assert page.count('<div class="group">') == 1
    pictures = re.findall(r"base64,([^\"]+)", page)
    assert len(pictures) == 4
    assert Image.open(io.BytesIO(base64.b64decode(pictures[0]))).size == (SIDE, SIDE * 3 // 4)


def test_html_runs_and_loads_nothing(tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    write_sheet(path, EVIL, [Part(EVIL, ((cell(EVIL, EVIL),),))])
    page = path.read_text("utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)


def test_png_has_a_row_for_every_six_pictures(tmp_path: Path) -> None:
    heights = []
    for count in (1, COLUMNS, COLUMNS + 1):
        path = tmp_path / f"{count}.png"
        write_sheet(path, "", [Part("A sample", ((cell("k" * 80, "word " * 90, colour="lime"),),) * count)])
        with Image.open(path) as sheet:
            heights.append(sheet.height)
            assert sheet.width > COLUMNS * SIDE
            assert sheet.getcolors(1 << 24)
            lime = sum(n for n, colour in sheet.getcolors(1 << 24) or [] if colour == (0, 255, 0))
            assert lime == count * SIDE * SIDE * 3 // 4
    assert heights[0] == heights[1]
    assert heights[2] > heights[1] + SIDE


@pytest.mark.parametrize("suffix", [".html", ".png"])
def test_any_text_can_be_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"sheet{suffix}"
    write_sheet(path, "", [Part("A sample", ((cell(EVIL, EVIL, ""),),))])
    assert path.stat().st_size > 500


def test_a_failure_keeps_the_previous_sheet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "sheet.png"
    path.write_text("before")
    monkeypatch.setattr(Image.Image, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space")))
    with pytest.raises(OSError, match="No space"):
        write_sheet(path, "", [Part("A sample", ((cell(),),))])
    assert [place.name for place in tmp_path.iterdir()] == ["sheet.png"]
    assert path.read_text() == "before"


@pytest.mark.parametrize("name", ["sheet.jpg", "sheet", "none/sheet.html", "folder.html"])
def test_a_path_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(UsageError, match=name):
        write_sheet(tmp_path / name, "", [])
