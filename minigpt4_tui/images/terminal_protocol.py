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

Protocol = Literal["kitty", "sixel", "sextant", "quadrant", "halfblock", "off"]

WAIT_S = 0.2
REMOTE_WAIT_S = 1.0
"""Timeouts of the terminal's reply, the second one over SSH. Nearly every terminal replies at once."""

QUERY = "\x1b[16t\x1b[c"
"""Queries of the cell size and of the device attributes. Every terminal replies to the second one."""

SIXEL = 4
"""The attribute of a terminal that draws sixels (DEC STD 070)."""

FONT_DRAWN = ("linux", "st-", "stterm", "rxvt", "putty", "eterm", "cons25")
"""Beginnings of TERM where block characters come from a font; the Linux console's has at most 512 glyphs."""

VTE_SEXTANTS = 6200
"""VTE_VERSION from which VTE draws sextants."""

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
    """What the terminal of this process reported."""

    features = TerminalFeatures()


def picture_protocol(setting: str, environment: Mapping[str, str] | None = None) -> Protocol:
    """The protocol for a value of the setting `images`; auto depends on the terminal."""
    match setting:
        case "kitty" | "sixel" | "sextant" | "quadrant" | "halfblock" | "off":
            return setting
    found = os.environ if environment is None else environment
    if _has_kitty(found):
        return "kitty"
    return "sixel" if _Reported.features.sixel else _blocks(found)


def query_terminal(setting: str) -> Callable[[], None]:
    """Query the terminal's features on a thread, unless the setting or the environment decides.

    Returns a function that waits for the reply or its timeout; then the keyboard can be read again.
    """
    if setting not in ("auto", "sixel") or _is_known(os.environ):
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


def _has_kitty(environment: Mapping[str, str]) -> bool:
    # In tmux the other variables may be those of the terminal it was started in.
    return not environment.get("TMUX") and (
        any(name in environment.get("TERM", "") for name in ("kitty", "ghostty"))
        or _program(environment) == "ghostty"
        or "KITTY_WINDOW_ID" in environment
    )


def _is_known(environment: Mapping[str, str]) -> bool:
    """Whether the environment determines sixel support, so that no query is needed."""
    if _has_kitty(environment):
        return True
    terminal = environment.get("TERM", "")
    is_plain = terminal in ("", "dumb", "linux") or terminal.startswith("screen")
    return not environment.get("TMUX") and (is_plain or _program(environment) == "apple_terminal")


def _program(environment: Mapping[str, str]) -> str:
    return environment.get("TERM_PROGRAM", "").lower()


def _blocks(environment: Mapping[str, str]) -> Protocol:
    """The finest block characters that the terminal draws without gaps and without looking for a font.

    Half-blocks have been in fonts since the DOS code pages; many fonts lack quadrants, and nearly all lack
    sextants, which VTE (GNOME's terminal) draws itself since version 0.62. Most terminals draw quadrants
    themselves; those below do not, and a missing one would be a box or too wide.
    """
    terminal = environment.get("TERM", "")
    is_in_another = bool(environment.get("TMUX")) or terminal.startswith("screen")
    if not _writes_utf8() or terminal in ("", "dumb") or terminal.startswith(FONT_DRAWN):
        return "halfblock"
    if _program(environment) == "apple_terminal" and not is_in_another:
        return "halfblock"
    version = environment.get("VTE_VERSION", "")
    if version.isdecimal() and int(version) >= VTE_SEXTANTS and not is_in_another:
        return "sextant"
    return "quadrant"


def _writes_utf8() -> bool:
    encoding = sys.__stdout__.encoding if sys.__stdout__ is not None else ""
    return (encoding or "").lower().replace("-", "") == "utf8"


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
    """The cell size; None for sizes that no font has, as some terminals report."""
    return CellSize(width, height) if 2 <= width <= 200 and 2 <= height <= 400 else None
