"""The export dialog: saving a conversation to a file, and importing one."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, Static

from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.screens.export import ExportScreen

Play = Any


@pytest.fixture
def talk(store: Store, picture: StoredPicture) -> str:
    made = store.new_conversation()
    asked = store.add_message(made.id, None, "user", "What is this?", [picture])
    store.add_message(made.id, asked.id, "assistant", "A cat.")
    return made.id


async def save(on: Any, folder: Path | str, place: int) -> None:
    await on.until(lambda: on.shown)
    await on.pilot.press("ctrl+s")
    await on.until(lambda: isinstance(on.app.screen, ExportScreen))
    await on.pilot.pause()
    on.app.screen.query_one(Input).value = str(folder)
    await on.pilot.press(*["down"] * place, "enter")


@pytest.mark.parametrize(("place", "ending"), [(0, ".md"), (1, ".html"), (2, ".json")])
async def test_each_form_is_written(play: Play, talk: str, tmp_path: Path, place: int, ending: str) -> None:
    async with play(conversation=talk) as on:
        await save(on, tmp_path / "out", place)
        await on.until(lambda: on.app.screen is on.app.chat)
        files = [path for path in (tmp_path / "out").iterdir() if path.is_file()]
        assert [path.suffix for path in files] == [ending]
        assert "A cat." in files[0].read_text()
        assert ((tmp_path / "out" / "pictures").is_dir()) == (ending == ".md")


async def test_a_saved_json_is_read_back(play: Play, talk: str, store: Store, tmp_path: Path) -> None:
    async with play(conversation=talk) as on:
        await save(on, tmp_path / "out", 2)
        await on.until(lambda: on.app.screen is on.app.chat)
        (file,) = (tmp_path / "out").iterdir()
        store.purge(talk)
        await save(on, file, 3)
        await on.until(lambda: on.app.screen is on.app.chat)
        assert [info.title for info in store.conversations(5)] == ["What is this?"]


async def test_a_folder_that_cannot_be_is_reported_and_the_line_stays(
    play: Play, talk: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    async with play(conversation=talk) as on:
        await save(on, tmp_path / "file" / "under", 1)
        note = on.app.screen.query_one("#note", Static)
        await on.until(lambda: "under" in str(note.render()) or "file" in str(note.render()))
        assert isinstance(on.app.screen, ExportScreen)
        await on.pilot.press("escape")
        await on.until(lambda: on.app.screen is on.app.chat)


async def test_a_working_folder_that_is_gone_and_a_fifo_are_told(
    play: Play, talk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    os.mkfifo(tmp_path / "fifo")
    async with play(conversation=talk) as on:
        (tmp_path / "gone").rmdir()
        await save(on, tmp_path / "fifo", 3)
        note = on.app.screen.query_one("#note", Static)
        await on.until(lambda: "it is a FIFO, not a file" in str(note.render()))
        await on.pilot.press("escape")
        await on.until(lambda: on.app.screen is on.app.chat)
        await save(on, "relative", 1)
        note = on.app.screen.query_one("#note", Static)
        await on.until(lambda: "The folder this runs in is gone" in str(note.render()))
