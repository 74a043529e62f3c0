"""In an empty conversation the photo that is going to be asked about stands large."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from PIL import Image
from textual.geometry import Region, Size

from minigpt4.core.pixels import open_picture
from minigpt4.tui.app.app import MiniGPT4App
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.images import attachments
from minigpt4.tui.images.attachments import Attachment
from minigpt4.tui.images.early_preview import EarlyPreview
from minigpt4.tui.screens import chat
from minigpt4.tui.screens.zoom import ZoomScreen
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.picture import LargePhoto
from minigpt4.tui.widgets.welcome import Welcome

Play = Any
Now = Any
Png = Callable[[tuple[int, int]], bytes]

MOTTO = "Talk about your own pictures."


@pytest.fixture
def photos(store: Store, png: Png) -> tuple[StoredPicture, StoredPicture]:
    """A wide picture and a high one."""
    wide, high = (open_picture(png(size)) for size in ((600, 400), (300, 600)))
    return store.keep_picture(wide, "wide.png"), store.keep_picture(high, "high.png")


def is_drawn(now: Now) -> bool:
    for photo in now.app.chat.query_one(Welcome).query(LargePhoto):
        lines = photo._drawing.cells if photo._drawing is not None else []
        return 0 < len(lines) == photo.size.height and lines[0].cell_length == photo.size.width
    return False


def photo(now: Now) -> LargePhoto:
    found = now.app.chat.query_one(LargePhoto)
    assert isinstance(found, LargePhoto)
    return found


async def test_the_photo_takes_the_room_of_the_welcome_until_it_is_asked_about(
    play: Play, tmp_path: Path, png: Png
) -> None:
    (tmp_path / "cat.png").write_bytes(png((600, 400)))
    async with play({"images": "quadrant"}, pictures=[tmp_path / "cat.png"], size=(120, 40)) as now:
        await now.until(lambda: is_drawn(now))
        assert photo(now).size.width > 60 and photo(now).size.height > 20
        assert MOTTO not in now.text()
        lines = [line.strip() for line in now.text().splitlines()]
        place = lines.index("Ask about it")
        assert lines[place - 1] == "cat.png   600 × 400"
        await now.talk("What is this?", "A cat.")
        assert not now.app.chat.query_one(Welcome).display
        assert photo(now).picture is None
        now.app.new_conversation()
        await now.until(lambda: MOTTO in now.text())
        assert "Ask about it" not in now.text()


async def test_the_first_photo_is_shown_or_that_of_the_focused_chip(play: Play, photos: Any) -> None:
    async with play({"images": "halfblock"}) as now:
        now.app.attach(photos)
        await now.until(lambda: is_drawn(now) and len(now.app.screen.query(Chip)) == 2)
        assert photo(now).picture == photos[0]
        now.app.screen.query(Chip).last().focus()
        await now.until(lambda: photo(now).picture == photos[1])
        await now.pilot.press("escape")
        await now.until(lambda: now.app.focused is now.app.chat.composer)
        assert photo(now).picture == photos[1], "it was chosen"
        now.app.screen.query(Chip).last().action_remove_picture()
        await now.until(lambda: photo(now).picture == photos[0])
        now.app.screen.query(Chip).first().action_remove_picture()
        await now.until(lambda: MOTTO in now.text())


async def test_the_photo_is_enlarged_by_a_click_or_a_key(play: Play, photos: Any) -> None:
    async with play({"images": "halfblock"}) as now:
        now.app.attach(photos)
        await now.until(lambda: is_drawn(now))
        photo(now).focus()
        await now.until(lambda: now.app.focused is photo(now))
        await now.pilot.press("enter")
        await now.until(lambda: isinstance(now.app.screen, ZoomScreen))
        await now.pilot.press("escape")
        await now.until(lambda: now.app.screen is now.app.chat)
        await now.pilot.press("down")
        await now.until(lambda: now.app.focused is now.app.chat.composer)
        await now.pilot.click(LargePhoto)
        await now.until(lambda: isinstance(now.app.screen, ZoomScreen))


async def test_a_picture_that_cannot_be_opened_leaves_the_ways_to_start(play: Play, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"nothing of a picture")
    async with play({"images": "halfblock"}, pictures=[tmp_path / "cat.png"]) as now:
        await now.until(lambda: any(chip.picture.problem for chip in now.app.screen.query(Chip)))
        await now.until(lambda: MOTTO in now.text())


async def test_after_resizing_and_back_the_photo_has_its_former_size(play: Play, photos: Any) -> None:
    async with play({"images": "halfblock", "sidebar": "auto"}, size=(120, 40)) as now:
        now.app.attach(photos)
        await now.until(lambda: is_drawn(now))
        before = photo(now).size
        for size in ((40, 12), (1, 1), (120, 12)):
            await now.pilot.resize_terminal(*size)
            await now.pilot.pause()
        assert photo(now).size.height < before.height
        await now.pilot.resize_terminal(120, 40)
        await now.until(lambda: is_drawn(now) and photo(now).size == Size(*before))


@pytest.fixture
def early(tmp_path: Path) -> Iterator[Attachment]:
    """A red photo as an argument, with its early preview."""
    Image.new("RGB", (600, 400), (200, 30, 20)).save(tmp_path / "red.png")
    preview = EarlyPreview(tmp_path / "red.png")
    yield Attachment(tmp_path / "red.png", "red.png", preview, preview.was_shown)
    preview.close()


async def test_the_early_preview_is_shown_until_the_photo_is_open(
    play: Play, early: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_open = Event()
    read = Attachment._read

    def read_later(self: Attachment) -> Any:
        may_open.wait(60)
        return read(self)

    monkeypatch.setattr(Attachment, "_read", read_later)
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert early.early is not None
    async with play({"images": "quadrant"}, pictures=[early], size=(120, 40)) as now:
        await now.until(early.early.was_shown.is_set)
        drawing = photo(now)._drawing
        assert drawing is not None and drawing.pixels is not None and not drawing.cells
        assert len(drawing.pixels) == photo(now).size.height > 20
        assert "48;2;200;30;20m" in drawing.pixels[0].render(now.app.console)
        lines = [line.strip() for line in now.text().splitlines()]
        assert "red.png   opening …" in lines
        before = photo(now).size
        await now.pilot.resize_terminal(100, 30)
        await now.until(lambda: photo(now).size != before and photo(now)._drawing is not drawing)
        may_open.set()
        await now.until(lambda: is_drawn(now))
        assert photo(now)._drawing is not None and photo(now)._drawing.pixels is None
        assert photo(now).picture is not None
        assert "red.png   600 × 400" in [line.strip() for line in now.text().splitlines()]


async def test_the_early_preview_comes_before_the_list_and_is_not_moved_by_it(
    play: Play, early: Attachment, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine the photo may be late; neither the list nor the photo itself may come before it here.
    monkeypatch.setattr(chat, "PHOTO_FIRST_S", 60)
    monkeypatch.setattr(attachments, "SHOWN_S", 60)
    monkeypatch.setenv("COLORTERM", "truecolor")
    assert early.early is not None
    was_shown = early.early.was_shown
    before: list[tuple[bool, Region]] = []
    begin = MiniGPT4App._begin

    async def noting(app: MiniGPT4App) -> None:
        before.append((was_shown.is_set(), app.chat.query_one(LargePhoto).region))
        await begin(app)

    monkeypatch.setattr(MiniGPT4App, "_begin", noting)
    async with play({"images": "quadrant", "sidebar": "open"}, pictures=[early], size=(120, 40)) as now:
        await now.until(lambda: is_drawn(now) and now.app.chat.query("#sidebar"))
        assert before == [(True, photo(now).region)]
        assert not now.app.chat.query("#sidebar-room")


@pytest.mark.parametrize("case", ["no color", "ended", "no picture"])
async def test_without_an_early_preview_the_photo_is_opened_all_the_same(
    play: Play, early: Attachment, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    assert early.early is not None and isinstance(early.source, Path)
    if case == "no color":
        monkeypatch.setenv("NO_COLOR", "1")
    elif case == "ended":
        early.early.wait()
        early.early._child.kill()
        early.early._child.wait()
    else:
        early.source.write_bytes(b"nothing of a picture")
        early.early.close()
        early = replace(early, early=EarlyPreview(early.source))
    async with play({"images": "quadrant"}, pictures=[early], size=(120, 40)) as now:
        if case == "no picture":
            await now.until(lambda: any(chip.picture.problem for chip in now.app.screen.query(Chip)))
            await now.until(lambda: MOTTO in now.text())
        else:
            await now.until(lambda: is_drawn(now))
            assert "cannot be shown" not in now.text()


async def test_an_early_preview_is_left_when_the_picture_is_removed(play: Play, early: Attachment) -> None:
    assert early.early is not None
    early = replace(early, opens_after=Event())
    async with play({"images": "quadrant"}, pictures=[early], size=(120, 40)) as now:
        await now.until(lambda: len(now.app.screen.query(Chip)) == 1)
        now.app.screen.query(Chip).first().action_remove_picture()
        await now.until(lambda: MOTTO in now.text())
        assert early.early._child.poll() is not None
