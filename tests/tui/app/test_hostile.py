"""Nothing from people, models, files or errors is obeyed by the terminal, and nothing of it stops the app."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual._styles_cache import StylesCache
from textual.strip import Strip

from minigpt4.core.storage.paths import config_home
from minigpt4.core.worker.messages import DownloadProgress, Exited, Failed, Notice
from minigpt4.themes import own_themes_folder
from minigpt4.tui.history.store import Store
from minigpt4.tui.screens.export import ExportScreen
from minigpt4.tui.screens.picker import PickerScreen
from minigpt4.tui.screens.prompt import PromptScreen
from minigpt4.tui.screens.settings import SettingsScreen, ValueScreen
from minigpt4.tui.screens.themes import ThemesScreen
from minigpt4.tui.screens.zoom import ZoomScreen

Play = Any
MakePng = Any

EVIL = "[/] [bold]x[/bold] \x1b]0;owned\x07\x1b[31m \x9b5m \u202egpj.exe\u2066 \u200b\u200dz\x00 \ud800"
"""Markup, a title and colours of a terminal, C1 controls, changes of direction, zero width, half a pair."""

NAME = "[b] \x1b[31m\u202egpj\u200b.png"
"""As much of it as a file's name may hold."""

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(autouse=True)
def _nothing_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Looks at each line of every frame that is drawn."""
    drawn: list[str] = []
    render = StylesCache.render_widget

    def seeing(*given: Any, **named: Any) -> list[Strip]:
        strips = render(*given, **named)
        drawn.extend(part.text for strip in strips for part in strip if part.control is None)
        return strips

    monkeypatch.setattr(StylesCache, "render_widget", seeing)
    yield
    assert drawn, "nothing was drawn"
    assert [text for text in drawn if OBEYED.search(text)] == []


async def test_answers_and_errors(play: Play) -> None:
    async with play(size=(100, 40)) as now:
        now.app.post_message(events.Paste(EVIL))
        await now.until(lambda: "owned" in now.app.chat.composer.text)
        await now.pilot.press("enter")
        await now.until(lambda: now.engine.asked)
        now.engine.on_event(Notice(EVIL))
        now.engine.begin(*EVIL, "\n\n```" + EVIL + "\n" + EVIL + "\n```\n\n| " + EVIL + " |\n|-|\n")
        await now.until(lambda: "gpj.exe" in now.text())
        now.engine.on_event(Failed(now.engine.request, EVIL))
        await now.until(lambda: now.app.conversation.answering is None)
        now.engine.on_event(DownloadProgress(EVIL, 1, 2))
        now.engine.on_event(Exited(EVIL, EVIL, EVIL))
        await now.until(lambda: now.app.engine.state == "dead")
        await now.until(lambda: now.text().count("]0;owned") > 4)


async def test_titles_in_the_list_above_the_conversation_and_among_what_is_found(
    play: Play, store: Store
) -> None:
    info = store.new_conversation()
    store.add_message(info.id, None, "user", "findme " + EVIL)
    store.rename(info.id, "findme " + EVIL)
    async with play({"sidebar": "open"}, conversation=info.id, size=(110, 30)) as now:
        await now.until(lambda: now.text().count("findme") >= 3)
        await now.pilot.press("ctrl+f", *"findme")
        await now.until(lambda: "2 found" in now.text())
        await now.pilot.press("escape")
        now.app.chat.query_one("#conversations").focus()
        await now.pilot.press("down", "f12")
        await now.until(lambda: now.app.focused.id == "new-name")
        await now.pilot.press("escape", "delete")
        await now.until(lambda: any("Deleted" in note.message for note in now.app._notifications))


async def test_names_of_pictures_wherever_they_are_shown(play: Play, png: MakePng, tmp_path: Path) -> None:
    folder = tmp_path / "[b] \x1b[32m"
    folder.mkdir()
    (folder / NAME).write_bytes(png((40, 30)))
    (folder / "[b] \x07.png").write_bytes(b"no picture")
    async with play(pictures=[folder / NAME, folder / "[b] \x07.png"], size=(110, 40)) as now:
        app = now.app
        await now.until(lambda: app.chat.footer.pictures)
        await now.until(lambda: any("[b]" in note.message for note in app._notifications))
        app.chat.composer.replace_text("What is this?")
        await now.pilot.press("enter")
        await now.until(lambda: any("was not sent" in note.message for note in app._notifications))
        await now.talk("What is this?", "A cat.")
        app.push_screen(ZoomScreen(app.conversation.path[0].pictures))
        await now.until(lambda: isinstance(app.screen, ZoomScreen) and "[b]" in now.text())
        await now.pilot.press("m", "escape")
        app.push_screen(PickerScreen(folder), lambda chosen: app.attach(chosen or []))
        await now.until(lambda: "gpj" in now.text())
        await now.pilot.press(*"gpj")
        await now.until(lambda: "Find: gpj" in now.text() and "Enter" in now.text())
        await now.until(lambda: app.screen.tree_of_pictures.highlighted_picture is not None)
        await now.pilot.pause()
        await now.pilot.press("enter")
        await now.until(lambda: app.chat.footer.pictures)


async def test_a_path_that_is_completed_still_names_its_file(
    play: Play, png: MakePng, tmp_path: Path
) -> None:
    (tmp_path / "a\x1b[31m.png").write_bytes(png((40, 30)))
    (tmp_path / "a\x1b[32m.png").write_bytes(png((30, 40)))
    async with play(size=(200, 30)) as now:
        now.app.chat.composer.replace_text(f"/image {tmp_path}/a")
        await now.pilot.press("tab")
        await now.until(lambda: "a␛[32m.png" in now.text())
        await now.pilot.press("1", "tab", "enter")
        await now.until(lambda: [one.width for one in now.app.chat.footer.pictures] == [40])


async def test_lines_that_are_typed_in(play: Play) -> None:
    async with play() as now:
        for key in ("ctrl+f", "f1", "f4", "ctrl+p"):
            await now.pilot.press(key)
            await now.pilot.pause()
            now.app.post_message(events.Paste(EVIL))
            await now.until(lambda: "owned" in now.text())
            await now.pilot.press("escape")
            await now.until(lambda: now.app.screen is now.app.chat)


async def test_settings_of_a_file(play: Play) -> None:
    file = config_home() / "settings.toml"
    file.parent.mkdir(parents=True)
    text = "[/] \\u001b]0;owned\\u0007 \\u202ex"
    file.write_text(
        f'system_prompt = "{text}"\nbundle = "{text}"\n"odd{text}" = 1\n[keys]\nsearch = ["{text}"]\n'
        f'"{text}" = ["f6"]\n'
    )
    async with play(size=(110, 40)) as now:
        await now.until(lambda: len(now.app._notifications) >= 3)
        await now.pilot.press("f4")
        await now.until(lambda: isinstance(now.app.screen, SettingsScreen))
        rows = now.app.screen.rows
        for key, screen in (("bundle", ValueScreen), ("system_prompt", SettingsScreen)):
            rows.highlighted = rows.get_option_index(key)
            await now.pilot.press("enter")
            await now.until(lambda screen=screen: isinstance(now.app.screen, screen))
            await now.pilot.pause()
            if screen is ValueScreen:
                await now.pilot.press("escape")
        now.app.push_screen(PromptScreen(EVIL.replace("\ud800", ""), is_here=True))
        await now.until(lambda: isinstance(now.app.screen, PromptScreen) and "owned" in now.text())


async def test_themes_and_what_is_wrong_with_them(play: Play) -> None:
    folder = own_themes_folder()
    folder.mkdir(parents=True)
    (folder / "[b] \x1b[31m\u202ex.toml").write_text('name = "\\u001b[31m"\n')
    (folder / "wrong.toml").write_text('name = "wrong"\nprimary = "[/] \\u001b]0;owned\\u0007"\n')
    (folder / "torn.toml").write_bytes(b'name = "\xff\x1b[31m')
    async with play(size=(110, 40)) as now:
        await now.pilot.press("ctrl+t")
        await now.until(lambda: isinstance(now.app.screen, ThemesScreen) and "wrong" in now.text())
        rows = now.app.screen.query_one("#themes")
        for place in range(len(rows.options)):
            rows.highlighted = place
            await now.pilot.pause()
        await now.pilot.press("escape")
        await now.until(lambda: now.app.screen is now.app.chat)
        assert now.app.theme == "harbour"


async def test_folders_to_save_into(play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "[b] \x1b[31m\u202e"
    folder.mkdir()
    monkeypatch.chdir(folder)
    async with play() as now:
        await now.talk("What is this? " + EVIL.replace("\ud800", ""), "A cat.")
        await now.pilot.press("ctrl+s")
        await now.until(lambda: isinstance(now.app.screen, ExportScreen))
        await now.pilot.press("enter")
        await now.until(lambda: any("Saved" in note.message for note in now.app._notifications))
        assert list(folder.iterdir())


@pytest.mark.parametrize("theme", ["harbour", "paper", "terminal"])
async def test_a_terminal_without_colour_shows_everything(
    play: Play, png: MakePng, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theme: str
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    (tmp_path / "cat.png").write_bytes(png((40, 30)))
    async with play({"theme": theme}, pictures=[tmp_path / "cat.png"], size=(110, 40)) as now:
        await now.until(lambda: now.app.chat.footer.pictures)
        await now.talk("What is this?", "A **cat**.\n\n```python\nnap()\n```\n")
        now.engine.on_event(Exited("It was killed.", "Try again.", "why"))
        for words in ("cat.png", "nap()", "It was killed.", "Try again."):
            await now.until(lambda words=words: words in now.text())
        for strip in now.app.screen._compositor.render_strips():
            for part in strip:
                for colour in (part.style.color, part.style.bgcolor) if part.style else ():
                    if colour is not None and colour.triplet is not None:
                        assert len(set(colour.triplet)) == 1, f"{part.text!r} is in {colour}"
