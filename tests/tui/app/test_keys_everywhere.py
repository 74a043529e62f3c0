"""Keys mean the same wherever the person is: in lists, over open screens, and however they were remapped."""

from __future__ import annotations

from typing import Any

import pytest
from textual.widgets import Input

from minigpt4.core.storage.paths import config_home
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.screens.help import HelpScreen
from minigpt4.tui.screens.models import ModelsScreen
from minigpt4.tui.screens.palette import PaletteScreen
from minigpt4.tui.screens.picker import PickerScreen
from minigpt4.tui.screens.prompt import PromptScreen
from minigpt4.tui.screens.search import SearchScreen
from minigpt4.tui.screens.settings import SettingsScreen, ValueScreen
from minigpt4.tui.screens.themes import ThemesScreen
from minigpt4.tui.screens.zoom import ZoomScreen
from minigpt4.tui.widgets.option_rows import OptionRows

Play = Any

SCREENS = {
    "f1": HelpScreen,
    "f2": ModelsScreen,
    "f4": SettingsScreen,
    "ctrl+t": ThemesScreen,
    "ctrl+f": SearchScreen,
    "ctrl+p": PaletteScreen,
}


async def call(now: Any, key: str) -> None:
    await now.pilot.press(key)
    await now.until(lambda: isinstance(now.app.screen, SCREENS[key]))
    await now.pilot.pause()


async def test_every_screen_is_called_up_over_every_other(play: Play) -> None:
    async with play() as now:
        for key in ("f4", "ctrl+p", "f1", "f2", "ctrl+f", "ctrl+t"):
            await call(now, key)
        await now.until(lambda: not any(isinstance(one, PaletteScreen) for one in now.app.screen_stack))


async def test_a_screen_that_lies_below_comes_back_to_the_top_and_is_there_once(play: Play) -> None:
    async with play() as now:
        for key in ("f4", "f1", "f4"):
            await call(now, key)
        assert [type(one) for one in now.app.screen_stack[1:]] == [SettingsScreen]
        await now.pilot.press("escape")
        await now.until(lambda: now.app.screen is now.app.chat)


async def test_a_new_conversation_begins_over_any_screen(play: Play) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        await call(now, "f4")
        await call(now, "f1")
        await now.pilot.press("ctrl+n")
        await now.until(lambda: now.app.screen is now.app.chat and now.shown == [])
        assert now.app.focused is now.app.chat.composer


@pytest.mark.parametrize("key", SCREENS)
async def test_every_screen_can_be_left_for_good(play: Play, key: str) -> None:
    async with play() as now:
        await call(now, key)
        await now.pilot.press("ctrl+q")
        await now.until(lambda: now.engine.stopped)


async def test_leaving_works_in_the_screens_of_pictures_and_values(
    play: Play, picture: StoredPicture
) -> None:
    async with play() as now:
        for screen in (PickerScreen(), ZoomScreen([picture]), PromptScreen("", is_here=False)):
            now.app.push_screen(screen)
            await now.until(lambda screen=screen: now.app.screen is screen and screen.is_mounted)
        await now.pilot.press("ctrl+q")
        await now.until(lambda: now.engine.stopped)


async def test_a_theme_that_was_only_tried_is_taken_back_when_another_screen_is_called_for(
    play: Play,
) -> None:
    async with play() as now:
        await call(now, "f4")
        await call(now, "ctrl+t")
        rows = now.app.screen.query_one(OptionRows)
        rows.highlighted = rows.get_option_index("paper")
        await now.until(lambda: now.app.theme == "paper")
        await call(now, "f4")
        assert now.app.theme == "harbour"


async def test_keys_of_ones_own_win_over_those_of_the_text_area(play: Play) -> None:
    file = config_home() / "settings.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        '[keys]\nsearch = ["f6"]\nregenerate = ["f7"]\ncontinue_answer = ["ctrl+y"]\nclose = ["ctrl+k"]\n'
    )
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        await now.pilot.press(*"hm", "f7")
        await now.until(lambda: len(now.engine.asked) == 2)
        now.engine.answer("A dog.")
        await now.until(lambda: now.app.conversation.answering is None)
        await now.pilot.press("ctrl+y")
        await now.until(lambda: len(now.engine.asked) == 3)
        assert now.app.chat.composer.text == "hm"
        await now.pilot.press("f6")
        await now.until(lambda: isinstance(now.app.screen, SearchScreen))
        assert isinstance(now.app.focused, Input)
        await now.pilot.press("ctrl+k")
        await now.until(lambda: now.app.screen is now.app.chat)


async def test_the_page_keys_move_in_the_list_that_has_the_focus(play: Play, store: Store) -> None:
    for number in range(60):
        store.add_message(store.new_conversation().id, None, "user", f"question {number}")
    async with play(size=(110, 24)) as now:
        await now.talk("Tell me.", "word\n\n" * 60)
        place = now.app.chat.transcript.scroll_y
        await now.pilot.press("ctrl+b")
        await now.until(lambda: isinstance(now.app.focused, OptionRows))
        rows = now.app.focused
        before = rows.highlighted
        await now.pilot.press("pagedown", "pagedown")
        await now.until(lambda: rows.highlighted > before + 10)
        await now.pilot.press("pageup")
        await now.until(lambda: rows.highlighted <= before + 25)
        assert now.app.chat.transcript.scroll_y == place
        await now.pilot.press("escape", "pageup")
        await now.until(lambda: now.app.chat.transcript.scroll_y < place)


async def test_an_app_key_typed_in_a_value_leaves_the_value_as_it_was(play: Play) -> None:
    async with play() as now:
        await call(now, "f4")
        rows = now.app.screen.query_one(OptionRows)
        rows.highlighted = rows.get_option_index("max_tokens")
        await now.pilot.press("enter")
        await now.until(lambda: isinstance(now.app.screen, ValueScreen))
        await now.pilot.press("5", "f1")
        await now.until(lambda: isinstance(now.app.screen, HelpScreen))
        await now.pilot.press("escape")
        await now.until(lambda: isinstance(now.app.screen, ValueScreen))
        assert now.app.screen.query_one(Input).value == "5", "it waits below"
        assert now.app.settings.max_tokens is None
