"""The doctor's look at the terminal, at how it can draw pictures, and at the clipboard."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator

from minigpt4.tui.doctor.checks import Finding

LEAST = (80, 24)
"""Columns and rows that every screen is made for."""

HOW_DRAWN = {
    "kitty": "sharp, by kitty's protocol",
    "sixel": "sharp, as sixels",
    "halfblock": "as half-blocks, two pixels a cell",
    "off": "not drawn",
}

CLIPBOARD_TOOLS = {
    "wayland": ("wl-paste", "install wl-clipboard"),
    "x11": ("xclip", "install xclip"),
    "macos": ("osascript", "it comes with macOS"),
}


def terminal() -> Iterator[Finding]:
    """Size, colours and letters."""
    kind = os.environ.get("TERM", "")
    if not sys.stdin.isatty() or not sys.stdout.isatty():
        yield Finding("terminal", "ok", "none here; `chat` goes line by line, as with --plain")
        return
    columns, rows = shutil.get_terminal_size()
    detail = f"{kind or 'TERM is not set'}, {columns}x{rows}, {colours()}"
    if kind in ("", "dumb"):
        yield Finding("terminal", "warning", detail, "`minigpt4 chat --plain` works in any terminal")
    elif (columns, rows) < LEAST or rows < LEAST[1]:
        yield Finding("terminal", "warning", detail, f"make it {LEAST[0]}x{LEAST[1]} or larger")
    else:
        yield Finding("terminal", "ok", detail)
    encoding = (sys.stdout.encoding or "").lower()
    if not encoding.startswith("utf"):
        yield Finding(
            "letters", "warning", f"the locale's encoding is {encoding}", "set LANG to one with UTF-8"
        )


def pictures() -> Iterator[Finding]:
    """How pictures will be drawn, the terminal asked for a moment where only it can tell."""
    from minigpt4.tui.images.terminal_protocol import ask_terminal, cell_size, picture_protocol
    from minigpt4.tui.settings.settings import load_settings

    setting = load_settings().settings.images
    if not sys.stdout.isatty():
        yield Finding("pictures", "ok", f"images = {setting}; no terminal here to draw them")
        return
    ask_terminal(setting).wait()
    protocol, cell = picture_protocol(setting), cell_size()
    chosen = "as found out" if setting == "auto" else "as the settings say"
    detail = f"{HOW_DRAWN[protocol]}, {chosen}; a cell is {cell.width}x{cell.height} pixels"
    if protocol in ("kitty", "sixel") and os.environ.get("TMUX") and setting != "auto":
        yield Finding("pictures", "warning", detail, 'tmux may not pass them on; images = "auto" finds out')
    else:
        yield Finding("pictures", "ok", detail)


def colours() -> str:
    """How many colours the environment says there are."""
    if os.environ.get("NO_COLOR"):
        return "no colour, as NO_COLOR asks"
    if os.environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "16 million colours"
    return "256 colours" if "256" in os.environ.get("TERM", "") else "16 colours"


def clipboard() -> Iterator[Finding]:
    """The tool that reads a picture from the clipboard."""
    desktop = desktop_kind()
    if desktop is None:
        why = "over SSH" if os.environ.get("SSH_CONNECTION") else "no desktop here"
        yield Finding("clipboard", "ok", f"{why}: pictures come by path, drop or picker")
        return
    tool, advice = CLIPBOARD_TOOLS[desktop]
    found = shutil.which(tool)
    if found is None:
        yield Finding("clipboard", "warning", f"no {tool}: pictures cannot be pasted", advice)
    else:
        yield Finding("clipboard", "ok", found)


def desktop_kind() -> str | None:
    """Whose clipboard there is."""
    if sys.platform == "darwin":
        return "macos"
    if os.environ.get("WAYLAND_DISPLAY"):
        return "wayland"
    return "x11" if os.environ.get("DISPLAY") else None
