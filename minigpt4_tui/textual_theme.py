"""Theme files as Textual's themes: checked, so that no file stops the app, and exchanged while it runs.

The contrast of a text with its background is measured as in the Web Content Accessibility Guidelines
(WCAG 2.2, "relative luminance" and "contrast ratio"): from 1 (the same color) to 21 (black on white).
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any, NamedTuple

from textual.app import App
from textual.color import Color, ColorParseError
from textual.design import ColorSystem
from textual.theme import Theme as TextualTheme

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.text import nearest
from minigpt4.themes import Theme, ThemeError, load_theme, theme_files

READABLE = 4.5
"""The minimum contrast of text (success criterion 1.4.3)."""

Rgb = tuple[int, int, int]

TEXT_STYLES = frozenset(
    "none not bold b dim d italic i underline u underline2 uu reverse r strike s blink".split()
)

GROUNDS = ("background", "surface", "panel")
TEXTS = (
    *("foreground", "text", "text-muted", "foreground-muted", "link-color", "footer-key-foreground"),
    *("primary", "secondary", "accent", "success", "warning", "error"),
    *(f"text-{role}" for role in ("primary", "secondary", "accent", "success", "warning", "error")),
    *(f"markdown-h{level}-color" for level in range(1, 7)),
)
"""Variables in whose color widgets write text, on any of `GROUNDS`."""

ON_THEIR_OWN = (
    ("block-cursor-foreground", "block-cursor-background"),
    ("block-cursor-blurred-foreground", "block-cursor-blurred-background"),
    ("input-cursor-foreground", "input-cursor-background"),
    ("input-selection-foreground", "input-selection-background"),
    ("screen-selection-foreground", "screen-selection-background"),
    ("footer-foreground", "footer-background"),
    ("footer-description-foreground", "footer-background"),
    ("link-color-hover", "link-background-hover"),
    *(("button-color-foreground", role) for role in ("primary", "success", "warning", "error")),
    *((f"text-{role}", f"{role}-muted") for role in ("primary", "secondary", "success", "warning", "error")),
)
"""Texts paired with their own backgrounds, which lie over the surface."""

XTERM = (
    *(0x000000, 0xCD0000, 0x00CD00, 0xCDCD00, 0x0000EE, 0xCD00CD, 0x00CDCD, 0xE5E5E5),
    *(0x7F7F7F, 0xFF0000, 0x00FF00, 0xFFFF00, 0x5C5CFF, 0xFF00FF, 0x00FFFF, 0xFFFFFF),
)
"""xterm's ANSI colors, used in place of the terminal's own, which are unknown."""


class Reading(NamedTuple):
    """The contrast of a text on a background; `text` and `ground` are variables of the style sheet."""

    text: str
    ground: str
    ratio: float

    @property
    def is_readable(self) -> bool:
        """Whether it reaches WCAG's minimum for text."""
        return self.ratio >= READABLE


def textual_theme(theme: Theme) -> TextualTheme:
    """The theme as a Textual theme.

    Raises ThemeError for a variable whose value would stop the app when its style sheet is read.
    """
    for name, value in theme.variables.items():
        _check_variable(theme.name, name, value)
    return TextualTheme(**dataclasses.asdict(theme))


def readings(theme: Theme) -> list[Reading]:
    """The contrast of each text on each of its backgrounds, derived colors included.

    The terminal's default text and background color are unknown, and pairs with them are omitted.
    Raises ThemeError as `textual_theme` does.
    """
    variables = textual_theme(theme).to_color_system().generate()
    found = []
    pairs = [(text, ground) for text in TEXTS for ground in GROUNDS]
    for text, ground in (*pairs, *ON_THEIR_OWN):
        ratio = _ratio(variables, text, ground)
        if ratio is not None:
            found.append(Reading(text, ground, ratio))
    return found


def register_theme_file(app: App[Any], name: str) -> str:
    """Read a theme's file and register it with the app; repaint the screen if the theme is in use.

    Returns a sentence about what is wrong with the file, empty if nothing is; an invalid theme is not
    registered, and an earlier version of it stays in place.
    """
    try:
        theme = textual_theme(load_theme(name))
    except Minigpt4Error as problem:
        return str(problem)
    app.register_theme(theme)
    if app.theme == name:
        # Textual does not repaint for a theme of the same name: switch to another one and back.
        app.theme = "textual-dark" if name != "textual-dark" else "textual-light"
        app.theme = name
    return ""


@cache
def _known_variables() -> dict[str, str]:
    """Textual's variables with their default values."""
    return ColorSystem("#777777").generate()


def _check_variable(theme: str, name: str, value: str) -> None:
    where = f"In the theme {theme_files().get(theme, theme)}, variables.{name} = {value!r}"
    known = _known_variables()
    if name not in known:
        near = nearest(name, known, cutoff=0.75)
        if near:
            raise ThemeError(f"{where} has no effect; did you mean '{near}'?")
    elif name.endswith("-style"):
        wrong = [word for word in value.split() if word not in TEXT_STYLES]
        if wrong:
            raise ThemeError(
                f"{where} is not a text style; write words such as bold, underline, reverse or none."
            )
    elif not _is_color(value):
        raise ThemeError(
            f"{where} is not a colour; write one such as #5fa8d3, with ' 35%' after it if you like."
        )


def _is_color(value: str) -> bool:
    if value in ("transparent", "initial"):
        return True
    try:
        _color(value)
    except (ValueError, ColorParseError):
        return False
    return True


def _color(value: str) -> Color:
    """A color with its opacity, as in "#5fa8d3 35%" or "auto 60%"; raises ValueError or ColorParseError."""
    word, _, opacity = value.partition(" ")
    alpha = int(opacity.strip().removesuffix("%")) / 100 if opacity else 1.0
    color = Color(255, 255, 255, auto=True) if word == "auto" else Color.parse(word)
    return color.multiply_alpha(alpha)


def _ratio(variables: dict[str, str], text: str, ground: str) -> float | None:
    below = _drawn(variables["background"], None)
    surface = _drawn(variables["surface"], below)
    behind = _drawn(variables[ground], below if ground in GROUNDS else surface)
    see_through = variables[text] in ("transparent", "initial") or _color(variables[text]).a == 0
    # Textual draws such a text in the color it inherits.
    before = _drawn(variables["foreground" if see_through else text], behind)
    return None if behind is None or before is None else contrast(before, behind)


def _drawn(value: str, below: Rgb | None) -> Rgb | None:
    """The opaque color that results from a variable's value over what lies below it; None if unknown."""
    color = _color(value)
    if color.ansi is not None:
        if color.ansi < 0 or " " in value:  # the terminal's default, or with an opacity
            return None
        rgb = XTERM[color.ansi]
        return rgb >> 16, rgb >> 8 & 255, rgb & 255
    if color.auto or color.a < 1:
        # `+` turns "auto" into black or white, whichever contrasts better.
        return None if below is None else (Color(*below) + color).rgb
    return color.rgb


def contrast_problems(theme: Theme) -> list[str]:
    """Sentences about texts that are hard to read, the worst first."""
    return [
        f"In the theme '{theme.name}', '{found.text}' on '{found.ground}' has a contrast of "
        f"{found.ratio:.1f}; text needs {READABLE}."
        for found in sorted(readings(theme), key=lambda found: found.ratio)
        if not found.is_readable
    ]


def contrast(one: Rgb, other: Rgb) -> float:
    """The contrast ratio of two opaque colours, in either order."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: Rgb) -> float:
    """Relative luminance of an sRGB colour: 0 is black, 1 is white."""
    red, green, blue = (_linear(channel / 255) for channel in color)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4
