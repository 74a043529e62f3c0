"""Slash commands and their completion."""

from __future__ import annotations

from minigpt4.tui.conversation.slash_commands import (
    COMMANDS,
    all_commands,
    choices_for,
    command_in,
    complete,
    unknown_command,
)


def paths(*found: str) -> object:
    return lambda _prefix: list(found)


def test_commands_are_recognised_by_their_first_word() -> None:
    command = command_in("/image a b.jpg")
    assert command is not None
    assert command.takes_path
    assert command_in("/nonsense") is None
    assert command_in("what is /image?") is None
    assert command_in("/exit") == command_in("/quit")


def test_every_command_of_the_plain_chat_does_something_there() -> None:
    from minigpt4.tui.cli.chat.plain_commands import ACTIONS

    assert {*ACTIONS, "/quit"} == {command.name for command in COMMANDS if command.plain}


def test_an_unknown_command_is_reported_with_the_nearest_one() -> None:
    assert unknown_command("/imgae x.jpg") == "There is no command /imgae; did you mean /image?"
    assert "/help" in unknown_command("/\x1b[31m")


def test_a_name_is_completed_as_far_as_it_is_certain() -> None:
    none = paths()
    assert complete("/ima", none).line == "/image "  # type: ignore[arg-type]
    done = complete("/co", none)  # type: ignore[arg-type]
    assert done.line == "/co"
    assert [name for name, _ in done.choices] == ["/continue", "/copy", "/code"]
    assert complete("/zzz", none).line == "/zzz"  # type: ignore[arg-type]


def test_a_path_is_completed_as_far_as_it_is_certain() -> None:
    assert complete("/image pho", paths("photo.jpg")).line == "/image photo.jpg"  # type: ignore[arg-type]
    done = complete("/image p", paths("pic1.png", "pic2.png"))  # type: ignore[arg-type]
    assert done.line == "/image pic"
    assert [name for name, _ in done.choices] == ["pic1.png", "pic2.png"]
    assert complete("/image zzz", paths()).line == "/image zzz"  # type: ignore[arg-type]


def test_text_that_is_no_command_has_no_completion() -> None:
    assert choices_for("hello") == ()
    assert choices_for("/image photo") == ()
    assert choices_for("/help") == ()
    assert len(choices_for("/")) == len(all_commands())
