"""Every action is reached by its keys in its context, and every slash command works."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest

from minigpt4.tui.app.app import MiniGPT4App
from minigpt4.tui.conversation.slash_commands import COMMANDS
from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.screens.chat import ChatScreen
from minigpt4.tui.screens.dialog import Dialog
from minigpt4.tui.screens.export import ExportScreen
from minigpt4.tui.screens.help import HelpScreen
from minigpt4.tui.screens.models import ModelsScreen
from minigpt4.tui.screens.picker import PickerScreen
from minigpt4.tui.screens.prompt import PromptScreen
from minigpt4.tui.screens.search import SearchScreen
from minigpt4.tui.screens.settings import SettingsScreen
from minigpt4.tui.screens.themes import ThemesScreen
from minigpt4.tui.screens.zoom import ZoomScreen
from minigpt4.tui.settings.keys import ACTIONS, SCOPES, Action
from minigpt4.tui.sidebar.sidebar import Sidebar
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.composer import Composer
from minigpt4.tui.widgets.message import MessageView
from minigpt4.tui.widgets.picture_tree import PictureTree

Play = Any

OWNERS: dict[str, type] = {
    "app": MiniGPT4App,
    "chat": ChatScreen,
    "composer": Composer,
    "chips": Chip,
    "message": MessageView,
    "picture": MessageView,
    "sidebar": Sidebar,
    "zoom": ZoomScreen,
    "picker": PictureTree,
    "editor": PromptScreen,
    "dialog": Dialog,
}


async def go_to(now: Any, scope: str, picture: StoredPicture) -> None:
    """To a place that the scope means, where all its actions are possible."""
    app = now.app
    match scope:
        case "message":
            await now.talk("What is this?", "A cat.")
            app.conversation.regenerate()
            now.engine.answer("A dog.")
            await now.until(lambda: app.chat.transcript.views[-1].variant == (1, 2))
            app.chat.transcript.views[-1].think("A cat, or a dog?")
            app.chat.transcript.views[-1].focus()
            await now.until(lambda: isinstance(app.focused, MessageView))
        case "picture":
            app.attach([picture])
            await now.talk("What is this?", "A cat.")
            app.chat.transcript.views[0].focus()
            await now.until(lambda: isinstance(app.focused, MessageView))
        case "chips":
            app.attach([picture])
            await now.until(lambda: app.chat.query(Chip))
            app.chat.query_one(Chip).focus()
            await now.until(lambda: isinstance(app.focused, Chip))
        case "sidebar":
            await app.chat.action_toggle_sidebar()
            await now.until(lambda: app.focused is not None and app.focused.id == "conversations")
        case "zoom" | "picker" | "editor" | "dialog":
            screen = {
                "zoom": lambda: ZoomScreen([picture]),
                "picker": PickerScreen,
                "editor": lambda: PromptScreen("", is_here=False),
                "dialog": HelpScreen,
            }[scope]()
            app.push_screen(screen)
            await now.until(lambda: app.screen is screen and screen.is_mounted)
            await now.pilot.pause()


@pytest.mark.parametrize("scope", SCOPES)
async def test_every_key_reaches_its_action(
    play: Play, picture: StoredPicture, scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached: list[str] = []

    def noting(action: Action) -> Any:
        return lambda _self, of_message="": reached.append(of_message or action.id)

    async with play() as now:
        await go_to(now, scope, picture)
        for action in ACTIONS:
            if action.scope == scope:
                with monkeypatch.context() as patch:
                    # Messages have one action for all that they ask of the screen.
                    name = "request" if OWNERS[scope] is MessageView else action.id
                    patch.setattr(OWNERS[scope], f"action_{name}", noting(action))
                    for key in action.keys:
                        reached.clear()
                        await now.pilot.press(key)
                        await now.until(lambda: reached)
                        assert reached == [action.id], key


SHOWN = {
    "/pick": PickerScreen,
    "/search": SearchScreen,
    "/export": ExportScreen,
    "/models": ModelsScreen,
    "/settings": SettingsScreen,
    "/themes": ThemesScreen,
    "/help": HelpScreen,
}


DONE = ("/copy", "/code", "/again", "/continue", "/restart", "/paste", "/edit", "/new", "/image", "/quit")


async def command(now: Any, line: str) -> None:
    now.app.chat.composer.replace_text(line)
    await now.pilot.press("enter")
    await now.pilot.pause()


@pytest.mark.parametrize("name", SHOWN)
async def test_commands_show_their_screens(play: Play, name: str) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        await command(now, name)
        await now.until(lambda: isinstance(now.app.screen, SHOWN[name]))
        assert now.app.chat.composer.text == ""


async def test_commands_do_what_keys_do(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    from minigpt4.tui.images import clipboard

    def fail() -> None:
        raise clipboard.ClipboardError("No picture.")

    monkeypatch.setattr(clipboard, "clipboard_image", fail)
    monkeypatch.setattr(clipboard, "clipboard_text", fail)
    async with AsyncExitStack() as stack:
        now = await stack.enter_async_context(play())
        app, engine = now.app, now.engine
        await now.talk("What is this?", "A cat.\n\n```\nnap\n```\n")
        await command(now, "/copy")
        await now.until(lambda: app.clipboard.startswith("A cat."))
        await command(now, "/code")
        await now.until(lambda: app.clipboard.strip() == "nap")
        await command(now, "/again")
        await now.until(lambda: len(engine.asked) == 2)
        engine.answer("A d")
        await now.until(lambda: app.conversation.answering is None)
        await command(now, "/continue")
        await now.until(lambda: len(engine.asked) == 3)
        engine.answer("og.")
        await now.until(lambda: app.conversation.answering is None)
        await command(now, "/restart")
        await now.until(lambda: len(engine.loaded) == 2)
        app.copy_to_clipboard("")
        await command(now, "/paste")
        await now.until(lambda: any("No picture" in note.message for note in app._notifications))
        await command(now, "/edit")
        await now.until(lambda: app.chat.composer.text == "What is this?")
        await now.pilot.press("escape")
        await command(now, "/new")
        await now.until(lambda: now.shown == [])
        await command(now, "/image")
        await now.until(lambda: any("needs the path" in note.message for note in app._notifications))
        await command(now, "/quit")
        await now.until(lambda: engine.stopped)


def test_no_command_is_without_a_test() -> None:
    assert {one.name for one in COMMANDS if one.about} == {
        *SHOWN,
        *DONE,
        "/clear",
        "/save-html",
        "/editor",
    }, "/clear is in test_chat.py, /save-html in test_save_page.py, /editor in test_slash_menu.py"


async def test_a_question_may_have_several_lines(play: Play) -> None:
    async with play() as now:
        await now.pilot.press(*"one", "ctrl+j", *"two", "shift+enter", *"three", "enter")
        await now.until(lambda: now.engine.asked)
        assert now.engine.asked[0][1][0].text == "one\ntwo\nthree"


async def test_the_conversation_is_saved_by_key_once_there_is_one(play: Play) -> None:
    async with play() as now:
        await now.pilot.press("ctrl+s")
        await now.until(lambda: any("nothing to save" in note.message for note in now.app._notifications))
        await now.talk("What is this?", "A cat.")
        await now.pilot.press("ctrl+s")
        await now.until(lambda: isinstance(now.app.screen, ExportScreen))


async def test_the_conversation_is_scrolled_and_its_end_followed_again(play: Play) -> None:
    async with play() as now:
        await now.talk("Tell me.", "word\n\n" * 90)
        transcript = now.app.chat.transcript
        await now.until(lambda: transcript.scroll_y == transcript.max_scroll_y > 0)
        await now.pilot.press("pageup", "pageup")
        await now.until(lambda: transcript.scroll_y < transcript.max_scroll_y - 10)
        place = transcript.scroll_y
        await now.pilot.press("pagedown")
        await now.until(lambda: transcript.scroll_y > place)
        await now.pilot.press("ctrl+end")
        await now.until(lambda: transcript.scroll_y == transcript.max_scroll_y and transcript.follows)
