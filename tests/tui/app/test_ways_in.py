"""Pictures come into a question by the picker and the clipboard, and are seen in it and enlarged from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minigpt4.tui.images import clipboard
from minigpt4.tui.images.clipboard import ClipboardError
from minigpt4.tui.screens.picker import PickerScreen
from minigpt4.tui.screens.zoom import ZoomScreen
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.picture import PictureArea

Play = Any
MakePng = Any


def names(now: Any) -> list[str]:
    """What the chips show."""
    return [chip.picture.name for chip in now.app.chat.query(Chip)]


async def test_the_picker_fills_the_composer(
    play: Play, png: MakePng, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("cat.png", "dog.png"):
        (folder / name).write_bytes(png((40, 30 + len(name) + ord(name[0]))))
    monkeypatch.setattr(PickerScreen, "start", folder)
    async with play() as now:
        await now.pilot.press("ctrl+o")
        await now.until(lambda: "dog.png" in now.text())
        await now.pilot.press("space", "down", "space", "enter")
        await now.until(lambda: sorted(names(now)) == ["cat.png", "dog.png"])
        assert now.app.screen is now.app.chat


async def test_leaving_the_picker_changes_nothing(play: Play) -> None:
    async with play() as now:
        await now.pilot.press("ctrl+o")
        await now.until(lambda: isinstance(now.app.screen, PickerScreen))
        await now.pilot.press("escape")
        await now.until(lambda: now.app.screen is now.app.chat)
        assert names(now) == []


async def test_the_clipboard_s_picture_is_pasted(
    play: Play, png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipboard, "clipboard_image", lambda: png((40, 30)))
    async with play() as now:
        await now.pilot.press("ctrl+v")
        await now.until(lambda: len(names(now)) == 1)


async def test_why_nothing_is_pasted_is_reported(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    sentence = "Install wl-clipboard [/] first."

    def fail() -> None:
        raise ClipboardError(sentence)

    monkeypatch.setattr(clipboard, "clipboard_image", fail)
    monkeypatch.setattr(clipboard, "clipboard_text", fail)
    async with play() as now:
        await now.pilot.press("ctrl+v")
        await now.until(lambda: [one.message for one in now.app._notifications] == [sentence])


async def test_a_sent_picture_is_seen_and_enlarged(play: Play, png: MakePng, tmp_path: Path) -> None:
    photo = tmp_path / "cat.png"
    photo.write_bytes(png((40, 30)))
    async with play({"images": "halfblock"}, pictures=[photo], size=(100, 40)) as now:
        await now.until(lambda: names(now) == ["cat.png"])
        await now.talk("What is this?", "A cat.")
        await now.until(lambda: "▀▀▀" in now.text() and "40 × 30" in now.text())
        await now.pilot.click(PictureArea)
        await now.until(lambda: isinstance(now.app.screen, ZoomScreen))
        await now.pilot.press("escape")
        now.app.chat.transcript.views[0].focus()
        await now.pilot.press("enter")
        await now.until(lambda: isinstance(now.app.screen, ZoomScreen))
