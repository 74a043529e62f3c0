"""Recipes as TOML: read strictly, changed by `--set key=value`, and written so that they read back equal."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from minigpt4.core.errors import UsageError
from minigpt4.core.text import suggestion
from minigpt4.train.recipe import Recipe, Source, Validation, checked

SHIPPED_RECIPES = Path(__file__).parent / "recipes"

T = TypeVar("T")


def recipe_names() -> list[str]:
    """Names of the shipped recipes, in order."""
    return sorted(path.stem for path in SHIPPED_RECIPES.glob("*.toml"))


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe, or the file that `name` is a path of.

    Raises UsageError with the nearest name where there is neither.
    """
    path = Path(name).expanduser()
    names = recipe_names()
    if name in names:
        return SHIPPED_RECIPES / f"{name}.toml"
    if path.is_file() or path.suffix == ".toml":
        return path
    advice = suggestion(name, names, f"there is {', '.join(names)}, or give a file.")
    raise UsageError(f"There is no recipe '{name}'; {advice}")


def stage_recipe(stage: int, bundle: str = "mini") -> str:
    """The name of the recipe of a stage: mini's own, or the paper's for every other bundle."""
    return f"mini-stage{stage}" if bundle == "mini" else f"stage{stage}"


def read_recipe(path: Path) -> Recipe:
    """The recipe of a TOML file; raises UsageError naming the file and the key that is wrong."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"The recipe {path} cannot be read: {error.strerror or error}.") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The recipe {path} is not valid TOML: {error}.") from error
    return recipe_from(values, str(path))


def recipe_from(values: Mapping[str, object], where: str) -> Recipe:
    """The recipe of parsed TOML; `where` is what errors call it."""
    plain = dict(values)
    sources = plain.get("source")
    if not isinstance(sources, list) or not sources or not all(isinstance(item, dict) for item in sources):
        raise UsageError(f"{where}: a recipe needs at least one [[source]] table.")
    plain["source"] = tuple(
        _read(Source, item, f"{where}: source {place}: ") for place, item in enumerate(sources, start=1)
    )
    validation = plain.get("validation")
    if not isinstance(validation, dict):
        raise UsageError(f"{where}: a recipe needs a [validation] table.")
    plain["validation"] = _read(Validation, validation, f"{where}: validation: ")
    return checked(_read(Recipe, plain, f"{where}: "), where)


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with `key=value` texts put over it, each value read as its key's type.

    `source.NAME.weight=0.5` and `validation.photos=32` reach into the tables; texts in a list are
    written as in TOML, `instructions=["One.", "Two."]`. Raises UsageError for an unknown key (with
    the nearest) and for a value that does not fit.
    """
    for setting in settings:
        key, equals, text = setting.partition("=")
        key, where = key.strip(), f"--set {setting}: "
        if not equals or not key:
            raise UsageError(f"'--set {setting}' is not of the form key=value.")
        table, _, rest = key.partition(".")
        if table == "source" and rest:
            name, _, leaf = rest.rpartition(".")
            recipe = replace(recipe, source=_set_in_source(recipe.source, name, leaf, text, where))
        elif table == "validation" and rest:
            recipe = replace(recipe, validation=_set(recipe.validation, rest, text, where))
        else:
            recipe = _set(recipe, key, text, where)
    return checked(recipe, "--set")


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as TOML that `read_recipe` reads back to an equal value."""
    values = asdict(recipe)
    sources, validation = values.pop("source"), values.pop("validation")
    blocks = [_toml_lines(values)]
    blocks += [f"[[source]]\n{_toml_lines(source)}" for source in sources]
    blocks.append(f"[validation]\n{_toml_lines(validation)}")
    return "\n".join(blocks)


def changed_keys(before: Recipe, after: Recipe) -> list[str]:
    """What differs, one text a key: `learning_rate 0.0001 -> 0.0003`, `source.laion.weight 115.0 -> 1.0`."""
    old, new = _flat(before), _flat(after)
    keys = list(dict.fromkeys((*old, *new)))
    return [
        f"{key} {old.get(key, 'nothing')} -> {new.get(key, 'nothing')}"
        for key in keys
        if old.get(key) != new.get(key)
    ]


def _flat(recipe: Recipe) -> dict[str, object]:
    values = asdict(recipe)
    sources, validation = values.pop("source"), values.pop("validation")
    for source in sources:
        values |= {f"source.{source['name']}.{key}": value for key, value in source.items()}
    return values | {f"validation.{key}": value for key, value in validation.items()}


def _toml_lines(values: Mapping[str, object]) -> str:
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in values.items())


def _toml_value(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_toml_value, value))}]"
    if not isinstance(value, str):
        return repr(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _read(kind: type[T], values: Mapping[str, object], where: str) -> T:
    """A dataclass of scalars (and of tables that were read before) from a mapping."""
    known = _fields(kind)
    for key in values:
        if key not in known:
            raise UsageError(f"{where}{_unknown(key, known)}")
    for name, entry in known.items():
        if name not in values and entry.default is MISSING:
            raise UsageError(f"{where}'{name}' is missing.")
    hints = get_type_hints(kind)
    read = {
        key: value if key in _TABLES else _typed(hints[key], known[key], value, where)
        for key, value in values.items()
    }
    return kind(**read)


_TABLES = ("source", "validation")
_TEXTS = tuple[str, ...]


def _typed(hint: Any, entry: Field[Any], value: object, where: str) -> object:
    """The value, if it is of its key's type and within its limits."""
    if hint == _TEXTS:
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise UsageError(f"{where}'{entry.name}' is {value!r}; it must be a list of texts.")
        return tuple(value)
    choices = get_args(hint)
    if choices:
        if value not in choices or isinstance(value, bool):
            raise UsageError(f"{where}'{entry.name}' is {value!r}; it must be {_or(choices)}.")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        # TOML's whole numbers have no end; a float's do.
        value = float(value) if abs(value) < 2**1023 else math.inf
    if not isinstance(value, hint) or isinstance(value, bool):
        wanted = {int: "a whole number", float: "a number", str: "a text"}[hint]
        raise UsageError(f"{where}'{entry.name}' is {value!r}; it must be {wanted}.")
    if isinstance(value, int | float):
        least, most = entry.metadata["least"], entry.metadata["most"]
        # Written so that nan, which compares false with everything, is refused too.
        if not least <= value <= most or value == math.inf:
            limit = f"at least {least:g}" if most == math.inf else f"between {least:g} and {most:g}"
            raise UsageError(f"{where}'{entry.name}' is {value}; it must be {limit}.")
    return value


