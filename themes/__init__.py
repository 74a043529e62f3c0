"""Colour themes: one TOML file each, ours in this folder, the user's in `config_home()/themes`.

The keys are those of `textual.theme.Theme`, so a theme goes to the screen as
`textual.theme.Theme(**dataclasses.asdict(theme))`; nothing here needs Textual.
A user's file replaces ours of the same name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.core.storage.dataclass_toml import InvalidValueError, bounded, checked_by, load_toml, read
from minigpt4.core.storage.paths import config_home
from minigpt4.core.text import suggestion

FORMS = "#RGB, #RRGGBB, #RRGGBBAA, rgb(255, 255, 255), hsl(360, 100%, 100%) or ansi_NAME"
"""A strict subset of what Textual reads, so that a color that passes can be drawn."""

_HEX = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8})")
_RGB = re.compile(r"rgb\((\d{1,3}), ?(\d{1,3}), ?(\d{1,3})\)")
_HSL = re.compile(r"hsl\((\d{1,3}), ?(\d{1,3})%, ?(\d{1,3})%\)")
_ANSI = re.compile(r"ansi_(?:default|(?:bright_)?(?:black|red|green|yellow|blue|magenta|cyan|white))")


class ThemeError(Minigpt4Error):
    """A theme file is wrong; the message names file, key and value."""


def is_color(text: str) -> bool:
    """Whether `text` is one of `FORMS`, with every number in its range."""
    if _HEX.fullmatch(text) or _ANSI.fullmatch(text):
        return True
    if rgb := _RGB.fullmatch(text):
        return all(int(channel) <= 255 for channel in rgb.groups())
    if hsl := _HSL.fullmatch(text):
        hue, saturation, lightness = map(int, hsl.groups())
        return hue <= 360 and saturation <= 100 and lightness <= 100
    return False


def _color(**default: None) -> Any:
    return checked_by(is_color, f"a colour, written as {FORMS}", **default)


@dataclass(frozen=True, kw_only=True)
class Theme:
    """The fields of `textual.theme.Theme`; a missing color is derived from the others."""

    name: str
    primary: str = _color()
    secondary: str | None = _color(default=None)
    warning: str | None = _color(default=None)
    error: str | None = _color(default=None)
    success: str | None = _color(default=None)
    accent: str | None = _color(default=None)
    foreground: str | None = _color(default=None)
    background: str | None = _color(default=None)
    surface: str | None = _color(default=None)
    panel: str | None = _color(default=None)
    boost: str | None = _color(default=None)
    dark: bool = True
    luminosity_spread: float = bounded(0, 1, default=0.15)
    text_alpha: float = bounded(0, 1, default=0.95)
    variables: dict[str, str] = field(default_factory=dict)
    ansi: bool = False


_VARIABLE_NAME = re.compile(r"[a-z][a-z0-9-]*")
_VARIABLE_VALUE = re.compile(r"[^;{}$\x00-\x1f]+")
"""A value is inserted verbatim into a style sheet; these characters would end the declaration."""
_COLOR_STARTS = ("#", "rgb", "hsl", "ansi_")
"""A text that starts so is meant as a color, so that a mistake in it is reported."""
_OPACITY = re.compile(r" \d{1,3}%$")


def theme_names() -> list[str]:
    """Names of all themes, the user's own included; their files are not read yet."""
    return sorted(theme_files())


def load_theme(name: str) -> Theme:
    """The theme of that name.

    Raises UsageError if there is none (with the nearest name), ThemeError if its file is wrong.
    """
    files = theme_files()
    if name not in files:
        raise UsageError(f"There is no theme '{name}'; {suggestion(name, sorted(files))}")
    return read_theme(files[name])


def read_theme(path: Path) -> Theme:
    """The theme in one TOML file; raises ThemeError naming the file, the key and the value."""
    try:
        theme = read(Theme, load_toml(path, "theme", ThemeError))
    except InvalidValueError as problem:
        raise ThemeError(f"In the theme {path}, {problem}") from problem
    if theme.name != path.stem:
        raise ThemeError(
            f"In the theme {path}, name = {theme.name!r} differs from the file's own name;"
            f" write name = '{path.stem}' or rename the file."
        )
    for name, text in theme.variables.items():
        _check_variable(path, name, text)
    return theme


def own_themes_folder() -> Path:
    """The folder of the user's own themes; it may not exist."""
    return config_home() / "themes"


def theme_files() -> dict[str, Path]:
    """The file of every theme by name; the user's own replace ours."""
    folders = (Path(__file__).parent, own_themes_folder())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def _check_variable(path: Path, name: str, text: str) -> None:
    where = f"In the theme {path}, variables.{name} = {text!r}"
    if not _VARIABLE_NAME.fullmatch(name):
        raise ThemeError(f"{where} has a name that is not lower-case letters, digits and hyphens.")
    if not _VARIABLE_VALUE.fullmatch(text):
        raise ThemeError(f"{where} is not a plain text of one line without ; {{ }} or $.")
    if text.startswith(_COLOR_STARTS) and not is_color(_OPACITY.sub("", text)):
        raise ThemeError(
            f"{where} is not a colour; write {FORMS}, with an opacity such as ' 35%' if you like."
        )
