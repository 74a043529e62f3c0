"""Manifests as TOML: tables read strictly, where a wrong key names itself, and bundles written."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt4.core.atomic import replacing
from minigpt4.core.errors import BundleError
from minigpt4.core.text import nearest

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from minigpt4.core.bundles.bundle import Bundle


class Table:
    """One table of a manifest, which knows its file and the dotted name of each of its keys.

    Read every key with the typed methods, then call `close`: keys that nobody read are
    refused there, so no manifest can hold a setting that does nothing.
    """

    def __init__(self, values: Mapping[str, object], path: Path, prefix: str = "") -> None:
        self.path = path
        self._values = values
        self._prefix = prefix
        self._read: list[str] = []

    def error(self, key: str, problem: str) -> BundleError:
        """A BundleError about one key of this table."""
        return BundleError(f"{self.path}: '{self._prefix}{key}' {problem}.")

    def has(self, key: str) -> bool:
        """Whether an optional key is given."""
        if key not in self._read:
            self._read.append(key)
        return key in self._values

    def text(self, key: str) -> str:
        """A text that is not empty."""
        value = self._value(key)
        if not isinstance(value, str):
            raise self._wrong_type(key, value, "a text")
        if not value.strip():
            raise self.error(key, "is empty")
        return value

    def truth(self, key: str) -> bool:
        """True or false."""
        value = self._value(key)
        if not isinstance(value, bool):
            raise self._wrong_type(key, value, "true or false")
        return value

    def integer(self, key: str, *, least: int) -> int:
        """A whole number of at least `least`."""
        value = self._value(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong_type(key, value, "a whole number")
        if value < least:
            raise self.error(key, f"is {value}; it must be at least {least}")
        return value

    def number(self, key: str, *, least: float, most: float) -> float:
        """A number between `least` and `most`, both included."""
        return self._as_number(key, self._value(key), least, most)

    def triple(self, key: str, *, least: float, most: float) -> tuple[float, float, float]:
        """Three numbers, one a colour channel."""
        value = self._value(key)
        if not isinstance(value, list) or len(value) != 3:
            raise self._wrong_type(key, value, "a list of three numbers")
        red, green, blue = (self._as_number(key, item, least, most) for item in value)
        return red, green, blue

    def table(self, key: str) -> Table:
        """The table under `key`; close it as well."""
        value = self._value(key)
        if not isinstance(value, dict):
            raise self._wrong_type(key, value, f"a table: [{self._prefix}{key}]")
        return Table(value, self.path, f"{self._prefix}{key}.")

    def holds_table(self, key: str) -> bool:
        """Whether `key` is given as a table, where it may be a text as well."""
        return self.has(key) and isinstance(self._values[key], dict)

    def tables(self, key: str) -> list[Table]:
        """A list of at least one table; close each."""
        value = self._value(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise self._wrong_type(key, value, f"a list of tables: [[{self._prefix}{key}]]")
        if not value:
            raise self.error(key, "is an empty list")
        return [
            Table(item, self.path, f"{self._prefix}{key}[{position}].") for position, item in enumerate(value)
        ]

    def scalars(self) -> dict[str, int | float | str | bool]:
        """Every key of a free-form table; the reader of the values judges their names."""
        options: dict[str, int | float | str | bool] = {}
        for key, value in self._values.items():
            if not isinstance(value, bool | int | float | str):
                raise self._wrong_type(key, value, "a text, a number, true or false")
            options[key] = value
        self._read = list(options)
        return options

    def close(self) -> None:
        """Refuse keys that were not read; raises BundleError with the nearest known name."""
        for key in self._values:
            if key not in self._read:
                near = nearest(key, self._read)
                advice = f"did you mean '{near}'?" if near else f"known here: {', '.join(self._read)}"
                raise self.error(key, f"is not a known key; {advice}")

    def _value(self, key: str) -> object:
        if not self.has(key):
            strays = [name for name in self._values if name not in self._read]
            near = nearest(key, strays)
            hint = f" (there is '{near}': a misspelling?)" if near else ""
            raise self.error(key, f"is missing{hint}")
        return self._values[key]

    def _as_number(self, key: str, value: object, least: float, most: float) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self._wrong_type(key, value, "a number")
        if not least <= value <= most:
            raise self.error(key, f"is {value}; it must lie between {least:g} and {most:g}")
        return float(value)

    def _wrong_type(self, key: str, value: object, expected: str) -> BundleError:
        return self.error(key, f"must be {expected}, not {value!r}")


def read_manifest(path: Path) -> Table:
    """The top table of a TOML file; raises BundleError if it cannot be read or parsed."""
    try:
        return Table(tomllib.loads(path.read_text(encoding="utf-8")), path)
    except OSError as problem:
        raise BundleError(f"{path}: cannot be read: {problem.strerror}.") from problem
    except UnicodeDecodeError as problem:
        raise BundleError(f"{path}: is not UTF-8 text; save it as UTF-8.") from problem
    except tomllib.TOMLDecodeError as problem:
        raise BundleError(f"{path}: is not valid TOML: {problem}.") from problem


def write_manifest(bundle: Bundle, path: Path) -> None:
    """Write a bundle as a manifest that `load_bundle` reads back as the same bundle.

    The bundle's name is the file's: `path` should end in NAME.toml. Paths are written whole, so the
    manifest may lie in any folder. Raises OSError where the file cannot be written.
    """
    tables = _plain(bundle)
    del tables["name"]
    projection, language = tables["projection"], tables["language"]
    assert isinstance(projection, dict)
    assert isinstance(language, dict)
    if "path" in projection:
        projection["file"] = projection.pop("path")
    gguf = bundle.language.gguf
    if gguf is not None and bundle.language.files == (gguf,):
        (language["file"],) = language.pop("files")
    with replacing(path) as draft:
        draft.write_text("\n".join(_toml(tables)).lstrip("\n") + "\n", encoding="utf-8")


def _plain(value: DataclassInstance) -> dict[str, Any]:
    """A dataclass as TOML knows it; what has no value, or stands for nothing, is left out."""

    def plain(item: object) -> object:
        if is_dataclass(item) and not isinstance(item, type):
            return _plain(item)
        if isinstance(item, Mapping):
            return dict(item)
        if isinstance(item, tuple | list):
            return [plain(one) for one in item]
        return str(item) if isinstance(item, Path) else item

    items = {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if items.get("kind", "hub") != "hub":  # a source of another kind has no repository to have a type
        items.pop("repo_type", None)
    return {key: item for key, item in items.items() if item not in (None, "", [], {})}


def _toml(table: Mapping[str, Any], name: str = "", heading: str = "") -> Iterator[str]:
    """The lines of a table: its plain values first, then the tables in it."""
    inner = {key: value for key, value in table.items() if _is_table(value)}
    if heading and len(inner) < len(table):
        yield f"\n{heading}"
    for key, value in table.items():
        if key not in inner:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in inner.items():
        full = f"{name}.{_key(key)}" if name else _key(key)
        if isinstance(value, Mapping):
            yield from _toml(value, full, f"[{full}]")
        else:
            for item in value:
                yield from _toml(item, full, f"[[{full}]]")


def _is_table(value: object) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and all(isinstance(v, dict) for v in value))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # A JSON text is a TOML text but for one character that JSON lets stand.
            return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
        case list():
            return f"[{', '.join(map(_value, value))}]"
        case _:
            return repr(value)
