"""Messages on stderr, and errors as sentences."""

from __future__ import annotations

import errno
import sys

from minigpt4.core.errors import Minigpt4Error


def say(line: str) -> None:
    """Print a line to stderr, so that stdout has only results."""
    try:
        print(line, file=sys.stderr, flush=True)
    except (BrokenPipeError, ValueError):
        # stderr was closed; the result on stdout is still wanted.
        return


def printable(text: str) -> str:
    """The text on one line, without control codes, which a file's name may contain."""
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(text.split()))


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
