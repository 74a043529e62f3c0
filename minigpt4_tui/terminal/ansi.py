"""Colours for plain output, from a theme; none where nobody sees them."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from typing import TextIO

RESET = "\x1b[0m"


@dataclass(frozen=True)
class Ink:
    """Escape sequences by role; an empty one leaves text as it is, which is the default.

    Answers have no role: they keep the terminal's own colour, readable on any background.
    """

    prompt_colour: str = ""
    quiet_colour: str = ""
    warning_colour: str = ""

    def prompt(self, text: str) -> str:
        """The prompt; readline is told, by the marks around them, that colours take no room."""
        if not self.prompt_colour:
            return text
        return f"\x01{self.prompt_colour}\x02{text}\x01{RESET}\x02"

    def quiet(self, text: str) -> str:
        """Status lines, on stderr."""
        return _painted(text, self.quiet_colour)

    def warning(self, text: str) -> str:
        """Notices that change what an answer means, on stderr."""
        return _painted(text, self.warning_colour)


def ink_for(theme: str, stdout: TextIO = sys.stdout, stderr: TextIO = sys.stderr) -> Ink:
    """The theme's colours for those of the two streams that are terminals.

    NO_COLOR (no-color.org) and TERM=dumb turn all of them off. Raises UsageError for an
    unknown theme.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return Ink()
    from minigpt4.themes import load_theme

    colours = load_theme(theme)
    noticed = stderr.isatty()
    return Ink(
        prompt_colour=_escape(colours.accent or colours.secondary) if stdout.isatty() else "",
        quiet_colour=_escape(colours.secondary) if noticed else "",
        warning_colour=_escape(colours.warning) if noticed else "",
    )


def _painted(text: str, colour: str) -> str:
    return f"{colour}{text}{RESET}" if colour else text


def _escape(colour: str | None) -> str:
    """The sequence that a `#rrggbb` colour becomes; other forms of colour are left to screens."""
    found = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", colour or "")
    if not found:
        return ""
    red, green, blue = (int(part, 16) for part in found.groups())
    return f"\x1b[38;2;{red};{green};{blue}m"
