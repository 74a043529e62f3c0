"""The line above a conversation shows its title, however it changes."""

from __future__ import annotations

from typing import Any

from minigpt4.tui.history.store import Store, StoredPicture

Play = Any


def title(now: Any) -> str:
    return str(now.app.chat.query_one("#title").render())


async def in_the_list(now: Any) -> None:
    await now.pilot.press("ctrl+b")
    await now.until(lambda: now.app.focused is not None and now.app.focused.id == "conversations")
    rows = now.app.focused
    rows.highlighted = rows.get_option_index(now.app.conversation.info.id)


async def test_the_first_question_gives_it(play: Play, picture: StoredPicture) -> None:
    async with play() as now:
        assert title(now) == "New conversation"
        await now.talk("What is\n[/] this?", "A cat.")
        assert title(now) == "What is [/] this?"


async def test_it_follows_renaming_in_the_list(play: Play) -> None:
    async with play(size=(110, 30)) as now:
        await now.talk("What is this?", "A cat.")
        await in_the_list(now)
        await now.pilot.press("f12", "end", *" again", "enter")
        await now.until(lambda: title(now) == "What is this? again")


async def test_it_follows_another_instance(play: Play, store: Store) -> None:
    other = Store.open(store.file)
    async with play({"sidebar": "open"}, size=(110, 30)) as now:
        await now.talk("What is this?", "A cat.")
        await now.until(lambda: now.app.chat.query("#sidebar"))
        await now.until(lambda: now.app.chat.query_one("#sidebar")._version >= 0)
        other.rename(now.app.conversation.info.id, "Cats")
        await now.until(lambda: title(now) == "Cats")
    other.close()


async def test_deleting_the_open_one_leaves_a_new_one_and_undoing_it_opens_it_again(play: Play) -> None:
    async with play(size=(110, 30)) as now:
        await now.talk("What is this?", "A cat.")
        await in_the_list(now)
        await now.pilot.press("delete")
        await now.until(lambda: title(now) == "New conversation" and now.shown == [])
        assert now.app.focused.id == "conversations", "whoever deletes is still in the list"
        await now.pilot.press("ctrl+z")
        await now.until(lambda: title(now) == "What is this?")
        await now.until(lambda: now.shown == ["What is this?", "A cat."])


async def test_undo_leaves_a_conversation_begun_meanwhile_alone(play: Play) -> None:
    async with play(size=(110, 30)) as now:
        await now.talk("What is this?", "A cat.")
        await in_the_list(now)
        await now.pilot.press("delete")
        await now.until(lambda: now.shown == [])
        await now.pilot.press("escape")
        await now.talk("Something else?", "Yes.")
        now.app.chat.query_one("#conversations").focus()
        await now.pilot.press("ctrl+z")
        await now.until(lambda: len(now.store.conversations(10)) == 2)
        assert now.shown == ["Something else?", "Yes."]


async def test_a_conversation_that_another_instance_deleted_is_restored_when_it_continues(
    play: Play, store: Store
) -> None:
    async with play() as now:
        await now.talk("What is this?", "A cat.")
        store.delete(now.app.conversation.info.id)
        await now.talk("Sure?", "Yes.")
        assert [info.title for info in store.conversations(10)] == ["What is this?"]


async def test_deleting_while_an_answer_is_written_stops_it(play: Play) -> None:
    async with play(size=(110, 30)) as now:
        await now.ask("Tell me a story.")
        now.engine.begin("Once upon")
        await now.until(lambda: "Once upon" in now.text())
        deleted = now.app.conversation.info.id
        await in_the_list(now)
        await now.pilot.press("delete")
        await now.until(lambda: now.engine.cancelled == [now.engine.request])
        assert [one.text for one in now.store.path(deleted)] == ["Tell me a story.", "Once upon"]
