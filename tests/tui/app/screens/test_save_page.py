"""Named prompts in the app, and the page that comes of a hand-drawn draft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Static

from minigpt4.tui.screens.save_page import SavePageScreen

Play = Any
Now = Any

ANSWER = "Here:\n\n```html\n<html><body>Joke</body></html>\n```\n"


async def command(now: Now, line: str) -> None:
    now.app.chat.composer.replace_text(line)
    await now.pilot.press("enter")


def note(now: Now) -> str:
    return str(now.app.screen.query_one("#note", Static).render())


async def test_a_named_prompt_asks_its_question(play: Play) -> None:
    async with play() as now:
        await command(now, "/meme")
        await now.until(lambda: now.engine.asked)
        assert now.engine.asked[0][1][0].text == "Explain why this meme is funny."
        assert now.app.chat.composer.text == ""


@pytest.mark.parametrize("on_command_line", [None, 50])
async def test_a_prompts_limit_is_the_answers_unless_the_command_line_has_one(
    play: Play, on_command_line: int | None
) -> None:
    from minigpt4.tui.prompts.prompts import own_prompts_folder

    own_prompts_folder().mkdir(parents=True)
    (own_prompts_folder() / "word.toml").write_text("about = 'x'\ntext = 'A word.'\nmax_tokens = 12")
    async with play({"max_tokens": on_command_line}) as now:
        await command(now, "/word")
        await now.until(lambda: now.engine.asked)
        assert now.engine.asked[0][2].max_tokens == (on_command_line or 12)


async def test_a_broken_prompt_is_named_at_the_start_and_keeps_the_line(play: Play) -> None:
    from minigpt4.tui.prompts.prompts import own_prompts_folder

    own_prompts_folder().mkdir(parents=True)
    (own_prompts_folder() / "odd.toml").write_text("text = 3")
    async with play() as now:
        await now.until(lambda: any("odd.toml" in one.message for one in now.app._notifications))
        await command(now, "/odd one")
        await now.until(lambda: sum("odd.toml" in one.message for one in now.app._notifications) == 2)
        assert now.app.chat.composer.text == "/odd one"
        assert not now.engine.asked


@pytest.mark.parametrize("named", [True, False])
async def test_a_page_is_saved_and_opened_only_when_asked(
    play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr("minigpt4.tui.screens.save_page.open_page", opened.append)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / ("joke.html" if named else "page.html")
    async with play() as now:
        await now.talk("Draw it.", ANSWER)
        await command(now, f"/save-html {path}" if named else "/save-html")
        await now.until(lambda: isinstance(now.app.screen, SavePageScreen))
        await now.until(lambda: now.app.screen.query_one(Input).value == str(path))
        await now.pilot.press("enter")
        await now.until(lambda: "runs the scripts" in note(now))
        assert path.read_text() == "<html><body>Joke</body></html>\n"
        assert opened == []
        await now.pilot.press(*(["down"] if named else []), "enter")
        await now.until(lambda: now.app.screen is now.app.chat)
        assert opened == ([path] if named else [])


async def test_a_file_that_is_there_stays_and_a_missing_page_is_told(play: Play, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text("mine")
    async with play() as now:
        await command(now, "/save-html")
        await now.until(lambda: any("/website asks for one" in one.message for one in now.app._notifications))
        await now.talk("Draw it.", ANSWER)
        await command(now, f"/save-html {path}")
        await now.until(lambda: isinstance(now.app.screen, SavePageScreen))
        await now.pilot.press("enter")
        await now.until(lambda: "give another name" in note(now))
        assert path.read_text() == "mine"


async def test_the_page_of_the_focused_answer_is_saved(play: Play) -> None:
    async with play() as now:
        await now.talk("Draw it.", "```html\n<p>first</p>\n```")
        await now.talk("Another one.", "```html\n<p>second</p>\n```")
        await now.talk("Thanks.", "You are welcome.")
        for place, page in ((1, "first"), (3, "second"), (0, "second"), (5, "second")):
            now.app.chat.transcript.views[place].focus()
            await now.pilot.press("f5")
            await now.until(lambda: isinstance(now.app.screen, SavePageScreen))
            assert page in now.app.screen._page
            await now.pilot.press("escape")
            await now.until(lambda: now.app.screen is now.app.chat)
