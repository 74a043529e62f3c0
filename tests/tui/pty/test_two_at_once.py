"""Two apps on the same conversations."""

from __future__ import annotations

from typing import Any

from minigpt4.tui.history.store import Store

Start = Any

STORY = "Write an essay about the history of the sea."


def test_each_sees_what_the_other_says_and_leaves_its_answer_alone(start: Start, kept: Store) -> None:
    def is_answered(conversation: str, messages: int) -> bool:
        for terminal in (one, two):
            terminal.look(0)  # a program whose terminal nobody reads stands still
        path = kept.path(conversation)
        return len(path) == messages and path[-1].state == "done"

    one = start("--greedy", "--threads", "1", "--max-tokens", "100", size=(120, 30))
    one.until("● mini")
    one.ask(STORY)
    one.until("writing")
    (first,) = kept.conversations(10)
    two = start("--greedy", "--threads", "1", "--max-tokens", "10", size=(120, 30))
    two.until(STORY[:20])  # in its list, while it is being answered
    two.until(lambda: is_answered(first.id, 2))

    two.until("● mini")
    two.ask("And what is your name?")
    two.until(lambda: len(kept.conversations(10)) == 2)
    two.until(lambda: is_answered(kept.conversations(10)[0].id, 2))
    one.until("And what is your name?")  # in the other's list
    two.press("ctrl+q")
    assert two.ended() == 0

    one.until("● mini")
    one.ask("Is it deep?")
    one.until(lambda: is_answered(first.id, 4))
    one.press("ctrl+q")
    assert one.ended() == 0
    assert {info.id: info.messages for info in kept.conversations(10)}[first.id] == 4
    assert kept.integrity() == []
