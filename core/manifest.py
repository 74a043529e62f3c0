"""TOML tables read strictly: a wrong, missing or misspelt key is an error that names itself."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path

from minigpt4.core.errors import BundleError


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
                near = difflib.get_close_matches(key, self._read, n=1)
                advice = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(self._read)}"
                raise self.error(key, f"is not a known key; {advice}")

    def _value(self, key: str) -> object:
        if not self.has(key):
            strays = [name for name in self._values if name not in self._read]
            near = difflib.get_close_matches(key, strays, n=1)
            hint = f" (there is '{near[0]}': a misspelling?)" if near else ""
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
