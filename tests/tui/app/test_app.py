"""What the app holds for all its screens: settings, the model, the theme, the store."""

from __future__ import annotations

from typing import Any

import pytest

Play = Any


async def test_settings_change_at_once(play: Play) -> None:
    async with play() as now:
        app = now.app
        heard: list[str] = []
        app.settings_changed.subscribe(app.chat, heard.append)
        app.change_setting("theme", "paper")
        assert app.theme == "paper"
        app.change_setting("temperature", 0.3)
        await now.ask("What is this?")
        assert now.engine.asked[0][2].temperature == 0.3
        app.change_setting("keys.help", ("f7",))
        assert app.key("help") == "F7"
        await now.until(lambda: heard == ["theme", "temperature", "keys.help"])
        from minigpt4.tui.settings.settings import load_settings

        assert load_settings({}, {}).settings.temperature == 0.3


async def test_settings_of_a_conversation_leave_the_file_alone(play: Play) -> None:
    async with play() as now:
        app = now.app
        app.change_setting("temperature", 0.3, here=True)
        await now.talk("What is this?", "A cat.")
        assert now.engine.asked[0][2].temperature == 0.3
        assert app.conversation.info is not None
        kept = app.conversation.info.id
        app.new_conversation()
        assert app.settings.temperature is None
        app.open_conversation(kept)
        assert app.settings.temperature == 0.3


async def test_the_model_of_a_conversation_is_loaded_when_it_is_asked(play: Play) -> None:
    async with play() as now:
        app = now.app
        await now.until(lambda: now.engine.loaded)
        app.change_setting("backend", "torch", here=True)
        await now.talk("What is this?", "A cat.")
        assert [choice.backend for choice in now.engine.loaded] == ["auto", "torch"]
        app.new_conversation()
        assert len(now.engine.loaded) == 2
        await now.ask("And here?")
        assert now.engine.loaded[-1].backend == "auto"


async def test_a_theme_that_is_wrong_is_reported_and_changes_nothing(play: Play) -> None:
    async with play({"theme": "harbour"}) as now:
        app, pilot = now.app, now.pilot
        assert not app.use_theme("no-such")
        await pilot.pause()
        assert app.theme == "harbour"
        assert any("no-such" in note.message for note in app._notifications)


async def test_a_locked_database_loses_no_question(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    from minigpt4.tui.history.store import Store, StoreError

    async with play() as now:
        app, pilot = now.app, now.pilot

        def locked(*_: object, **__: object) -> None:
            raise StoreError("The database is locked; close the other program.")

        monkeypatch.setattr(Store, "add_message", locked)
        app.chat.composer.replace_text("What is this?")
        await pilot.press("enter")
        await now.until(lambda: any("locked" in note.message for note in app._notifications))
        assert app.chat.composer.text == "What is this?"
        assert now.engine.asked == []


async def test_what_was_deleted_over_thirty_days_ago_goes_for_good(
    play: Play, store: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    old, young = store.new_conversation(), store.new_conversation()
    now_s = time.time()
    for info, days in ((old, 31), (young, 29)):
        monkeypatch.setattr(time, "time", lambda days=days: now_s - days * 86_400)
        store.delete(info.id)
    monkeypatch.undo()
    async with play() as now:
        await now.until(lambda: [info.id for info in store.deleted()] == [young.id])


async def test_an_edited_theme_is_seen_in_the_conversation_and_a_wrong_one_is_reported_once(
    play: Play,
) -> None:
    from minigpt4.themes import own_themes_folder

    file = own_themes_folder() / "mine.toml"
    file.parent.mkdir(parents=True)
    theme = 'name = "mine"\nprimary = "{}"\nbackground = "#101010"\nforeground = "#eeeeee"\n'
    file.write_text(theme.format("#ff0000"))
    async with play({"theme": "mine"}) as now:
        app = now.app
        file.write_text(theme.format("#00ff01"))
        await now.until(lambda: app.get_theme("mine").primary == "#00ff01")
        await now.until(lambda: app.get_css_variables()["primary"] == "#00FF01")
        file.write_text(theme.format("bluish"))
        await now.until(lambda: any("'bluish'" in note.message for note in app._notifications))
        file.write_text(theme.format("#0000ff"))
        await now.until(lambda: app.get_css_variables()["primary"] == "#0000FF")
        assert app.theme == "mine"
        assert sum("'bluish'" in note.message for note in app._notifications) == 1


async def test_a_theme_that_cannot_be_used_at_the_start_is_put_on_once_it_is_mended(play: Play) -> None:
    from minigpt4.themes import own_themes_folder

    file = own_themes_folder() / "mine.toml"
    file.parent.mkdir(parents=True)
    file.write_text('name = "mine"\nprimary = "bluish"\n')
    async with play({"theme": "mine"}) as now:
        await now.until(lambda: any("bluish" in note.message for note in now.app._notifications))
        assert now.app.theme == "harbour"
        file.write_text('name = "mine"\nprimary = "#0000ff"\n')
        await now.until(lambda: now.app.theme == "mine")


async def test_what_comes_while_the_app_closes_is_dropped(play: Play) -> None:
    called: list[str] = []
    async with play() as now:
        now.app.in_background(lambda: "in time", called.append)
        await now.until(lambda: called)
    now.app._call(now.app.Call(lambda: called.append("too late")))
    assert called == ["in time"]
