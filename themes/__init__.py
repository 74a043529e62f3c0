"""Colour themes: one TOML file each, ours in this folder, the user's in `config_home()/themes`.

The keys are those of `textual.theme.Theme`, so a theme goes to the screen as
`textual.theme.Theme(**dataclasses.asdict(theme))`; nothing here needs Textual.
A user's file of the same name stands in for ours.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.core.paths import config_home
from minigpt4.core.text import suggestion
from minigpt4.themes.color import FORMS, is_color, looks_like_color


class ThemeError(Minigpt4Error):
    """A theme file is wrong; the message names file, key and value."""


@dataclass(frozen=True, kw_only=True)
class Theme:
    """What `textual.theme.Theme` takes; a colour left out is derived from the others."""

    name: str
    primary: str
    secondary: str | None = None
    warning: str | None = None
    error: str | None = None
    success: str | None = None
    accent: str | None = None
    foreground: str | None = None
    background: str | None = None
    surface: str | None = None
    panel: str | None = None
    boost: str | None = None
    dark: bool = True
    luminosity_spread: float = 0.15
    text_alpha: float = 0.95
    variables: dict[str, str] = field(default_factory=dict)
    ansi: bool = False


_KEYS = tuple(entry.name for entry in fields(Theme))
_VARIABLE_NAME = re.compile(r"[a-z][a-z0-9-]*")
_VARIABLE_VALUE = re.compile(r"[^;{}$\x00-\x1f]+")
"""A value stands in a style sheet as it is; these characters would end the declaration."""
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
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ThemeError(f"The theme {path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ThemeError(f"The theme {path} is not valid TOML: {error}.") from error
    for key, value in table.items():
        _check(path, key, value)
    for key in ("name", "primary"):
        if key not in table:
            raise ThemeError(f"The theme {path} has no '{key}'; add one.")
    if table["name"] != path.stem:
        raise ThemeError(
            f"In the theme {path}, name = {table['name']!r} differs from the file's own name;"
            f" write name = '{path.stem}' or rename the file."
        )
    return Theme(**table)


def own_themes_folder() -> Path:
    """Where the user's own themes lie; there may be no such folder yet."""
    return config_home() / "themes"


def theme_files() -> dict[str, Path]:
    """The file of every theme by name; the user's own stand in for ours."""
    folders = (Path(__file__).parent, own_themes_folder())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def _check(path: Path, key: str, value: object) -> None:
    """Raise ThemeError unless `value` may stand under `key`."""
    if key not in _KEYS:
        hint = suggestion(key, _KEYS)
        raise ThemeError(f"In the theme {path}, {key} = {value!r} is not a key of a theme; {hint}")
    problem = _problem(key, value)
    if problem:
        raise ThemeError(f"In the theme {path}, {key} = {value!r} is not {problem}.")
    if isinstance(value, Mapping):
        for name, text in value.items():
            _check_variable(path, name, text)


def _problem(key: str, value: object) -> str | None:
    """What the value of a known key should be and is not; None where all is well."""
    match key:
        case "name":
            return None if isinstance(value, str) else "a text"
        case "dark" | "ansi":
            return None if isinstance(value, bool) else "true or false"
        case "variables":
            return None if isinstance(value, dict) else "a table; write [variables] above its lines"
        case "luminosity_spread" | "text_alpha":
            return None if _is_share(value) else "a number from 0 to 1"
        case _:
            return None if isinstance(value, str) and is_color(value) else f"a colour; write {FORMS}"


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _check_variable(path: Path, name: str, text: object) -> None:
    where = f"In the theme {path}, variables.{name} = {text!r}"
    if not _VARIABLE_NAME.fullmatch(name):
        raise ThemeError(f"{where} has a name that is not lower-case letters, digits and hyphens.")
    if not isinstance(text, str) or not _VARIABLE_VALUE.fullmatch(text):
        raise ThemeError(f"{where} is not a plain text of one line without ; {{ }} or $.")
    if looks_like_color(text) and not is_color(_OPACITY.sub("", text)):
        raise ThemeError(
            f"{where} is not a colour; write {FORMS}, with an opacity such as ' 35%' if you like."
        )
