"""Pictures are chosen from folders: by the arrows, by typing, by mouse, several at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual import events

from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.screens.picker import PickerScreen

Play = Any
Now = Any
"""What `play` gives: the app, its pilot, and ways to look at it."""


@pytest.fixture
def photos(tmp_path: Path, picture: StoredPicture) -> Path:
    folder = tmp_path / "photos"
    for name in ("apple.png", "bear.png", "trip/camel.png", "trip/far/dune.png", "letter.txt"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.path.read_bytes())
    (folder / "empty").mkdir()
    return folder


class Picking:
    """A picker on the screen, and what it gave."""

    def __init__(self, now: Now) -> None:
        self.now = now
        self.given: list[Path] | None = None

    async def begin(self, folder: Path) -> None:
        await self.now.app.push_screen(PickerScreen(folder), self._give)

    def _give(self, chosen: list[Path] | None) -> None:
        self.given = chosen

    @property
    def text(self) -> str:
        return str(self.now.text())

    @property
    def highlighted(self) -> str:
        screen = self.now.app.screen
        assert isinstance(screen, PickerScreen)
        node = screen.tree_of_pictures.cursor_node
        return node.data.label if node is not None and node.data is not None else ""

    async def until(self, holds: Callable[[], Any]) -> None:
        await self.now.until(holds)


async def opened(now: Now, folder: Path) -> Picking:
    picking = Picking(now)
    await picking.begin(folder)
    await picking.until(lambda: picking.highlighted == "apple.png")
    return picking


async def test_the_first_picture_is_ready_for_enter_and_is_seen(play: Play, photos: Path) -> None:
    async with play({"images": "halfblock"}) as now:
        picking = await opened(now, photos)
        await picking.until(lambda: "40 × 30" in picking.text and "▀▀▀" in picking.text)
        assert "letter.txt" not in picking.text
        await now.pilot.press("enter")
        await picking.until(lambda: picking.given is not None)
        assert picking.given == [photos / "apple.png"]


async def test_space_chooses_several_in_the_order_chosen(play: Play, photos: Path) -> None:
    async with play() as now:
        picking = await opened(now, photos)
        await now.pilot.press("down", "space", "up", "space")
        await picking.until(lambda: "2 chosen: bear.png, apple.png" in picking.text)
        await now.pilot.press("space")
        await picking.until(lambda: "1 chosen: bear.png" in picking.text)
        await now.pilot.press("space", "enter")
        await picking.until(lambda: picking.given is not None)
        assert picking.given == [photos / "bear.png", photos / "apple.png"]


async def test_folders_are_opened_and_left(play: Play, photos: Path) -> None:
    async with play() as now:
        picking = await opened(now, photos)
        await now.pilot.press("up")
        assert picking.highlighted == "trip"
        await now.pilot.press("right")
        await picking.until(lambda: "camel.png" in picking.text)
        await now.pilot.press("right", "down")
        assert picking.highlighted == "camel.png"
        await now.pilot.press("left", "left")
        await picking.until(lambda: "camel.png" not in picking.text)
        await now.pilot.press("up", "enter")
        await picking.until(lambda: "no pictures here" in picking.text)
        await now.pilot.press("backspace")
        await picking.until(lambda: "photos" in picking.text and "apple.png" not in picking.text)


async def test_typing_finds_pictures_in_all_folders_below(play: Play, photos: Path) -> None:
    async with play({"images": "halfblock"}) as now:
        picking = await opened(now, photos)
        await now.pilot.press(*"dun")
        await picking.until(lambda: picking.highlighted == "trip/far/dune.png")
        await picking.until(lambda: "dune.png\n" in picking.text.replace(" ", "") or "▀" in picking.text)
        await now.pilot.press("x")
        await picking.until(lambda: "no picture is called that" in picking.text)
        await now.pilot.press("backspace")
        await picking.until(lambda: picking.highlighted == "trip/far/dune.png")
        await now.pilot.press("escape")
        await picking.until(lambda: "bear.png" in picking.text)
        assert picking.given is None
        await now.pilot.press("escape")
        await picking.until(lambda: picking.given == [])


async def test_what_is_chosen_stays_chosen_in_other_folders(play: Play, photos: Path) -> None:
    async with play() as now:
        picking = await opened(now, photos)
        await now.pilot.press("space", *"camel")
        await picking.until(lambda: picking.highlighted == "trip/camel.png")
        await now.pilot.press("space", "enter")
        await picking.until(lambda: picking.given is not None)
        assert picking.given == [photos / "apple.png", photos / "trip" / "camel.png"]


async def test_a_path_is_typed_and_completed(play: Play, photos: Path) -> None:
    async with play() as now:
        picking = await opened(now, photos)
        await now.pilot.press("t", "r", "tab")
        await picking.until(lambda: picking.highlighted == "camel.png")
        await now.pilot.press("full_stop", "full_stop", "slash")
        await picking.until(lambda: picking.highlighted == "apple.png")
        await now.pilot.press("slash")
        await picking.until(lambda: "Choose pictures   /  " in picking.text)


async def test_a_dropped_file_is_the_answer(play: Play, photos: Path) -> None:
    async with play() as now:
        picking = await opened(now, photos)
        now.app.post_message(events.Paste(f"'{photos / 'trip' / 'camel.png'}' "))
        await picking.until(lambda: picking.given == [photos / "trip" / "camel.png"])


async def test_the_mouse_marks_and_takes(play: Play, photos: Path) -> None:
    async with play() as now:
        picking = await opened(now, photos)
        rows = [number for number, line in enumerate(picking.text.splitlines()) if "bear.png" in line]
        column = picking.text.splitlines()[rows[0]].index("bear.png")
        await now.pilot.click(offset=(column, rows[0]))
        assert picking.highlighted == "bear.png"
        await now.pilot.click(offset=(column - 2, rows[0]))
        await picking.until(lambda: "1 chosen: bear.png" in picking.text)
        await now.pilot.click(offset=(column + 1, rows[0]), times=2)
        await picking.until(lambda: picking.given == [photos / "bear.png"])


async def test_a_folder_that_cannot_be_read_says_so(play: Play, photos: Path) -> None:
    async with play() as now:
        picking = Picking(now)
        await picking.begin(photos / "gone")
        await picking.until(lambda: "no such file or directory" in picking.text)
        await now.pilot.press("escape")
        await picking.until(lambda: picking.given == [])


async def test_odd_names_are_sanitized(play: Play, photos: Path) -> None:
    (photos / "aa [red] \x1b[2J \u202e.png").write_bytes(b"")
    (photos / "[bold]").mkdir()
    async with play(size=(120, 40)) as now:
        picking = Picking(now)
        await picking.begin(photos)
        await picking.until(lambda: "aa [red] ␛[2J .png" in picking.text and "[bold]" in picking.text)
        await picking.until(lambda: "cannot be opened" in picking.text)


@pytest.mark.parametrize("size", [(20, 5), (40, 10)])
async def test_small_terminals_have_the_tree_alone(play: Play, photos: Path, size: tuple[int, int]) -> None:
    async with play({"images": "halfblock"}, size=size) as now:
        picking = await opened(now, photos)
        await now.pilot.press("enter")
        await picking.until(lambda: picking.given == [photos / "apple.png"])


async def test_the_preview_of_a_large_picture_tells_its_own_size(
    play: Play, tmp_path: Path, png: Callable[[tuple[int, int]], bytes]
) -> None:
    (tmp_path / "large.png").write_bytes(png((1600, 1200)))
    async with play({"images": "halfblock"}, size=(120, 40)) as now:
        await now.app.push_screen(PickerScreen(tmp_path))
        await now.until(lambda: "1600 × 1200" in now.text())


async def test_the_cursor_stays_in_view_when_the_window_becomes_lower(
    play: Play, tmp_path: Path, picture: StoredPicture
) -> None:
    for number in range(40):
        (tmp_path / f"photo {number:02}.png").write_bytes(picture.path.read_bytes())
    async with play(size=(120, 40)) as now:
        await Picking(now).begin(tmp_path)
        await now.until(lambda: "photo 00.png" in now.text())
        await now.pilot.press("end")
        await now.until(lambda: "photo 39.png" in now.text())
        await now.pilot.resize_terminal(80, 24)
        await now.until(lambda: "photo 39.png" in now.app.screen.query_one("#about").visual.plain)
        tree = now.app.screen.tree_of_pictures
        await now.until(lambda: tree.scroll_y <= tree.cursor_line < tree.scroll_y + tree.size.height)
