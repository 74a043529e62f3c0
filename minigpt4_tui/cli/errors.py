"""The edge of the program: an error becomes one line on stderr and an exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.terminal.messages import printable, say, sentence

if TYPE_CHECKING:
    from typer import TyperException

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130


@dataclass
class Edge:
    """How errors are shown; set while the command line is parsed."""

    debug: bool = False
    command: str = ""


def fill_closed_streams() -> None:
    """Open the null device for a standard stream that the caller closed (`>&-`).

    Python sets it to None, and the next file to be opened, such as the database, would get its number.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def say_error(error: BaseException) -> None:
    """The error's own sentences as one line."""
    say(f"minigpt4: {printable(str(error))}")


def run_at_edge(command: Callable[[], int | None], edge: Edge) -> int:
    """Run `command`, print an error as one line, and return the exit code of the process (None is 0)."""
    try:
        code = command()
        sys.stdout.flush()
        return code or 0
    except BrokenPipeError:
        # `minigpt4 ask ... | head -1`: the reader has finished. Python flushes stdout once more at exit,
        # for which it needs an open file.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        code = _typer_exit_code(error, edge.command)
        if code is not None:
            return code
        if edge.debug:
            traceback.print_exc()
        say(f"minigpt4: {sentence(error)}")
        return error.exit_code if isinstance(error, Minigpt4Error) else FAILED


def _typer_exit_code(error: Exception, called: str) -> int | None:
    """The exit code of typer's own exceptions; None for others."""
    if "typer" not in sys.modules:
        return None
    import typer

    match error:
        case typer.Exit():
            return error.exit_code
        case typer.Abort():
            return INTERRUPTED
        case typer.TyperException():
            return _usage(error, called)
    return None


def _usage(error: TyperException, called: str) -> int:
    message = error.format_message().strip()
    if not message or message.startswith("Usage:"):
        # A group called without a command answers with its help page.
        say(message)
        return WRONG_USAGE
    context = getattr(error, "ctx", None)
    # An option without its value is refused before the command has a context.
    command = context.command_path if context is not None else f"minigpt4 {called}".strip()
    message = printable(message).rstrip(".")
    message = re.sub(r" \(Possible options: (.*)\)$", r"; did you mean \1?", message)
    stop = "" if message.endswith("?") else "."
    say(f"minigpt4: {message}{stop} `{command} --help` shows what it takes.")
    return error.exit_code
