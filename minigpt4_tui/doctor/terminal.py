"""Checks of the terminal, of how it can draw pictures, and of the clipboard tool."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

from minigpt4.tui.doctor.finding import Finding

MINIMUM_SIZE = (80, 24)
"""Columns and rows that every screen is designed for."""

PROTOCOLS = {
    "kitty": "sharp, with kitty's graphics protocol",
    "sixel": "sharp, as sixels",
    "sextant": "as sextants, six parts a cell",
    "quadrant": "as quadrants, four parts a cell",
    "halfblock": "as half-blocks, two pixels a cell",
    "off": "not drawn",
}


def terminal() -> Iterator[Finding]:
    """Size, colors and encoding."""
    kind = os.environ.get("TERM", "")
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        yield Finding("terminal", "ok", "not a terminal; `chat` works line by line, as with --plain")
        return
    columns, rows = shutil.get_terminal_size()
    detail = f"{kind or 'TERM is not set'}, {columns}x{rows}, {_colors()}"
    if kind in ("", "dumb"):
        yield Finding("terminal", "warning", detail, "`minigpt4 chat --plain` works in any terminal")
    elif columns < MINIMUM_SIZE[0] or rows < MINIMUM_SIZE[1]:
        yield Finding("terminal", "warning", detail, "make it {}x{} or larger".format(*MINIMUM_SIZE))
    else:
        yield Finding("terminal", "ok", detail)
    encoding = (sys.stdout.encoding or "").lower()
    if not encoding.startswith("utf"):
        detail = f"the locale's encoding is {encoding}"
        yield Finding("letters", "warning", detail, "set LANG to a locale with UTF-8")


def _colors() -> str:
    if os.environ.get("NO_COLOR"):
        return "no colors (NO_COLOR is set)"
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "16 million colors"
    return "256 colors" if "256" in os.environ.get("TERM", "") else "16 colors"


def pictures() -> Iterator[Finding]:
    """How pictures will be drawn; the terminal is queried if only it can tell."""
    from minigpt4.tui.images.terminal_protocol import cell_size, picture_protocol, query_terminal
    from minigpt4.tui.settings.settings import load_settings

    setting = load_settings().settings.images
    if not sys.stdout.isatty():
        yield Finding("pictures", "ok", f"images = {setting}; no terminal to draw them in")
        return
    query_terminal(setting)()
    protocol, cell = picture_protocol(setting), cell_size()
    origin = "as detected" if setting == "auto" else "as set"
    detail = f"{PROTOCOLS[protocol]}, {origin}; a cell is {cell.width}x{cell.height} pixels"
    if protocol in ("kitty", "sixel") and os.environ.get("TMUX") and setting != "auto":
        advice = 'tmux may not pass them on; images = "auto" detects that'
        yield Finding("pictures", "warning", detail, advice)
    else:
        yield Finding("pictures", "ok", detail)


def clipboard() -> Iterator[Finding]:
    """The program that reads a picture from the clipboard."""
    from minigpt4.tui.images.clipboard import TOOLS, desktop_kind

    desktop = desktop_kind()
    if desktop is None:
        why = "over SSH" if os.environ.get("SSH_CONNECTION") else "no desktop here"
        yield Finding("clipboard", "ok", f"{why}: attach pictures by path, drop or picker")
        return
    tool = TOOLS.get(desktop)
    program = tool.program if tool else "osascript"
    found = shutil.which(program)
    if found is None:
        advice = f"install {tool.package}" if tool else "it comes with macOS"
        yield Finding("clipboard", "warning", f"no {program}: pictures cannot be pasted", advice)
    else:
        yield Finding("clipboard", "ok", found)
