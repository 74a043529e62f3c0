"""Copies and saves answers of the plain chat: `/copy` and `/code`."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minigpt4.core.errors import UsageError
from minigpt4.core.prompt import Assistant
from minigpt4.tui.conversation.code_blocks import code_blocks
from minigpt4.tui.conversation.html_page import save_new
from minigpt4.tui.images.attachments import path_in
from minigpt4.tui.terminal.messages import printable, say
from minigpt4.tui.terminal.results import print_answer

if TYPE_CHECKING:
    from minigpt4.tui.cli.chat.plain import PlainChat


def copy(chat: PlainChat, rest: str) -> None:
    """Copy the last answer, as the app does, with OSC 52, which most terminals support."""
    del rest
    answer = next(_answers(chat), None)
    if answer is None:
        raise UsageError("There is no answer yet to copy.")
    if not sys.stdout.isatty():
        raise UsageError("/copy needs a terminal, which has the clipboard.")
    encoded = base64.b64encode(answer.encode(errors="replace")).decode()
    print(f"\x1b]52;c;{encoded}\a", end="", flush=True)
    say("Copied the answer, if this terminal allows it.")


def code(chat: PlainChat, rest: str) -> None:
    """Print the last block of code alone, or save it as the file `rest`."""
    found = next((blocks[-1].code for answer in _answers(chat) if (blocks := code_blocks(answer))), None)
    if found is None:
        raise UsageError("There is no block of code here.")
    if rest:
        path = path_in(rest)
        save_new(found, path)
        say(f"Saved {printable(str(path))}.")
    else:
        print_answer(found if found.endswith("\n") else f"{found}\n")


def _answers(chat: PlainChat) -> Iterator[str]:
    return (one.text for one in reversed(chat.conversation) if isinstance(one, Assistant))
