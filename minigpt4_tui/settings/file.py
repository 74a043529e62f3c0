"""`settings.toml` in the configuration folder: read whole, and changed one key at a time, comments kept."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.paths import config_home

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

FIRST_LINES = "# minigpt4's settings. `minigpt4 config show --about` lists them all.\n\n"


class SettingsError(Minigpt4Error):
    """The settings file cannot be read, or cannot be changed; it is left as it is."""


def settings_path() -> Path:
    """Where the settings are; there may be no such file yet."""
    return config_home() / "settings.toml"


def read_settings_file(path: Path) -> dict[str, Any]:
    """The file's tables; empty where there is none. Raises SettingsError where it cannot be read."""
    return _parsed(_text(path), path)


def write_setting(path: Path, key: str, value: object) -> None:
    """Set `key` ("theme", or "keys.send" in a table) and leave everything else, comments too, as it is.

    None takes the key out. A link is followed, so that settings kept elsewhere stay there. Raises
    SettingsError where the file does not parse, or the folder cannot be written; nothing is changed then.
    """
    import tomlkit

    target = path.resolve()
    text = _text(target)
    wanted = _parsed(text, path)
    _put(wanted, key.split("."), value)
    document = tomlkit.parse(text) if text is not None else tomlkit.parse(FIRST_LINES)
    _put(document, key.split("."), value)
    changed = tomlkit.dumps(document)
    if _parsed(changed, path) != wanted:
        raise SettingsError(
            f"{key} cannot be changed in {path} without harm to its other lines; edit it by hand."
        )
    try:
        mode = stat.S_IMODE(target.stat().st_mode) if target.exists() else None
        with replacing(target) as draft:
            draft.write_bytes(changed.encode("utf-8"))
        if mode is not None:
            target.chmod(mode)
    except OSError as problem:
        raise SettingsError(
            f"The settings {path} cannot be written: {problem.strerror or problem}; what was changed holds "
            "until you leave."
        ) from problem


def _text(path: Path) -> str | None:
    try:
        # Line ends as they are: a file from another system keeps its own.
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise SettingsError(
            f"The settings {path} cannot be read: {problem.strerror or problem}."
        ) from problem
    except UnicodeDecodeError as problem:
        raise SettingsError(
            f"The settings {path} are not UTF-8 text ({problem.reason}); save them as such."
        ) from problem


def _parsed(text: str | None, path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(text or "")
    except ValueError as problem:
        # TOMLDecodeError, or plain ValueError for a number of thousands of digits.
        raise SettingsError(
            f"The settings {path} are not valid TOML: {problem}; correct them by hand."
        ) from problem
    except RecursionError as problem:
        raise SettingsError(f"The settings {path} are nested too deep; correct them by hand.") from problem


def _put(table: dict[str, Any] | TOMLDocument, names: list[str], value: object) -> None:
    """Set or, for None, remove what the names lead to; an empty table that is left over stays."""
    *outer, last = names
    for name in outer:
        if name not in table and value is None:
            return
        table = table.setdefault(name, {})
    if value is None:
        table.pop(last, None)
    elif isinstance(value, Mapping):
        table[last] = {name: list(item) for name, item in value.items()}
    else:
        table[last] = list(value) if isinstance(value, tuple) else value
