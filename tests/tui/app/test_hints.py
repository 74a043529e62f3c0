"""The keys that are shown are those that work where the focus is."""

from __future__ import annotations

from typing import Any

import pytest

from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.images import clipboard
from minigpt4.tui.screens.zoom import ZoomScreen
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.option_rows import OptionRows
from minigpt4.tui.widgets.status import StatusLine

Play = Any
Now = Any

CODE = "So:\n\n```python\nnap()\n```\n"


def status(now: Now) -> str:
    """The line under the composer."""
    return str(now.app.chat.query_one(StatusLine).render())


async def click(now: Now, words: str) -> None:
    """Click on words of the screen."""
    lines = now.text().splitlines()
    row = next(at for at, line in enumerate(lines) if words in line)
    await now.pilot.click(offset=(lines[row].index(words) + 1, row))


async def test_a_focused_answer_shows_the_keys_that_work_on_it(play: Play) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        assert "copy" not in status(now)
        heights = [view.size.height for view in now.app.chat.transcript.views]
        await now.pilot.press("alt+up")
        await now.until(
            lambda: "C copy · E edit · Ctrl+R again · Ctrl+G go on · Esc back".lower() in status(now).lower()
        )
        assert "zoom" not in status(now), "it has no picture"
        assert "variants" not in status(now) and "code" not in status(now)
        assert [view.size.height for view in now.app.chat.transcript.views] == heights
        await now.pilot.press("escape")
        await now.until(lambda: "copy" not in status(now))


async def test_a_message_with_pictures_code_or_variants_shows_their_keys(
    play: Play, picture: StoredPicture
) -> None:
    async with play(size=(120, 40)) as now:
        now.app.attach([picture])
        await now.talk("What is this?", CODE)
        await now.pilot.press("ctrl+r")
        await now.until(lambda: len(now.engine.asked) == 2)
        now.engine.answer(CODE)
        await now.until(lambda: now.app.conversation.answering is None)
        await now.pilot.press("alt+up")
        await now.until(lambda: "Left/Right variants" in status(now) and "y copy code" in status(now))
        await now.pilot.press("up")
        await now.until(lambda: "Enter zoom" in status(now))
        assert "code" not in status(now) and "go on" not in status(now)


async def test_during_an_answer_only_the_keys_that_work_then_are_shown(play: Play) -> None:
    async with play() as now:
        await now.ask("What is this?")
        now.engine.begin("A ")
        await now.pilot.press("alt+up")
        await now.until(lambda: "copy" in status(now))
        assert "again" not in status(now) and "go on" not in status(now)
        assert "Esc stops" in status(now) and "writing" in status(now)
        now.engine.answer("cat.")
        await now.until(lambda: "again" in status(now) and "Esc back" in status(now))


async def test_a_changed_key_is_shown_and_one_that_was_taken_away_is_not(play: Play) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        await now.pilot.press("alt+up")
        now.app.change_setting("keys.copy_message", ("w",))
        now.app.change_setting("keys.edit_message", ())
        await now.until(lambda: "w copy" in status(now) and "edit" not in status(now))


@pytest.mark.parametrize("columns", [12, 24, 40, 60, 80])
async def test_where_there_is_little_room_the_way_back_stays(play: Play, columns: int) -> None:
    async with play(size=(columns, 24)) as now:
        await now.talk("What is this?", "A cat.")
        await now.pilot.press("alt+up")
        await now.until(lambda: now.app.chat.status.keys)
        line = status(now)
        assert len(line) <= now.app.chat.status.size.width
        assert columns < 24 or line.endswith("Esc back")


async def test_the_keys_of_a_message_can_be_clicked(play: Play, picture: StoredPicture) -> None:
    async with play() as now:
        now.app.attach([picture])
        await now.talk("What is this?", "A cat.")
        await now.pilot.press("alt+up")
        await now.until(lambda: "c copy" in now.text())
        await click(now, "c copy")
        await now.until(lambda: now.app.clipboard == "A cat.")
        await now.pilot.press("up")
        await now.until(lambda: "Enter zoom" in now.text())
        await click(now, "Enter zoom")
        await now.until(lambda: isinstance(now.app.screen, ZoomScreen))
        await now.pilot.press("escape")
        await now.until(lambda: now.app.screen is now.app.chat)
        await click(now, "Esc back")
        await now.until(lambda: now.app.chat.composer.has_focus)


async def test_a_picture_that_waits_shows_its_keys(play: Play, picture: StoredPicture) -> None:
    async with play() as now:
        now.app.attach([picture])
        await now.until(lambda: now.app.chat.query(Chip))
        now.app.chat.query_one(Chip).focus()
        await now.until(lambda: "Enter zoom · Del take out · Esc back" in status(now))
        await click(now, "Del take out")
        await now.until(lambda: not now.app.chat.query(Chip) and "take out" not in status(now))


async def test_the_welcome_names_only_keys_that_work_where_the_focus_is(
    play: Play, png: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipboard, "clipboard_image", lambda: png((40, 30)))
    async with play(size=(120, 40)) as now:
        assert "all commands" in now.text()
        before = now.text().splitlines()
        await now.pilot.press("ctrl+l")
        await now.until(lambda: isinstance(now.app.focused, OptionRows))
        await now.until(lambda: "all commands" not in now.text())
        row = next(at for at, line in enumerate(before) if "Ctrl+V" in line)
        assert "Ctrl+V" in now.text().splitlines()[row], "the other lines stay where they are"
        await now.pilot.press("ctrl+v")
        await now.until(lambda: now.app.chat.footer.pictures)
        assert now.app.focused is now.app.chat.composer
        assert "/" not in now.app.chat.composer.text


async def test_escape_is_said_to_cancel_only_while_it_would(play: Play) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        await now.pilot.press("ctrl+up")
        await now.until(
            lambda: "Editing your question; the version before is kept. Esc cancels." in now.text()
        )
        await now.pilot.press("alt+up")
        await now.until(lambda: "Editing your question" in now.text() and "cancels" not in now.text())
        await now.pilot.press("escape")
        await now.until(lambda: "Esc cancels" in now.text())
        now.app.change_setting("keys.stop", ("f10",))
        await now.until(lambda: "F10 cancels" in now.text())
        await now.pilot.press("f10")
        await now.until(lambda: "Editing" not in now.text())


async def test_a_question_that_waits_names_a_key_only_while_it_works(
    play: Play, picture: StoredPicture
) -> None:
    async with play(size=(120, 40)) as now:
        await now.ask("One?")
        now.engine.begin("Beginning")
        await now.pilot.press(*"Two?", "enter")
        await now.until(lambda: "Esc takes it back" in now.text())
        await now.pilot.press("ctrl+l")
        await now.until(lambda: "take it back" in now.text() and "Esc takes" not in now.text())
        await click(now, "take it back")
        await now.until(lambda: now.app.chat.composer.text == "Two?")
