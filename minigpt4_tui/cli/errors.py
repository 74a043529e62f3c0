"""The edge of the program: an error becomes one line on stderr and an exit code."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.storage.working_folder import has_working_folder
from minigpt4.tui.terminal.messages import WORKING_FOLDER_GONE, printable, say, sentence

if TYPE_CHECKING:
    from typer import TyperException

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130

STREAMS = {"stdin": "r", "stdout": "w", "stderr": "w"}
"""The standard streams in the order of their numbers, and how they are opened."""
HELP = frozenset({"--help", "-h", "--version"})


@dataclass
class Edge:
    """How errors are shown; set while the command line is parsed."""

    debug: bool = False
    command: str = ""


def fill_closed_streams() -> list[str]:
    """Open the null device for every standard stream that the caller closed (`>&-`), and return their names.

    Python sets the stream to None, and the next file to be opened, such as the database, would get its file
    descriptor, in this process or in one that it starts.
    """
    closed = [name for name in STREAMS if getattr(sys, name) is None]
    for name in closed:
        handle = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(handle, True)
        setattr(sys, name, os.fdopen(handle, STREAMS[name]))
    return closed


def require_surroundings(given: Sequence[str], closed: Sequence[str]) -> None:
    """Raise Minigpt4Error before any work that would be lost: stdout is closed, or the working folder gone.

    `given` are the arguments and `closed` the names of the closed streams. Help and version need no folder.
    """
    if "stdout" in closed:
        raise Minigpt4Error(
            "Standard output is closed, so what this prints would be lost; give it a terminal, a pipe, a "
            "file or /dev/null."
        )
    if not has_working_folder() and not HELP.intersection(given):
        raise Minigpt4Error(WORKING_FOLDER_GONE)


def say_error(error: BaseException) -> None:
    """Print the error's own message as one line."""
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
        _settle_output()
        code = _typer_exit_code(error, edge.command)
        if code is not None:
            return code
        if edge.debug:
            traceback.print_exc()
        say(f"minigpt4: {sentence(error)}")
        return error.exit_code if isinstance(error, Minigpt4Error) else FAILED


def _settle_output() -> None:
    """Drop output that cannot be written: Python would flush it again at exit and change the exit code."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


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
