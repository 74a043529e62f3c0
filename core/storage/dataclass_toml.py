"""TOML tables as dataclasses: read strictly, with every wrong key and value named, and written.

A field's type says what its key may hold: a string, a number, true or false, a `Literal`, a `Path`, a
tuple or mapping of these, another dataclass for a table, a tuple of dataclasses for a list of tables.
`bounded` and `checked_by` narrow it further. A dataclass whose values can contradict each other has a
method `contradictions`, which yields (key, problem); one whose keys depend on the table's values has a
class method `keys_for` that lists them.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.storage.regular_file import read_regular_file
from minigpt4.core.text import nearest, suggestion

T = TypeVar("T")

TRUTH = dict.fromkeys(("1", "yes", "on", "true"), True) | dict.fromkeys(("0", "no", "off", "false"), False)
"""How the environment and the command line spell true and false."""

NAMES = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", Path: "a path"}


class InvalidValueError(ValueError):
    """A key or value that a table may not hold; the message is a sentence without the file's name."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"'{key}' {problem}{'' if problem.endswith(('.', '?')) else '.'}")


def bounded(least: float | None = None, most: float | None = None, *, default: Any = MISSING) -> Any:
    """A field whose number lies between `least` and `most`, both included (None: no bound)."""
    return field(default=default, metadata={"least": least, "most": most})


def checked_by(
    accepts: Callable[[Any], object], expected: str, *, default: Any = MISSING, **metadata: Any
) -> Any:
    """A field whose value `accepts` judges; `expected` ends the sentence "it must be ..."."""
    return field(default=default, metadata={"accepts": accepts, "expected": expected, **metadata})


def text(*, default: Any = MISSING) -> Any:
    """A field whose string may not be empty."""
    return checked_by(str.strip, "a text that is not empty", default=default)


def load_toml(
    path: Path, what: str, error: type[Minigpt4Error], *, missing_ok: bool = False
) -> dict[str, Any]:
    """A file's tables; raises `error`, which calls the file `what`, if it cannot be read or parsed.

    With `missing_ok` a file that does not exist is empty.
    """
    try:
        return tomllib.loads(read_regular_file(path).decode("utf-8-sig"))
    except OSError as problem:
        if missing_ok and isinstance(problem, FileNotFoundError):
            return {}
        raise error(f"The {what} {path} cannot be read: {problem.strerror or problem}.") from problem
    except UnicodeDecodeError as problem:
        raise error(f"The {what} {path} is not UTF-8 text; save it as UTF-8.") from problem
    except ValueError as problem:  # TOMLDecodeError, or a number of thousands of digits
        raise error(f"The {what} {path} is not valid TOML: {problem}.") from problem
    except RecursionError as problem:
        raise error(f"The {what} {path} is nested too deeply.") from problem


def read(
    kind: type[T], values: object, prefix: str = "", *, base: Path = Path(), strict: bool = True, **given: Any
) -> T:
    """The dataclass that a table describes; raises InvalidValueError for the first wrong key or value.

    `prefix` begins the names of its keys in messages; paths are relative to `base`. `given` are fields
    that are not in the table. Unknown keys are errors, unless `strict` is off.
    """
    if not isinstance(values, Mapping):
        name = prefix.rstrip(".")
        raise InvalidValueError(name, f"is {as_written(values)}; it must be a table: [{name}]")
    keys = [entry for entry in fields(kind) if entry.name not in given]  # type: ignore[arg-type]
    names = list(dict.fromkeys(name for entry in keys for name in _names(entry)))
    known = getattr(kind, "keys_for", lambda _: names)(values)
    for name in values if strict else ():
        if name not in known:
            advice = suggestion(name, known, f"the keys here are {', '.join(known)}.")
            raise InvalidValueError(f"{prefix}{name}", f"is not a known key; {advice}")
    found = dict(given)
    for entry in keys:
        own = [name for name in _names(entry) if _holds(entry, values.get(name))]
        if own:
            found[entry.name] = check(kind, entry, values[own[0]], f"{prefix}{own[0]}", base, strict=strict)
        elif entry.default is MISSING and entry.default_factory is MISSING:
            if _is_optional(kind, entry.name):
                found[entry.name] = None
                continue
            raise InvalidValueError(f"{prefix}{_names(entry)[0]}", "is missing")
    instance = kind(**found)
    written = {entry.name: _names(entry)[0] for entry in keys}
    for key, problem in getattr(instance, "contradictions", tuple)():
        raise InvalidValueError(f"{prefix}{written.get(key, key)}", problem)
    return instance


