"""`settings.toml` in the configuration folder: read whole, and changed one key at a time, comments kept."""

from __future__ import annotations

import stat
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.dataclass_toml import load_toml
from minigpt4.core.storage.paths import config_home

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

FIRST_LINES = "# minigpt4's settings. `minigpt4 config show --about` lists them all.\n\n"


class SettingsError(Minigpt4Error):
    """The settings file cannot be read, or cannot be changed; it is left as it is."""


def settings_path() -> Path:
    """The settings file; it may not exist yet."""
    return config_home() / "settings.toml"


def read_settings_file(path: Path) -> dict[str, Any]:
    """The file's tables; empty if it does not exist. Raises SettingsError if it cannot be read."""
    return load_toml(path, "settings file", SettingsError, missing_ok=True)


def write_setting(path: Path, key: str, value: object) -> None:
    """Set `key` ("theme", or "keys.send" in a table) and leave everything else, comments too, as it is.

    None removes the key. A link is followed, so that settings kept elsewhere stay there. Raises
    SettingsError, and changes nothing, if the file does not parse or the folder cannot be written.
    """
    import tomlkit

    wanted = read_settings_file(path)
    table, _, inner = key.partition(".")
    if inner and not isinstance(wanted.get(table, {}), dict):
        raise SettingsError(f"In {path}, {table} is not a table, so {key} cannot be set; correct it by hand.")
    target = path.resolve()
    # Bytes: line endings, too, are left as they are.
    text = target.read_bytes().decode("utf-8-sig") if target.exists() else FIRST_LINES
    document = tomlkit.parse(text)
    for changing in (wanted, document):
        _put(changing, key.split("."), value)
    changed = tomlkit.dumps(document)
    if tomllib.loads(changed) != wanted:
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
            f"The settings file {path} cannot be written: {problem.strerror or problem}; the change holds "
            "until you leave."
        ) from problem


def _put(table: dict[str, Any] | TOMLDocument, names: list[str], value: object) -> None:
    """Set or, for None, remove the key at the end of `names`; a table that becomes empty stays."""
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
