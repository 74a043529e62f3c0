"""Pictures in the terminal's own pixels are whole, take the room they were given, and ask nothing."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from PIL import Image

from minigpt4.tui.images.sixel_kitty import GraphicsError, kitty_picture, sixel_strips
from minigpt4.tui.images.terminal_protocol import CellSize

CELL = CellSize(10, 20)


@pytest.fixture
def image() -> Image.Image:
    return Image.linear_gradient("L").convert("RGB")


def test_each_line_of_a_sixel_picture_draws_itself(image: Image.Image) -> None:
    strips = sixel_strips(image, 9, 3, CELL)
    assert [strip.cell_length for strip in strips] == [9, 9, 9]
    for strip in strips:
        (sixels,) = [segment.text for segment in strip if segment.control]
        # Saved, back to the picture's first column, drawn 80 x 20 pixels large, restored.
        assert re.fullmatch(r'\x1b7\x1b\[8D\x1bP[\d;]*q"1;1;80;20.*\x1b\\\x1b8', sixels, re.DOTALL)
        assert "".join(segment.text for segment in strip if not segment.control) == " " * 9


def test_a_kitty_picture_is_sent_once_and_shown_by_letters(image: Image.Image) -> None:
    picture = kitty_picture(image, 6, 2, CELL)
    number = re.search(r"i=(\d+)", picture.forget)
    assert number is not None
    assert picture.forget == f"\x1b_Ga=d,d=I,i={number[1]},q=2\x1b\\"
    messages = picture.send.split("\x1b\\")
    assert f"a=p,U=1,i={number[1]},c=6,r=2" in messages[-2]
    assert ["m=0" in message for message in messages[1:-2]] == [False] * (len(messages) - 4) + [True]
    assert all(len(message) < 4200 for message in messages)
    for strip in picture.strips:
        assert strip.cell_length == 6
        assert strip.text.count("\U0010eeee") == 6
        (segment,) = strip
        assert segment.style is not None and segment.style.color is not None
        assert segment.style.color.number == int(number[1])


def test_two_kitty_pictures_have_two_numbers(image: Image.Image) -> None:
    assert kitty_picture(image, 2, 1, CELL).forget != kitty_picture(image, 2, 1, CELL).forget


def test_what_goes_wrong_inside_is_one_kind_of_error(
    image: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(GraphicsError):
        sixel_strips(image, 1, 3, CELL)
    with pytest.raises(GraphicsError):
        kitty_picture(image, 4000, 1, CELL)
    monkeypatch.setattr("minigpt4.tui.images.sixel_kitty.importlib.import_module", lambda name: 1 / 0)
    with pytest.raises(GraphicsError):
        sixel_strips(image, 4, 1, CELL)


def test_loading_the_encoders_asks_the_terminal_nothing() -> None:
    script = """
import sys
class Terminal:
    def isatty(self): return True
    def write(self, text): raise SystemExit(f"asked {text!r}")
sys.__stdout__ = Terminal()
from PIL import Image
from minigpt4.tui.images.terminal_protocol import CellSize
from minigpt4.tui.images.sixel_kitty import kitty_picture, sixel_strips
image = Image.new("RGB", (8, 8))
assert kitty_picture(image, 2, 1, CellSize(10, 20)).send
assert sixel_strips(image, 2, 1, CellSize(10, 20))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
