"""A picture is seen in its message, is enlarged, and is missed without harm."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image, ImageFile
from textual.app import ComposeResult
from textual.geometry import Region
from textual.screen import ModalScreen, Screen

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.engine import Engine
from minigpt4.core.pixels import Picture, open_picture, to_pixels
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.images import terminal_protocol
from minigpt4.tui.images.terminal_protocol import TerminalFeatures
from minigpt4.tui.screens.zoom import ZoomScreen
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.picture import PictureArea
from minigpt4.tui.widgets.picture_row import Thumbnail

Play = Any
Now = Any
"""What `play` gives: the app, its pilot, and ways to look at it."""


class Wall(Screen[None]):
    """Thumbnails, and nothing else."""

    def __init__(self, *pictures: StoredPicture) -> None:
        super().__init__()
        self.pictures = pictures
        self.zoomed: list[StoredPicture] = []

    def compose(self) -> ComposeResult:
        for picture in self.pictures:
            yield Thumbnail(picture)

    def on_thumbnail_zoomed(self, event: Thumbnail.Zoomed) -> None:
        self.zoomed.append(event.picture)


def area(now: Now) -> PictureArea:
    found = now.app.screen.query_one(PictureArea)
    assert isinstance(found, PictureArea)
    return found


def is_drawn(now: Now) -> bool:
    drawing = area(now)._drawing
    return drawing is not None and len(drawing.cells) == area(now).size.height


async def show(now: Now, *pictures: StoredPicture) -> Wall:
    wall = Wall(*pictures)
    await now.app.push_screen(wall)
    await now.until(lambda: is_drawn(now))
    return wall


async def test_a_thumbnail_keeps_the_picture_s_shape_and_tells_name_and_size(
    play: Play, picture: StoredPicture
) -> None:
    async with play({"images": "halfblock"}) as now:
        await show(now, picture)
        # 40 x 30 pixels, at most 24 columns and a third of 24 rows.
        assert area(now).size == (21, 8)
        assert now.text().count("▀") == 21 * 8
        assert "cat.png" in now.text()
        assert "40 × 30" in now.text()


async def test_a_click_enlarges_it(play: Play, picture: StoredPicture) -> None:
    async with play({"images": "halfblock"}) as now:
        wall = await show(now, picture)
        await now.pilot.click(PictureArea)
        await now.until(lambda: wall.zoomed == [picture])


async def test_without_colour_it_is_drawn_in_dots(
    play: Play, picture: StoredPicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with play({"images": "halfblock"}) as now:
        await show(now, picture)
        assert "▀" not in now.text()


async def test_with_images_off_its_name_stands_for_it(play: Play, picture: StoredPicture) -> None:
    async with play({"images": "off"}) as now:
        await now.app.push_screen(Wall(picture))
        await now.until(lambda: "▣ cat.png" in now.text())
        assert area(now).size.area == 0
        now.app.change_setting("images", "halfblock")
        await now.until(lambda: "▀" in now.text())


async def test_a_file_that_is_gone_leaves_a_card(play: Play, picture: StoredPicture) -> None:
    picture.path.unlink()
    async with play({"images": "halfblock"}) as now:
        await now.app.push_screen(Wall(picture))
        await now.until(lambda: "its file is gone" in now.text())
        assert "cat.png" in now.text()


async def test_a_damaged_file_leaves_a_card(play: Play, picture: StoredPicture) -> None:
    picture.path.write_bytes(b"nothing of a picture")
    async with play({"images": "halfblock"}) as now:
        await now.app.push_screen(Wall(picture))
        await now.until(lambda: "cannot be opened" in now.text())


async def test_names_are_sanitized(play: Play, store: Store, picture: StoredPicture) -> None:
    odd = store.keep_picture(open_picture(picture.path), "[/]\x1b[2J\u202eevil [red]")
    async with play({"images": "halfblock"}) as now:
        await show(now, odd)
        assert "[/]␛[2Jevil [red]" in now.text()


@pytest.mark.parametrize("size", [(1, 1), (2, 24), (20, 5), (300, 3)])
async def test_no_terminal_is_too_small(play: Play, picture: StoredPicture, size: tuple[int, int]) -> None:
    async with play({"images": "halfblock"}, size=size) as now:
        await now.app.push_screen(Wall(picture))
        await now.pilot.pause()
        await now.app.push_screen(ZoomScreen([picture]))
        await now.pilot.pause()
        await now.pilot.resize_terminal(80, 24)
        await now.until(lambda: is_drawn(now))


async def test_sixels_are_drawn_where_the_whole_width_is_seen(
    play: Play, picture: StoredPicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("TMUX", "KITTY_WINDOW_ID", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(terminal_protocol._Reported, "features", TerminalFeatures(sixel=True))
    async with play({"images": "auto"}) as now:
        await show(now, picture)
        shown = area(now)
        whole = shown.render_lines(Region(0, 2, shown.size.width, 3))
        assert len(whole) == 3
        assert all("\x1bP" in strip.text for strip in whole)
        part = shown.render_lines(Region(1, 0, shown.size.width - 1, 1))
        assert "▀" in part[0].text
        await now.app.push_screen(ModalScreen())
        covered = shown.render_lines(Region(0, 0, shown.size.width, 1))
        assert "▀" in covered[0].text


async def test_kitty_is_asked_to_forget_a_picture_that_is_no_longer_shown(
    play: Play, picture: StoredPicture
) -> None:
    async with play({"images": "kitty"}) as now:
        written: list[str] = []
        now.app._driver.write = written.append
        await show(now, picture)
        assert "\U0010eeee" in now.text()
        assert [text for text in written if "a=p,U=1" in text]
        del written[:]
        now.app.pop_screen()
        await now.until(lambda: any("a=d,d=I" in text for text in written))


async def test_where_the_encoders_fail_half_blocks_are_drawn(
    play: Play, picture: StoredPicture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "textual_image._sixel", None)
    async with play({"images": "sixel"}) as now:
        await show(now, picture)
        assert "▀" in now.text()


async def test_an_attached_picture_is_read_hashed_and_decoded_once(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.jpg"
    Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(photo)
    length = photo.stat().st_size
    read: list[Path] = []
    hashed: list[int] = []
    decoded: list[ImageFile.ImageFile] = []
    really_open, really_hash, really_load = Path.open, hashlib.sha256, ImageFile.ImageFile.load

    def opening(path: Path, *arguments: Any, **more: Any) -> Any:
        read.append(path)
        return really_open(path, *arguments, **more)

    def hashing(data: bytes = b"") -> Any:
        hashed.append(len(data))
        return really_hash(data)

    def loading(file: ImageFile.ImageFile) -> Any:
        if not any(file is one for one in decoded):
            decoded.append(file)
        return really_load(file)

    monkeypatch.setattr(Path, "open", opening)
    monkeypatch.setattr(hashlib, "sha256", hashing)
    monkeypatch.setattr(ImageFile.ImageFile, "load", loading)
    async with play({"images": "halfblock"}) as now:
        now.app.attach([photo])
        await now.until(lambda: now.app.screen.query(Chip))
        await now.ask("What is this?")
        await now.until(lambda: now.app.screen.query(Thumbnail) and "▀" in now.text())
        ((_, messages, *_),) = now.engine.asked
        stored = messages[-1].pictures[0]
        assert (read.count(photo), read.count(stored), hashed.count(length), len(decoded)) == (1, 0, 1, 1)
        # The engine's process: one read, one digest, and the pixels that the app has decoded.
        as_told: list[Image.Image] = []
        engine(as_told, "handed over").look(stored)
        assert (read.count(stored), hashed.count(length), len(decoded)) == (1, 2, 1)
        assert as_told[0].size == (300, 300)
        directly: list[Image.Image] = []
        engine(directly, "decoded").look(photo)
        squares = [to_pixels(image, 300, (0, 0, 0), (1, 1, 1)) for image in (*as_told, *directly)]
        assert squares[0].tobytes() == squares[1].tobytes()
        assert len(decoded) == 2, "the square was used up"


def engine(images: list[Image.Image], key: str) -> Engine:
    """An engine of mini's whose encoder only notes what it is to encode."""
    bundle = load_bundle("mini")
    shape = bundle.projection

    def encode(picture: Picture) -> Any:
        images.append(picture.image)
        return np.zeros((shape.image_tokens, shape.outputs), np.float32)

    language = SimpleNamespace(width=shape.outputs)
    return Engine(bundle, cast("Any", language), lambda: encode, key)