def _set(table: T, key: str, text: str, where: str) -> T:
    known = _fields(type(table))
    if key not in known:
        raise UsageError(f"{where}{_unknown(key, known)}")
    if key in _TABLES:
        raise UsageError(
            f"{where}'{key}' is a table; set one of its own keys, as in 'source.NAME.weight=0.5'."
        )
    hint = get_type_hints(type(table))[key]
    value = _parsed(hint, text, key, where)
    return replace(table, **{key: _typed(hint, known[key], value, where)})  # type: ignore[type-var]


def _parsed(hint: Any, text: str, key: str, where: str) -> object:
    """A typed setting as TOML would have given it."""
    if hint == _TEXTS:
        try:
            return tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            raise UsageError(f'{where}\'{key}\' must be a list of texts, as in ["One.", "Two."].') from None
    kind = type(get_args(hint)[0]) if get_args(hint) and get_origin(hint) is not tuple else hint
    if kind not in (int, float):
        return text.strip()
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise UsageError(f"{where}'{key}' must be {wanted}.") from None


def _set_in_source(
    sources: tuple[Source, ...], name: str, key: str, text: str, where: str
) -> tuple[Source, ...]:
    if name not in {source.name for source in sources}:
        raise UsageError(f"{where}there is no source '{name}'; there is {_or(s.name for s in sources)}.")
    return tuple(_set(source, key, text, where) if source.name == name else source for source in sources)


def _fields(kind: type[Any]) -> dict[str, Field[Any]]:
    return {entry.name: entry for entry in fields(kind)}


def _unknown(key: str, known: Iterable[str]) -> str:
    known = list(known)
    otherwise = f"known here: {', '.join(known)}."
    return f"there is no key '{key}'; {suggestion(key, known, otherwise)}"


def _or(names: Iterable[object]) -> str:
    return " or ".join(f"'{name}'" if isinstance(name, str) else str(name) for name in names)
