"""By mouse: whatever looks as if it could be clicked does what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from textual.geometry import Offset

from minigpt4.core.pixels import open_picture
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.screens.help import HelpScreen
from minigpt4.tui.screens.picker import PickerScreen
from minigpt4.tui.screens.settings import SettingsScreen
from minigpt4.tui.screens.zoom import ZoomScreen
from minigpt4.tui.widgets.message import MessageView

Play = Any

CODE = "Two ways:\n\n```python\nnap()\n```\n\nor\n\n```\nsleep\n```\n"


def place_of(now: Any, text: str, nth: int = 0) -> Offset:
    """Where on the screen a text stands."""
    found = [
        Offset(line.index(text), row) for row, line in enumerate(now.text().splitlines()) if text in line
    ]
    assert len(found) > nth, f"{text!r} is not to be seen in\n{now.text()}"
    return found[nth]


async def click(now: Any, text: str, nth: int = 0) -> None:
    """Click the middle of a text."""
    await now.until(lambda: text in now.text())
    await now.pilot.click(offset=place_of(now, text, nth) + Offset(len(text) // 2, 0))


async def test_the_ways_to_begin(play: Play) -> None:
    async with play() as now:
        await click(now, "all keys")
        await now.until(lambda: isinstance(now.app.screen, HelpScreen))
        await click(now, "Esc closes")
        await now.until(lambda: now.app.screen is now.app.chat)
        await click(now, "choose pictures")
        await now.until(lambda: isinstance(now.app.screen, PickerScreen))
        await click(now, "Esc closes")
        await now.until(lambda: now.app.screen is now.app.chat)
        await click(now, "all commands")
        await now.until(lambda: "/pick" in now.text())


async def test_a_command_of_the_list_is_taken(play: Play) -> None:
    async with play() as now:
        await now.pilot.press("/")
        await click(now, "/pick")
        await now.until(lambda: isinstance(now.app.screen, PickerScreen))


async def test_a_path_of_the_list_is_taken(play: Play, tmp_path: Path) -> None:
    for name in ("one.png", "other's [x].png"):
        (tmp_path / name).write_bytes(b"")
    async with play(size=(200, 30)) as now:
        now.app.chat.composer.replace_text(f"/image {tmp_path}/o")
        await now.pilot.press("tab")
        await click(now, "other's [x].png")
        await now.until(lambda: now.app.chat.composer.text == f"/image {tmp_path}/other\\'s\\ [x].png")


async def test_a_conversation_and_what_can_be_done_with_it(play: Play, store: Store) -> None:
    for question in ("older", "newer"):
        store.add_message(store.new_conversation().id, None, "user", question)
    async with play({"sidebar": "open"}, size=(110, 30)) as now:
        await click(now, "older")
        await now.until(lambda: now.shown == ["older"])
        await click(now, "Conversations")
        await click(now, "F7 pin")
        await now.until(lambda: "Pinned" in now.text())
        await click(now, "Del delete")
        await now.until(lambda: len(store.conversations(10)) == 1)
        await click(now, "Ctrl+Z undo")
        await now.until(lambda: len(store.conversations(10)) == 2)
        await click(now, "New conversation")
        await now.until(lambda: now.shown == [])


async def test_a_message_its_variants_and_its_code(play: Play) -> None:
    async with play(size=(80, 40)) as now:
        await now.talk("What is this?", "A cat.")
        await now.pilot.press("ctrl+r")
        await now.until(lambda: len(now.engine.asked) == 2)
        now.engine.answer(CODE)
        await now.until(lambda: now.app.conversation.answering is None)
        await click(now, "‹")
        await now.until(lambda: now.shown[-1] == "A cat.")
        await click(now, "›")
        await now.until(lambda: now.shown[-1] == CODE)
        await click(now, "copy", 1)
        await now.until(lambda: now.app.clipboard.strip() == "sleep")
        await click(now, "copy", 0)
        await now.until(lambda: now.app.clipboard.strip() == "nap()")
        await click(now, "Two ways")
        await now.until(lambda: isinstance(now.app.focused, MessageView))


async def test_the_pictures_on_the_whole_screen(
    play: Play, picture: StoredPicture, store: Store, png: Any
) -> None:
    other = store.keep_picture(open_picture(png((30, 40))), "dog.png")
    async with play() as now:
        now.app.push_screen(ZoomScreen([picture, other]))
        await click(now, "goes on")
        await now.until(lambda: "2 of 2" in now.text())
        await click(now, "goes back")
        await now.until(lambda: "1 of 2" in now.text())
        await click(now, "what the model sees")
        await now.until(lambda: "shows the picture" in now.text())
        await click(now, "Esc closes")
        await now.until(lambda: now.app.screen is now.app.chat)


async def test_a_row_of_the_settings(play: Play) -> None:
    async with play() as now:
        await now.pilot.press("f4")
        await now.until(lambda: isinstance(now.app.screen, SettingsScreen))
        await click(now, "reduced motion")
        await now.until(lambda: not now.app.settings.reduced_motion)
