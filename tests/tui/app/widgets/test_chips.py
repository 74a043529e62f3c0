"""The chips above the composer: enlarged, removed, marked by their state, counted where they do not fit."""

from __future__ import annotations

from typing import Any

import pytest
from textual.app import ComposeResult
from textual.screen import Screen
from textual.widgets import Static

from minigpt4.core.pixels import open_picture
from minigpt4.tui.conversation.draft import DraftPicture
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.widgets.chips import Chip, ChipRow, MoreChips

Play = Any
Now = Any
"""What `play` gives: the app, its pilot, and ways to look at it."""


class Desk(Screen[None]):
    """A row of chips over something that can have the focus."""

    def __init__(self, pictures: list[DraftPicture]) -> None:
        super().__init__()
        self.pictures = pictures
        self.zoomed: list[str] = []

    def compose(self) -> ComposeResult:
        yield ChipRow(id="chips")
        yield Composer("", id="composer")

    def on_mount(self) -> None:
        self.query_one(ChipRow).show(self.pictures)

    def on_chip_removed(self, event: Chip.Removed) -> None:
        self.pictures.remove(event.picture)
        self.query_one(ChipRow).show(self.pictures)

    def on_chip_zoomed(self, event: Chip.Zoomed) -> None:
        self.zoomed.append(event.picture.name)


class Composer(Static, can_focus=True):
    """Where the focus goes back to."""


@pytest.fixture
def several(store: Store, picture: StoredPicture) -> list[DraftPicture]:
    names = [f"{name}.png" for name in ("one", "two", "three")]
    return [DraftPicture(name, store.keep_picture(open_picture(picture.path), name)) for name in names]


async def at_the_desk(now: Now, several: list[DraftPicture]) -> tuple[Desk, ChipRow]:
    desk = Desk(several)
    await now.app.push_screen(desk)
    await now.until(lambda: len(desk.query(Chip)) == 3)
    return desk, desk.query_one(ChipRow)


async def test_chips_are_removed_and_enlarged_by_keyboard(play: Play, several: list[DraftPicture]) -> None:
    async with play() as now:
        desk, row = await at_the_desk(now, several)
        row.chips[0].focus()
        await now.pilot.press("right", "enter")
        await now.until(lambda: desk.zoomed == ["two.png"])
        await now.pilot.press("delete")
        await now.until(lambda: len(row.chips) == 2)
        assert [chip.picture.name for chip in row.chips] == ["one.png", "three.png"]
        assert row.chips[1].has_focus
        await now.pilot.press("left", "backspace")
        await now.until(lambda: len(row.chips) == 1)
        await now.pilot.press("down")
        await now.until(lambda: desk.query_one("#composer").has_focus)


async def test_the_row_vanishes_with_its_last_chip_and_the_composer_has_the_focus(
    play: Play, several: list[DraftPicture]
) -> None:
    async with play() as now:
        desk, row = await at_the_desk(now, several)
        row.chips[2].focus()
        for left in (2, 1, 0):
            await now.pilot.press("delete")
            await now.until(lambda left=left: len(row.chips) == left)
        await now.until(lambda: desk.query_one("#composer").has_focus)
        assert not row.display


async def test_a_click_on_the_cross_removes_and_elsewhere_enlarges(
    play: Play, several: list[DraftPicture]
) -> None:
    async with play() as now:
        desk, row = await at_the_desk(now, several)
        chip = row.chips[1]
        await now.pilot.click(chip, offset=(3, 0))
        await now.until(lambda: desk.zoomed == ["two.png"])
        await now.pilot.click(chip, offset=(chip.size.width, 0))
        await now.until(lambda: len(row.chips) == 2)
        assert [chip.picture.name for chip in row.chips] == ["one.png", "three.png"]


async def test_showing_the_same_again_changes_nothing(play: Play, several: list[DraftPicture]) -> None:
    async with play() as now:
        _, row = await at_the_desk(now, several)
        before = row.chips
        row.show(several)
        await now.pilot.pause()
        assert row.chips == before


async def test_chips_that_do_not_fit_are_counted_and_reached_by_keyboard(
    play: Play, picture: StoredPicture
) -> None:
    async with play(size=(80, 24)) as now:
        app = now.app
        row = app.chat.query_one(ChipRow)
        more = row.query_one(MoreChips)
        app.attach([picture] * 2)
        await now.until(lambda: len(row.chips) == 2)
        assert not more.display
        app.attach([picture] * 3)
        await now.until(lambda: more.display and "+2" in now.text())
        app.chat.composer.focus()
        await now.pilot.press("shift+tab")
        await now.until(lambda: row.chips[-1].has_focus and row._view.scroll_x > 0)
        assert app.screen.region.contains_region(row.chips[-1].region)
        await now.pilot.press(*["left"] * 4)
        await now.until(lambda: row.chips[0].has_focus and row._view.scroll_x == 0)
        await now.pilot.press("end")
        await now.until(lambda: row.chips[-1].has_focus)
        await now.pilot.press("home", "delete", "delete")
        await now.until(lambda: len(row.chips) == 3 and not more.display)


async def test_a_click_on_the_number_goes_to_the_chips_that_do_not_fit(
    play: Play, picture: StoredPicture
) -> None:
    async with play(size=(60, 24)) as now:
        row = now.app.chat.query_one(ChipRow)
        now.app.attach([picture] * 4)
        await now.until(lambda: "+2" in now.text())
        await now.pilot.click(MoreChips)
        await now.until(lambda: row.chips[2].has_focus)
        await now.until(lambda: row.chips[0].region.x < 0 or row._view.scroll_x > 0)
        await now.pilot.resize_terminal(140, 24)
        await now.until(lambda: not row.query_one(MoreChips).display)


async def test_a_chip_shows_whether_its_picture_is_open(play: Play, picture: StoredPicture) -> None:
    async with play() as now:
        draft, footer = now.app.chat.draft, now.app.chat.footer
        one = draft.add("slow [/].png")
        footer.show_draft()
        await now.until(lambda: "▢ slow [/].png  opening" in now.text())
        one.stored = picture
        footer.show_draft()
        await now.until(lambda: "▣ slow [/].png  40 × 30" in now.text())
        two = draft.add("broken.png")
        two.problem = "'broken.png' is not a picture."
        footer.show_draft()
        await now.until(lambda: "broken.png  cannot be opened" in now.text())
        now.app.chat.query(Chip).last().focus()
        await now.pilot.press("enter")
        await now.until(lambda: [note.message for note in now.app._notifications] == [two.problem])
