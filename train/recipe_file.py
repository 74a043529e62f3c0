"""Recipes as TOML: read strictly, changed by `--set key=value`, and written so that they read back equal."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TypeVar

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.dataclass_toml import (
    InvalidValueError,
    check,
    dumps,
    from_text,
    load_toml,
    plain,
    read,
)
from minigpt4.core.text import suggestion
from minigpt4.train.recipe import Recipe, Source, checked

SHIPPED_RECIPES = Path(__file__).parent / "recipes"
TABLES = ("source", "validation")

T = TypeVar("T")


def recipe_names() -> list[str]:
    """Names of the shipped recipes, in order."""
    return sorted(path.stem for path in SHIPPED_RECIPES.glob("*.toml"))


def recipe_path(name: str) -> Path:
    """The file of a shipped recipe, or the file at the path `name`.

    Raises UsageError with the nearest name if it is neither.
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
    return f"mini-stage{stage}" if bundle in ("mini", "mini-without-detector") else f"stage{stage}"


def read_recipe(path: Path) -> Recipe:
    """The recipe of a TOML file; raises UsageError naming the file and the key that is wrong."""
    values = load_toml(path, "recipe", UsageError)
    if not values.get("source"):
        raise UsageError(f"{path}: a recipe needs at least one [[source]] table.")
    if "validation" not in values:
        raise UsageError(f"{path}: a recipe needs a [validation] table.")
    try:
        return checked(read(Recipe, values), str(path))
    except InvalidValueError as problem:
        raise UsageError(f"{path}: {problem}") from problem


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with `key=value` settings applied, each value parsed as its key's type.

    `source.NAME.weight=0.5` and `validation.photos=32` set keys of the tables; texts in a list are
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
    return dumps(plain(recipe, with_defaults=True))


def changed_keys(before: Recipe, after: Recipe) -> list[str]:
    """Differences, one text per key: `learning_rate 0.0001 -> 0.0003`, `source.laion.weight 115.0 -> 1.0`."""
    old, new = _flat(before), _flat(after)
    return [
        f"{key} {old.get(key, 'nothing')} -> {new.get(key, 'nothing')}"
        for key in old | new
        if old.get(key) != new.get(key)
    ]


def _flat(recipe: Recipe) -> dict[str, object]:
    values = asdict(recipe)
    sources, validation = values.pop("source"), values.pop("validation")
    for source in sources:
        values |= {f"source.{source['name']}.{key}": value for key, value in source.items()}
    return values | {f"validation.{key}": value for key, value in validation.items()}


def _set(table: T, key: str, text: str, where: str) -> T:
    known = {entry.name: entry for entry in fields(table)}  # type: ignore[arg-type]
    if key not in known:
        raise UsageError(f"{where}'{key}' is not a known key; {suggestion(key, known)}")
    if key in TABLES:
        raise UsageError(
            f"{where}'{key}' is a table; set one of its own keys, as in 'source.NAME.weight=0.5'."
        )
    try:
        value = check(type(table), known[key], from_text(type(table), known[key], text), key)
    except InvalidValueError as problem:
        raise UsageError(f"{where}{problem}") from problem
    return replace(table, **{key: value})  # type: ignore[type-var]


def _set_in_source(
    sources: tuple[Source, ...], name: str, key: str, text: str, where: str
) -> tuple[Source, ...]:
    names = [source.name for source in sources]
    if name not in names:
        raise UsageError(f"{where}there is no source '{name}'; {suggestion(name, names)}")
    return tuple(_set(source, key, text, where) if source.name == name else source for source in sources)
