"""Messages on stderr, and errors as sentences."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.storage.working_folder import has_working_folder
from minigpt4.tui.terminal.ansi import takes_color

WORKING_FOLDER_GONE = "The folder this runs in is gone; cd to another one and run the command again."

_COLOR = re.compile(r"(\x1b\[[0-9;]*m)")


def say(line: str, end: str = "\n") -> None:
    """Print a line to stderr, so that stdout has only results.

    Control codes, which a file's name may contain, are replaced; colors stay where the terminal shows them.
    """
    try:
        parts = _COLOR.split(line) if takes_color(sys.stderr) else [line]
        shown = "".join(part if place % 2 else _without_controls(part) for place, part in enumerate(parts))
        print(shown, file=sys.stderr, end=end, flush=True)
    except ValueError:
        return
    except OSError:
        # stderr is closed or its disk is full; the result on stdout is still wanted. Python flushes stderr
        # once more at exit, and would then exit with a code of its own.
        if sys.stderr is sys.__stderr__:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def shown_name(name: str | Path) -> str:
    """The name of a file on one line, with a question mark for every control code and line end."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(name))


def printable(text: str) -> str:
    """The text on one line, without control codes, which a file's name may contain."""
    return shown_name(" ".join(text.split()))


def shell_command(words: Iterable[str | Path]) -> str:
    """A command to copy into a shell, on one line: control codes in $'...', as bash and zsh read them."""
    return " ".join(_shell_word(str(word)) for word in words)


def sentence(error: Exception) -> str:
    """What went wrong and what to do about it, on one line."""
    text = printable(str(error))
    if isinstance(error, Minigpt4Error):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return "There is not enough memory; close other programs, or choose a smaller bundle."
    if isinstance(error, OSError) and error.errno and error.strerror:
        return _system_sentence(error)
    return (
        f"This is a bug in minigpt4 ({type(error).__name__}: {text or 'no message'}); "
        "`minigpt4 --debug ...` shows where it happened."
    )


def _system_sentence(error: OSError) -> str:
    """What the system refused, and for which file."""
    name = error.filename if error.filename is None else shown_name(str(error.filename))
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = f" while writing '{name}'" if name else ""
        return f"The disk is full{where}; free some space and run the same command again."
    is_relative = error.filename is None or not Path(str(error.filename)).is_absolute()
    if isinstance(error, FileNotFoundError) and is_relative and not has_working_folder():
        return WORKING_FOLDER_GONE
    if name is not None:
        return f"'{name}' cannot be used: {error.strerror}."
    if error.errno in (errno.EBADF, errno.EIO):
        return f"What was to be printed could not be written: {error.strerror}; try it with another output."
    return f"The system refused something: {error.strerror}; `minigpt4 --debug ...` shows what."


def _without_controls(text: str) -> str:
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "?" for letter in text)


def _shell_word(word: str) -> str:
    import shlex  # only for the rare command that is suggested

    if word.isprintable():
        return shlex.quote(word)
    letters = (
        "".join(f"\\x{byte:02x}" for byte in os.fsencode(letter))
        if letter in "\\'" or not letter.isprintable()
        else letter
        for letter in word
    )
    return f"$'{''.join(letters)}'"
