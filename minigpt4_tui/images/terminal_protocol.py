"""How the terminal can draw pictures, and how many pixels a cell of it has.

Kitty and Ghostty are known by their environment; whether a terminal draws sixels it says itself, in its
answer to "what are you?" (DA1). It is asked once, before the screen takes the keyboard, for a bounded
time, and while the screen's modules are imported, so that a terminal without an answer costs nothing:

    question = ask_terminal(settings.images)
    ...                          # import the screen
    question.wait()
    picture_protocol("auto")     # from now on, at no cost
"""

from __future__ import annotations

import os
import re
import select
import struct
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Protocol = Literal["kitty", "sixel", "halfblock", "off"]

WAIT_S = 0.2
REMOTE_WAIT_S = 1.0
"""Longest wait for the terminal's answer; the second over SSH. Nearly every terminal answers at once."""

QUESTION = "\x1b[16t\x1b[c"
"""How large is a cell, and what are you? All answer the second, so nobody waits for the first."""

SIXEL = 4
"""What a terminal that draws sixels has among the numbers of its answer (DEC STD 070)."""

_WHAT_IT_IS = re.compile(rb"\x1b\[\?([\d;]*)c")
_CELL = re.compile(rb"\x1b\[6;(\d{1,4});(\d{1,4})t")


@dataclass(frozen=True)
class CellSize:
    """Pixels of one cell."""

    width: int
    height: int


USUAL_CELL = CellSize(10, 20)
"""If the terminal does not report it: a VT340's, and the shape of most fonts."""


@dataclass(frozen=True)
class Answer:
    """What the terminal said of itself; nothing, where it was silent or was not asked."""

    sixel: bool = False
    cell: CellSize | None = None


class Question:
    """A question that the terminal may be answering; `wait` keeps the answer for the whole process."""

    def __init__(self, thread: threading.Thread | None = None) -> None:
        self._thread = thread

    def wait(self) -> None:
        """Return when the answer is here, or its time is over. The keyboard is the caller's again."""
        if self._thread is not None:
            self._thread.join()


class _Known:
    """The terminal is the process's, and so is what it said."""

    answer = Answer()


def picture_protocol(setting: str, environment: Mapping[str, str] | None = None) -> Protocol:
    """How pictures are drawn under that setting (`images`); auto goes by what the terminal can do."""
    match setting:
        case "kitty" | "sixel" | "halfblock" | "off":
            return setting
    known = _from_environment(os.environ if environment is None else environment)
    if known is not None:
        return known
    return "sixel" if _Known.answer.sixel else "halfblock"


def ask_terminal(setting: str) -> Question:
    """Ask the terminal about sixels and its cells, if neither setting nor environment decides."""
    if setting not in ("auto", "sixel") or _from_environment(os.environ) is not None:
        return Question()
    if not (sys.__stdin__ and sys.__stdout__ and sys.__stdin__.isatty() and sys.__stdout__.isatty()):
        return Question()
    remote = any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY"))
    wait_s = REMOTE_WAIT_S if remote else WAIT_S
    # Not a daemon: the terminal gets its old mode back, whatever happens to the program meanwhile.
    thread = threading.Thread(target=_ask, args=(sys.__stdin__.fileno(), sys.__stdout__.fileno(), wait_s))
    thread.start()
    return Question(thread)


def cell_size() -> CellSize:
    """Pixels of a cell now: as the system knows them, as the terminal said, or as usual."""
    return _cell_of_system() or _Known.answer.cell or USUAL_CELL


def read_answer(received: bytes) -> Answer:
    """What the bytes that came back mean."""
    numbers = [
        int(number) for found in _WHAT_IT_IS.findall(received) for number in found.split(b";") if number
    ]
    cell = _CELL.search(received)
    # The first number is the class of terminal, not something that it can do.
    return Answer(SIXEL in numbers[1:], _sound(int(cell[2]), int(cell[1])) if cell else None)


def _from_environment(environment: Mapping[str, str]) -> Protocol | None:
    """None where only the terminal itself can tell."""
    terminal = environment.get("TERM", "")
    program = environment.get("TERM_PROGRAM", "").lower()
    if environment.get("TMUX"):
        # Its variables may be those of the terminal that it was started in. It answers for itself.
        return None
    if (
        "kitty" in terminal
        or "ghostty" in terminal
        or program == "ghostty"
        or "KITTY_WINDOW_ID" in environment
    ):
        return "kitty"
    if terminal in ("", "dumb", "linux") or terminal.startswith("screen") or program == "apple_terminal":
        return "halfblock"
    return None


def _ask(keyboard: int, screen: int, wait_s: float) -> None:
    try:
        import termios
    except ImportError:  # Windows has no such terminals
        return
    try:
        before = termios.tcgetattr(keyboard)
        quiet = [*before]
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(keyboard, termios.TCSANOW, quiet)
        try:
            os.write(screen, QUESTION.encode())
            _Known.answer = read_answer(_listen(keyboard, wait_s))
        finally:
            termios.tcsetattr(keyboard, termios.TCSANOW, before)
    except (OSError, ValueError, termios.error):
        # A terminal that went away, or one that cannot be set: it is as silent as any other.
        return


def _listen(keyboard: int, wait_s: float) -> bytes:
    received = b""
    end = time.monotonic() + wait_s
    while not _WHAT_IT_IS.search(received):
        ready, _, _ = select.select([keyboard], [], [], max(0.0, end - time.monotonic()))
        piece = os.read(keyboard, 1024) if ready else b""
        if not piece:
            break
        received += piece
    return received


def _cell_of_system() -> CellSize | None:
    try:
        import fcntl
        import termios
    except ImportError:
        return None
    for stream in (sys.__stdout__, sys.__stderr__, sys.__stdin__):
        try:
            reply = fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, bytes(8)) if stream else bytes(8)
        except (OSError, ValueError):
            continue
        rows, columns, width, height = struct.unpack("HHHH", reply)
        if rows and columns and (found := _sound(width // columns, height // rows)):
            return found
    return None


def _sound(width: int, height: int) -> CellSize | None:
    """None for sizes that no font has: some terminals make them up."""
    return CellSize(width, height) if 2 <= width <= 200 and 2 <= height <= 400 else None
