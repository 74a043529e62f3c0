"""ANSI colors for plain output, taken from a theme."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TextIO

RESET = "\x1b[0m"


@dataclass(frozen=True)
class AnsiColors:
    """Escape sequences by role; by default none, which leaves text as it is.

    Answers have no role: they keep the terminal's own color, readable on any background.
    """

    prompt_color: str = ""
    quiet_color: str = ""
    warning_color: str = ""

    def prompt(self, text: str) -> str:
        """The prompt; the marks around each sequence tell readline that it has no width."""
        if not self.prompt_color:
            return text
        return f"\x01{self.prompt_color}\x02{text}\x01{RESET}\x02"

    def quiet(self, text: str) -> str:
        """Status lines, on stderr."""
        return _painted(text, self.quiet_color)

    def warning(self, text: str) -> str:
        """Notices that change what an answer means, on stderr."""
        return _painted(text, self.warning_color)


def ansi_colors(theme: str, stdout: TextIO | None = None, stderr: TextIO | None = None) -> AnsiColors:
    """The theme's colors, for those of the two streams (the standard ones by default) that are terminals.

    NO_COLOR (no-color.org) and TERM=dumb turn them off. Raises UsageError for an unknown theme.
    """
    from minigpt4.themes import load_theme

    colors = load_theme(theme)
    is_colored = takes_color(stderr or sys.stderr)
    return AnsiColors(
        prompt_color=_escape(colors.accent or colors.secondary) if takes_color(stdout or sys.stdout) else "",
        quiet_color=_escape(colors.secondary) if is_colored else "",
        warning_color=_escape(colors.warning) if is_colored else "",
    )


def takes_color(stream: TextIO) -> bool:
    """Whether escape codes for colors may be written to the stream."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _painted(text: str, color: str) -> str:
    return f"{color}{text}{RESET}" if color else text


def _escape(color: str | None) -> str:
    """The escape sequence of a `#rrggbb` color; empty for other forms, which only screens can show."""
    found = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", color or "")
    if not found:
        return ""
    red, green, blue = (int(part, 16) for part in found.groups())
    return f"\x1b[38;2;{red};{green};{blue}m"