def check(
    kind: Any, entry: Field[Any], value: object, name: str, base: Path = Path(), *, strict: bool = True
) -> Any:
    """`value` as the field holds it; raises InvalidValueError, which calls the key `name`."""
    hint, metadata = _hint(kind, entry.name), entry.metadata
    if "single" in metadata and name.endswith(f".{metadata['single']}"):
        return (read(get_args(hint)[0], value, f"{name}.", base=base, strict=strict),)
    if isinstance(hint, type) and is_dataclass(hint):
        return read(hint, value, f"{name}.", base=base, strict=strict)
    element = get_args(hint)[0] if get_origin(hint) is tuple else None
    if isinstance(element, type) and is_dataclass(element):
        if not isinstance(value, list) or not value:
            raise InvalidValueError(name, f"is {as_written(value)}; it must be a list of tables: [[{name}]]")
        tables = (
            read(element, item, f"{name}[{place}].", base=base, strict=strict)
            for place, item in enumerate(value)
        )
        return tuple(tables)
    try:
        found = _convert(hint, metadata["convert"](value) if "convert" in metadata else value, base)
        if isinstance(found, Mapping):
            found = {key: _entry(hint, item, f"{name}.{key}", base) for key, item in found.items()}
    except (TypeError, OverflowError):
        found = None
    allowed = choices(kind, entry)
    is_right = (
        found is not None
        and (not allowed or found in allowed or ("others" in metadata and metadata["others"](found)))
        and _is_within(found, metadata)
    )
    if not is_right or ("accepts" in metadata and not metadata["accepts"](found)):
        near = nearest(value, map(str, allowed)) if isinstance(value, str) else None
        hint_text = f"; did you mean '{near}'?" if near else ""
        raise InvalidValueError(
            name, f"is {as_written(value)}; it must be {expected(kind, entry)}{hint_text}"
        )
    return found


def from_text(kind: type[Any], entry: Field[Any], text: str) -> object:
    """The value of a string from the command line or the environment, still to be checked."""
    text, hint = text.strip(), _hint(kind, entry.name)
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    target = type(choices[0]) if choices else hint
    if target is bool:
        return TRUTH.get(text.lower(), text)
    try:
        if get_origin(target) is tuple:
            return tomllib.loads(f"value = {text}")["value"]
        return target(text) if target in (int, float) else text
    except (ValueError, OverflowError):
        return text


def expected(kind: type[Any], entry: Field[Any]) -> str:
    """The values that the key may hold, as the end of a sentence that begins with "it must be"."""
    hint, metadata = _hint(kind, entry.name), entry.metadata
    if "expected" in metadata:
        return str(metadata["expected"])
    if allowed := choices(kind, entry):
        return f"one of {', '.join(map(str, allowed))}"
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if items[0] is str:
            return 'a list of texts, as in ["One.", "Two."]'
        return f"a list of {len(items)} numbers{_bounds(metadata)}"
    if get_origin(hint) is not None:
        return "a table"
    return f"{NAMES[hint]}{_bounds(metadata)}"


def choices(kind: type[Any], entry: Field[Any]) -> tuple[Any, ...]:
    """The values that the key is limited to: of a `Literal`, or of `choices`, which may be a function.

    Beyond these it may hold what its function `others` accepts.
    """
    hint = _hint(kind, entry.name)
    if get_origin(hint) is Literal:
        return get_args(hint)
    found = entry.metadata.get("choices", ())
    return tuple(found() if callable(found) else found)


