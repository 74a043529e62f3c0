"""The edge of the program: whatever went wrong becomes one line on stderr and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import typer

from minigpt4.core.errors import Minigpt4Error

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130


@dataclass
class Edge:
    """How errors are shown; the command line's own `--debug` sets it while it is parsed."""

    debug: bool = False


def say(line: str) -> None:
    """A line for the person, on stderr, so that stdout holds results alone."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (BrokenPipeError, ValueError):
        # Nobody reads stderr any more; the result on stdout is still wanted.
        return


def say_error(error: BaseException) -> None:
    """The error's own sentences as one line."""
    say(f"minigpt4: {printable(str(error))}")


def printable(text: str) -> str:
    """The text on one line, without the control codes that a file's name may carry to a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


def run_at_edge(command: Callable[[], None], edge: Edge) -> int:
    """Run `command`; return the process's exit code, with errors said in one line."""
    try:
        command()
        sys.stdout.flush()
        return 0
    except BrokenPipeError:
        # `minigpt4 ask ... | head -1`: the reader has what it wanted. Python flushes stdout
        # once more at exit, so it gets somewhere to flush to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except typer.Exit as request:
        return request.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except typer.Abort:
        return INTERRUPTED
    except typer.TyperException as error:
        return _usage(error)
    except Exception as error:
        if edge.debug:
            traceback.print_exc()
        say(f"minigpt4: {sentence(error)}")
        return error.exit_code if isinstance(error, Minigpt4Error) else FAILED


def sentence(error: Exception) -> str:
    """What went wrong and what to do about it, on one line."""
    text = printable(str(error))
    if isinstance(error, Minigpt4Error):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "There is not enough memory; close other programs, or choose a smaller bundle."
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f" while writing '{error.filename}'" if error.filename else ""
        return f"The disk is full{where}; free some space and run the same command again."
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"'{error.filename}' cannot be used: {error.strerror}."
    return (
        f"This is a bug in minigpt4 ({type(error).__name__}: {text or 'no message'}); "
        "`minigpt4 --debug ...` shows where it happened."
    )


def _usage(error: typer.TyperException) -> int:
    message = error.format_message().strip()
    if not message or message.startswith("Usage:"):
        # A group called without a command answers with its help page.
        say(message)
        return WRONG_USAGE
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "minigpt4"
    message = printable(message).rstrip(".")
    message = re.sub(r" \(Possible options: (.*)\)$", r"; did you mean \1?", message)
    stop = "" if message.endswith("?") else "."
    say(f"minigpt4: {message}{stop} `{command} --help` shows what it takes.")
    return error.exit_code
