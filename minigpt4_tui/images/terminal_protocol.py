"""How the terminal can draw images, and how many pixels its cells have.

Kitty and Ghostty are recognized by their environment; support for sixels is in a terminal's reply to a query
of its device attributes (DA1). It is queried once, before the app reads the keyboard, with a timeout, and
while the app's modules are imported, so that a terminal without a reply costs nothing:

    wait_for_reply = query_terminal(settings.images)
    ...                          # import the app
    wait_for_reply()
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Protocol = Literal["kitty", "sixel", "halfblock", "off"]

WAIT_S = 0.2
REMOTE_WAIT_S = 1.0
"""Timeouts of the terminal's reply, the second one over SSH. Nearly every terminal replies at once."""

QUERY = "\x1b[16t\x1b[c"
"""Queries of the cell size and of the device attributes. Every terminal replies to the second one."""

SIXEL = 4
"""The attribute of a terminal that draws sixels (DEC STD 070)."""

_ATTRIBUTES = re.compile(rb"\x1b\[\?([\d;]*)c")
_CELL = re.compile(rb"\x1b\[6;(\d{1,4});(\d{1,4})t")


@dataclass(frozen=True)
class CellSize:
    """Pixels of one cell."""

    width: int
    height: int


USUAL_CELL = CellSize(10, 20)
"""The size that is assumed if it is unknown: a VT340's, with the aspect ratio of most fonts."""


@dataclass(frozen=True)
class TerminalFeatures:
    """What the terminal reported; the defaults if it did not answer or was not queried."""

    sixel: bool = False
    cell: CellSize | None = None


class _Reported:
    """The process has one terminal."""

    features = TerminalFeatures()


def picture_protocol(setting: str, environment: Mapping[str, str] | None = None) -> Protocol:
    """The protocol of a value of the setting `images`; auto depends on the terminal."""
    match setting:
        case "kitty" | "sixel" | "halfblock" | "off":
            return setting
    known = _from_environment(os.environ if environment is None else environment)
    if known is not None:
        return known
    return "sixel" if _Reported.features.sixel else "halfblock"


def query_terminal(setting: str) -> Callable[[], None]:
    """Query the terminal's features on a thread, unless the setting or the environment decides.

    Returns a function that waits for the reply or its timeout; then the keyboard can be read again.
    """
    if setting not in ("auto", "sixel") or _from_environment(os.environ) is not None:
        return lambda: None
    if not (sys.__stdin__ and sys.__stdout__ and sys.__stdin__.isatty() and sys.__stdout__.isatty()):
        return lambda: None
    remote = any(os.environ.get(name) for name in ("SSH_CONNECTION", "SSH_TTY"))
    wait_s = REMOTE_WAIT_S if remote else WAIT_S
    # Not a daemon: the terminal's mode is restored, whatever happens to the program meanwhile.
    thread = threading.Thread(target=_query, args=(sys.__stdin__.fileno(), sys.__stdout__.fileno(), wait_s))
    thread.start()
    return thread.join


def cell_size() -> CellSize:
    """The current size of a cell: from the system, from the terminal's reply, or the usual one."""
    return _cell_of_system() or _Reported.features.cell or USUAL_CELL


def parse_features(received: bytes) -> TerminalFeatures:
    """Parse the terminal's reply."""
    numbers = [
        int(number) for found in _ATTRIBUTES.findall(received) for number in found.split(b";") if number
    ]
    cell = _CELL.search(received)
    # The first number is the terminal's class, not a feature.
    return TerminalFeatures(SIXEL in numbers[1:], _plausible(int(cell[2]), int(cell[1])) if cell else None)


def _from_environment(environment: Mapping[str, str]) -> Protocol | None:
    """The protocol that the environment implies; None if only the terminal itself can tell."""
    terminal = environment.get("TERM", "")
    program = environment.get("TERM_PROGRAM", "").lower()
    if environment.get("TMUX"):
        # The other variables may be those of the terminal it was started in. tmux replies for itself.
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


def _query(keyboard: int, screen: int, wait_s: float) -> None:
    try:
        import termios
    except ImportError:  # Windows
        return
    try:
        before = termios.tcgetattr(keyboard)
        quiet = [*before]
        quiet[3] &= ~(termios.ECHO | termios.ICANON)
        termios.tcsetattr(keyboard, termios.TCSANOW, quiet)
        try:
            os.write(screen, QUERY.encode())
            _Reported.features = parse_features(_listen(keyboard, wait_s))
        finally:
            termios.tcsetattr(keyboard, termios.TCSANOW, before)
    except (OSError, ValueError, termios.error):
        # The terminal was closed or its mode cannot be set: treated as one without a reply.
        return


def _listen(keyboard: int, wait_s: float) -> bytes:
    received = b""
    end = time.monotonic() + wait_s
    while not _ATTRIBUTES.search(received):
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
        if rows and columns and (found := _plausible(width // columns, height // rows)):
            return found
    return None


def _plausible(width: int, height: int) -> CellSize | None:
    """None for sizes that no font has, as some terminals report."""
    return CellSize(width, height) if 2 <= width <= 200 and 2 <= height <= 400 else None