def as_written(value: object) -> str:
    """A wrong value as an error message shows it: as in the file, and short."""
    try:
        shown = repr(value)
    except ValueError:
        return "that number"  # Python does not format a number of thousands of digits
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def plain(value: Any, *, with_defaults: bool = False) -> dict[str, Any]:
    """A dataclass as the table that `read` takes; empty values and defaults are omitted."""
    table: dict[str, Any] = {}
    for entry in fields(value):
        item = getattr(value, entry.name)
        if item in (None, "", (), {}) or (item == entry.default and not with_defaults):
            continue
        name = _names(entry)[0]
        if "single" in entry.metadata and len(item) == 1:
            name, item = entry.metadata["single"], item[0]
        table[name] = _plain_item(item, with_defaults)
    return dict(sorted(table.items(), key=lambda pair: _is_table(pair[1])))


def dumps(table: Mapping[str, Any]) -> str:
    """A table as TOML."""
    import tomlkit  # 20 ms, and most commands write nothing

    return tomlkit.dumps(table)


def _plain_item(item: Any, with_defaults: bool) -> Any:
    if is_dataclass(item):
        return plain(item, with_defaults=with_defaults)
    if isinstance(item, tuple | list):
        return [_plain_item(one, with_defaults) for one in item]
    if isinstance(item, Mapping):
        return dict(item)
    return str(item) if isinstance(item, Path) else item


def _is_table(item: object) -> bool:
    return isinstance(item, dict) or (isinstance(item, list) and bool(item) and isinstance(item[0], dict))


_hints = functools.cache(get_type_hints)


def _hint(kind: Any, name: str) -> Any:
    """The type of a field, without None."""
    hint = _hints(kind)[name]
    kinds = [one for one in get_args(hint) if one is not NoneType]
    return kinds[0] if _is_optional(kind, name) and len(kinds) == 1 else hint


def _is_optional(kind: Any, name: str) -> bool:
    hint = _hints(kind)[name]
    return get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)


def _names(entry: Field[Any]) -> list[str]:
    """The keys of a field: its own name or another, and one for a list of a single table."""
    names = [entry.metadata.get("key", entry.name), entry.metadata.get("single")]
    return [name for name in names if name]


def _holds(entry: Field[Any], value: object) -> bool:
    """Whether the key is given; two fields may share one key, for different types of values."""
    return value is not None and isinstance(value, entry.metadata.get("only", object))


def _convert(hint: Any, value: Any, base: Path) -> Any:
    """`value` as an instance of the type; raises TypeError if that is impossible."""
    origin, items = get_origin(hint), get_args(hint)
    if origin is tuple:
        is_long_enough = items[-1] is Ellipsis or len(value) == len(items)
        if not isinstance(value, list | tuple) or not is_long_enough:
            raise TypeError
        return tuple(_convert(items[0], item, base) for item in value)
    if hint is Path and isinstance(value, str) and value.strip():
        return (base / Path(value).expanduser()).absolute()
    if hint is float and isinstance(value, int):
        value = float(value) if not isinstance(value, bool) else value
    if origin is Literal:
        is_instance = not isinstance(value, bool)
    elif isinstance(hint, UnionType):
        is_instance = isinstance(value, hint)
    else:
        is_instance = isinstance(value, origin or hint) and isinstance(value, bool) == (hint is bool)
    if not is_instance:
        raise TypeError
    return value


def _entry(hint: Any, item: object, name: str, base: Path) -> Any:
    """One value of a table with arbitrary keys."""
    kind = get_args(hint)[1]
    wanted = "a text, a number, true or false" if isinstance(kind, UnionType) else NAMES.get(kind)
    try:
        return _convert(kind, item, base)
    except TypeError:
        if wanted is None:  # a list: the sentence about the whole table describes it
            raise
        raise InvalidValueError(name, f"is {as_written(item)}; it must be {wanted}") from None


def _is_within(value: Any, metadata: Mapping[str, Any]) -> bool:
    if isinstance(value, tuple):
        return all(_is_within(item, metadata) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    least, most = metadata.get("least"), metadata.get("most")
    is_finite = not isinstance(value, float) or math.isfinite(value)
    return is_finite and (least is None or least <= value) and (most is None or value <= most)


def _bounds(metadata: Mapping[str, Any]) -> str:
    least, most = metadata.get("least"), metadata.get("most")
    if least is None:
        return ""
    return f" of {least} or more" if most is None else f" from {least} to {most}"
