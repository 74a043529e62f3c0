"""Lines of input: typed at a terminal, where they can be edited, or read from a pipe."""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minigpt4.tui.terminal.messages import say

PROMPT = "> "


def next_line(prompt: str = PROMPT, prefill: str = "") -> str:
    """The next line, which at a terminal begins with `prefill`; raises EOFError at the end.

    `prompt` is PROMPT, colored or not.
    """
    if sys.stdout.isatty() and sys.stdin is not None and sys.stdin.isatty():
        readline = _readline()
        if readline is None:
            return input(PROMPT)
        readline.set_startup_hook(lambda: readline.insert_text(prefill))
        try:
            return input(prompt)
        finally:
            readline.set_startup_hook(None)
    # `input` would write its prompt into whatever stdout is redirected to.
    print(PROMPT, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line


def _readline() -> Any:
    """The module that gives `input` arrow keys and a line history; None if Python was built without it."""
    try:
        return importlib.import_module("readline")
    except ImportError:
        return None


@contextmanager
def saying_if_slow(words: str, seconds: float) -> Iterator[None]:
    """Print `words` if the block takes longer than `seconds`."""
    timer = threading.Timer(seconds, say, [words])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def at_terminal() -> bool:
    """Whether standard input is a terminal, so that the user can be asked."""
    return sys.stdin is not None and sys.stdin.isatty()
