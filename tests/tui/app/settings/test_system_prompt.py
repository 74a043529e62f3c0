"""The editor of the system prompt: several lines, for all conversations or for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from textual import events
from textual.widgets import TextArea

from minigpt4.core import prompt
from minigpt4.core.bundles.bundle import load_bundle, write_manifest
from minigpt4.core.storage.paths import config_home
from minigpt4.tui.screens.prompt import PromptScreen, no_system_prompt
from minigpt4.tui.screens.settings import SCOPE, SettingsScreen
from minigpt4.tui.settings.settings import load_settings

Play = Any


async def open_prompt(now: Any, *, here: bool = False) -> None:
    await now.pilot.press("f4")
    await now.until(lambda: isinstance(now.app.screen, SettingsScreen))
    await now.pilot.pause()
    rows = now.app.screen.rows
    if here:
        rows.highlighted = rows.get_option_index(SCOPE)
        await now.pilot.press("enter")
        await now.pilot.pause()
    rows.highlighted = rows.get_option_index("system_prompt")
    await now.pilot.press("enter")


async def test_it_is_written_kept_and_given_to_the_model(play: Play) -> None:
    async with play() as now:
        await open_prompt(now)
        await now.until(lambda: isinstance(now.app.screen, PromptScreen))
        await now.pilot.press(*"Be", "enter", *"kind", "ctrl+s")
        await now.until(lambda: now.app.settings.system_prompt == "Be\nkind")
        assert load_settings({}, {}).settings.system_prompt == "Be\nkind"
        await now.pilot.press("escape")
        await now.ask("What is this?")
        assert [(one.role, one.text) for one in now.engine.asked[0][1]] == [
            ("system", "Be\nkind"),
            ("user", "What is this?"),
        ]


async def test_it_may_be_for_one_conversation(play: Play) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        await open_prompt(now, here=True)
        await now.until(lambda: isinstance(now.app.screen, PromptScreen))
        assert "this conversation only" in now.text()
        await now.pilot.press(*"Short", "ctrl+s")
        await now.until(lambda: now.app.settings.system_prompt == "Short")
        assert now.store.settings(now.app.conversation.info.id) == {"system_prompt": "Short"}
        assert not (config_home() / "settings.toml").exists()
        now.app.new_conversation()
        assert now.app.settings.system_prompt is None


async def test_escape_leaves_it_as_it_was_and_nothing_typed_takes_it_out(play: Play) -> None:
    async with play() as now:
        now.app.change_setting("system_prompt", "Be kind")
        await open_prompt(now)
        await now.until(lambda: isinstance(now.app.screen, PromptScreen))
        await now.pilot.press("x", "escape")
        await now.until(lambda: isinstance(now.app.screen, SettingsScreen))
        assert now.app.settings.system_prompt == "Be kind"
        await now.pilot.press("enter")
        await now.until(lambda: isinstance(now.app.screen, PromptScreen))
        now.app.screen.query_one(TextArea).text = " \n"
        await now.pilot.press("ctrl+s")
        await now.until(lambda: now.app.settings.system_prompt is None)


async def test_escapes_in_it_are_sanitized_on_the_screen_and_kept(play: Play) -> None:
    async with play() as now:
        now.app.change_setting("system_prompt", "Be \x1b[31mkind [/]")
        await open_prompt(now)
        await now.until(lambda: isinstance(now.app.screen, PromptScreen) and "kind [/]" in now.text())
        now.app.post_message(events.Paste("\x1b]0;owned\x07"))
        await now.until(lambda: "owned" in now.text())
        assert "\x1b" not in now.text() and "\x07" not in now.text()
        await now.pilot.press("ctrl+s")
        await now.until(lambda: now.app.settings.system_prompt.startswith("Be \x1b[31mkind [/]"))


@dataclass(frozen=True)
class Bare:
    """A template without a system prompt."""

    name: str = "bare"
    stop: tuple[str, ...] = ()
    opening: str | None = None

    def segments(self, conversation: Sequence[prompt.Message]) -> list[prompt.Segment]:
        return [prompt.Text(one.text) for one in conversation if isinstance(one, prompt.User)]  # type: ignore[attr-defined]


async def test_a_template_without_room_for_it_is_reported(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(prompt.TEMPLATES, "bare", Bare())
    plain = replace(load_bundle("mini"), name="plain", template="bare")
    write_manifest(plain, config_home() / "bundles" / "plain.toml")
    async with play({"bundle": "plain"}) as now:
        await open_prompt(now)
        await now.until(
            lambda: any("has no system prompt" in note.message for note in now.app._notifications)
        )
        assert isinstance(now.app.screen, SettingsScreen)


def test_the_chat_template_of_a_gguf_always_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = replace(load_bundle("mini"), template="chatml")
    monkeypatch.setattr("minigpt4.core.bundles.bundle.load_bundle", lambda _: gguf)
    assert no_system_prompt("any") == ""
