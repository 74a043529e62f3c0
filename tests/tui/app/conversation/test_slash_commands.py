"""Slash commands and their completion."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from minigpt4.tui.conversation.slash_commands import (
    COMMANDS,
    Choice,
    all_commands,
    choices_for,
    command_in,
    complete,
    unknown_command,
)


def paths(*found: str) -> object:
    return lambda _prefix: list(found)


def labels(choices: Sequence[Choice]) -> list[str]:
    return [one.label for one in choices]


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
    assert unknown_command("/") == "There is no command /; /help lists the commands."


def test_a_name_is_completed_as_far_as_it_is_certain() -> None:
    none = paths()
    assert complete("/ima", none).line == "/image "  # type: ignore[arg-type]
    done = complete("/co", none)  # type: ignore[arg-type]
    assert done.line == "/co"
    assert labels(done.choices)[:3] == ["/continue", "/copy", "/code"]
    assert complete("/zzz", none).line == "/zzz"  # type: ignore[arg-type]


def test_a_path_is_completed_as_far_as_it_is_certain() -> None:
    assert complete("/image pho", paths("photo.jpg")).line == "/image photo.jpg"  # type: ignore[arg-type]
    done = complete("/image p", paths("pic1.png", "pic2.png"))  # type: ignore[arg-type]
    assert done.line == "/image pic"
    assert labels(done.choices) == ["pic1.png", "pic2.png"]
    assert [one.text for one in done.choices] == ["/image pic1.png", "/image pic2.png"]
    assert complete("/image zzz", paths()).line == "/image zzz"  # type: ignore[arg-type]


def test_text_that_is_no_command_has_no_completion() -> None:
    assert choices_for("hello") == ()
    assert choices_for("/image photo") == ()
    assert choices_for("/help") == ()
    assert len(choices_for("/")) == len(all_commands())


def test_every_command_can_be_found_by_its_letters_and_those_that_begin_so_come_first() -> None:
    assert labels(choices_for("/stgs")) == ["/settings"]
    assert labels(choices_for("/mod"))[0] == "/models"
    assert labels(choices_for("/theme"))[0] == "/themes"
    assert "/pick" in labels(choices_for("/folder"))  # by what it does
    assert choices_for("/zzz") == ()
    for command in all_commands():
        assert command.name in labels(choices_for(command.name[:2]))


@pytest.mark.parametrize(
    ("line", "completed"),
    [
        ("/image my", r"/image my\ cat.png"),
        ("/image my c", r"/image my\ cat.png"),
        (r"/image my\ c", r"/image my\ cat.png"),
        (r"/image my\ cat.png ph", r"/image my\ cat.png photo.jpg"),
        ("/image photo.jpg my", r"/image photo.jpg my\ cat.png"),
    ],
)
def test_each_of_several_paths_is_completed_as_one_word(line: str, completed: str) -> None:
    def found(prefix: str) -> list[str]:
        return [name for name in ("my cat.png", "photo.jpg") if prefix and name.startswith(prefix)]

    assert complete(line, found).line == completed
