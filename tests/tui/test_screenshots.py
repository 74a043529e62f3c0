"""The README's pictures of the app: sound, whole, and drawn without anything from elsewhere."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from rich.segment import Segment
from rich.style import Style

FOLDER = Path(__file__).parents[2] / "docs" / "screenshots"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def terminal_svg(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module beside the script, which is no part of the package."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("terminal_svg")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.svg")), ids=lambda path: path.stem)
def test_a_picture_is_sound_and_fetches_nothing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    ElementTree.fromstring(text)
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert "/tmp" not in text and "/home" not in text


def test_letters_are_as_wide_as_their_cells_and_mean_nothing_to_xml(terminal_svg: ModuleType) -> None:
    svg = terminal_svg.to_svg(
        [[Segment(" a <b> ", Style(bold=True)), Segment("日本")]], (0, 0, 0), (255,) * 3
    )
    words = {one.text: one for one in ElementTree.fromstring(svg).iter(f"{SVG}text")}
    assert set(words) == {"a", "<b>", "日本"}
    assert float(words["日本"].attrib["textLength"]) == pytest.approx(4 * terminal_svg.CELL_W)
    assert float(words["日本"].attrib["x"]) == pytest.approx(7 * terminal_svg.CELL_W)
    assert words["<b>"].attrib["class"] == "b"


def test_block_characters_become_one_picture(terminal_svg: ModuleType) -> None:
    cells = Segment("▀▚▐", Style(color="#ff0000", bgcolor="#0000ff"))
    svg = terminal_svg.to_svg([[cells], [cells]], (0, 0, 0), (255, 255, 255))
    images = list(ElementTree.fromstring(svg).iter(f"{SVG}image"))
    assert len(images) == 1
    assert float(images[0].attrib["width"]) == pytest.approx(3 * terminal_svg.CELL_W)
    assert float(images[0].attrib["height"]) == pytest.approx(2 * terminal_svg.CELL_H)
    assert not list(ElementTree.fromstring(svg).iter(f"{SVG}text"))
