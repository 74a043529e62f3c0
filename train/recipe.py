"""A recipe: everything that decides what a training run learns, as one typed value.

Recipes are TOML files; the shipped ones lie in `recipes/`. A run keeps a copy of its own.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from minigpt4.core.errors import UsageError

SHIPPED_RECIPES = Path(__file__).parent / "recipes"

SourceKind = Literal["captions", "imagenet", "labels"]

T = TypeVar("T")


def _within(least: float, most: float = math.inf, *, default: Any = MISSING) -> Any:
    """A field whose value must lie between `least` and `most`, both included."""
    return field(default=default, metadata={"least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Source:
    """Photos to learn from: a folder of shards below the data folder."""

    name: str
    """The folder, relative to the data folder."""

    kind: SourceKind
    """`captions`: people's own sentences. `imagenet`: keys begin with a WordNet id, which names a
    class. `labels`: captions made from a label."""

    weight: float = _within(0)
    """How often the source is drawn from, relative to the others."""

    views: int = _within(1, 64)
    """How many views of each photo there are: the whole photo, and random crops of it."""

    cropped: float = _within(0, 1)
    """The share of visits that see a crop instead of the whole photo."""

    hidden: float = _within(0, 1, default=0.0)
    """The share of visits that see what the tower calls the photo (its class vectors) and nothing of the
    photo itself, so that a class is learnt as such and not as the few photos that show it."""


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Photos that are never learnt from, whose loss is measured now and then."""

    name: str
    """The folder, relative to the data folder."""

    kind: SourceKind
    """As a source's."""

    photos: int = _within(1)
    """How many of its photos, from the first."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a run learns from, for how long, and how fast."""

    stage: int = _within(1, 2)
    """1: captions, no question asked. 2: questions and answers in the chat form."""

    bundle: str
    """The bundle whose projection is trained."""

    start: str = ""
    """The projection that training starts from where `--init` names none: a file beside the bundle's
    own. Empty starts from random weights."""

    seed: int = _within(0, 2**63 - 1)
    """Decides the first weights and which photos and sentences are drawn when."""

    steps: int = _within(1)
    """Optimiser steps."""

    photos_per_step: int = _within(1)
    """Photos in a batch."""

    captions_per_photo: float = _within(0)
    """Captions learnt at each visit of a photo. Here and below, 1.5 means one or two, by chance."""

    questions_per_photo: float = _within(0, default=0.0)
    """Stage 2: short questions and answers at each visit."""

    details_per_photo: float = _within(0, default=0.0)
    """Stage 2: instructions to describe the photo, answered by a paragraph, at each visit."""

    precise_names: float = _within(0, 1)
    """The share of precise names ("golden retriever", not "dog") where a photo has only a class."""

    learning_rate: float = _within(0, 10)
    """The highest learning rate, reached after the warm-up."""

    final_learning_rate: float = _within(0, 1)
    """Where the cosine ends, as a share of `learning_rate`."""

    warmup_steps: int = _within(0)
    """Steps over which the learning rate rises in a line."""

    beta1: float = _within(0, 0.9999)
    """AdamW's decay of the mean gradient."""

    beta2: float = _within(0, 0.99999)
    """AdamW's decay of the mean squared gradient."""

    weight_decay: float = _within(0, 10)
    """AdamW's weight decay; the bias has none."""

    gradient_clip: float = _within(0)
    """The largest norm of the gradient; 0 leaves it as it is."""

    feature_dropout: float = _within(0, 0.9, default=0.0)
    """The share of the tower's features that each visit drops, so that a photo is not learnt by heart."""

    averaged_checkpoints: int = _within(1, 2, default=1)
    """The result is the mean of the weights of the last so many checkpoints."""

    start_share: float = _within(0, 1, default=0.0)
    """How much of the weights that the run began with is in its result: the mean of start and end, which
    forgets less of what the start knew (Wortsman et al. 2022, arXiv 2109.01903)."""

    initial_std: float = _within(0, 10)
    """Standard deviation of the first weights, where a run does not start from trained ones."""

    class_name_scale: float = _within(0, 1000)
    """How strongly the weights of the tower's class probabilities start at the class's name in the
    language model's own embeddings; 0 leaves them random."""

    checkpoint_every: int = _within(1)
    """Steps between checkpoints."""

    validate_every: int = _within(1)
    """Steps between measurements of the validation loss."""

    source: tuple[Source, ...]
    """What is learnt from; at least one has a weight above 0."""

    validation: Validation
    """What is measured."""


def shipped_recipe(stage: int) -> Path:
    """The recipe with which the shipped projection of `mini` was trained."""
    return SHIPPED_RECIPES / f"mini-stage{stage}.toml"


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
    return _checked(_read(Recipe, plain, f"{where}: "), where)


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """The recipe with `key=value` texts put over it, each value read as its key's type.

    `source.NAME.weight=0.5` and `validation.photos=32` reach into the tables.
    Raises UsageError for an unknown key (with the nearest) and for a value that does not fit.
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
    return _checked(recipe, "--set")


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as TOML that `read_recipe` reads back to an equal value."""
    values = asdict(recipe)
    sources, validation = values.pop("source"), values.pop("validation")
    blocks = [_toml_lines(values)]
    blocks += [f"[[source]]\n{_toml_lines(source)}" for source in sources]
    blocks.append(f"[validation]\n{_toml_lines(validation)}")
    return "\n".join(blocks)


def _toml_lines(values: Mapping[str, object]) -> str:
    return "".join(f"{key} = {_toml_value(value)}\n" for key, value in values.items())


def _toml_value(value: object) -> str:
    if not isinstance(value, str):
        return repr(value)
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _checked(recipe: Recipe, where: str) -> Recipe:
    names = [source.name for source in recipe.source]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{where}: the source '{twice}' is given twice; give it once, with a larger weight.")
    if not any(source.weight for source in recipe.source):
        raise UsageError(f"{where}: every source has the weight 0; give one of them more.")
    for source in recipe.source:
        if source.cropped and source.views < 2:
            raise UsageError(
                f"{where}: the source '{source.name}' has no crops to see ('views' is 1); "
                "set 'views' to 2 or more, or 'cropped' to 0."
            )
    branches = recipe.captions_per_photo
    if recipe.stage == 2:
        branches += recipe.questions_per_photo + recipe.details_per_photo
    elif recipe.questions_per_photo or recipe.details_per_photo:
        raise UsageError(
            f"{where}: stage 1 asks nothing; 'questions_per_photo' and 'details_per_photo' must be 0."
        )
    if branches < 1:
        raise UsageError(f"{where}: less than one sentence is learnt of a photo; raise 'captions_per_photo'.")
    return recipe


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
    read = {key: _typed(hints[key], known[key], value, where) for key, value in values.items()}
    return kind(**read)


def _typed(hint: Any, entry: Field[Any], value: object, where: str) -> object:
    if isinstance(value, tuple | Validation):
        return value
    if get_args(hint):
        if value not in get_args(hint):
            raise UsageError(f"{where}'{entry.name}' is {value!r}; it must be {_or(get_args(hint))}.")
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
    hint = get_type_hints(type(table))[key]
    if hint not in (int, float, str) and not isinstance(getattr(table, key), str):
        raise UsageError(
            f"{where}'{key}' is a table; set one of its own keys, as in 'source.NAME.weight=0.5'."
        )
    value: object = text.strip()
    if hint in (int, float):
        try:
            value = hint(text)
        except ValueError:
            wanted = "a whole number" if hint is int else "a number"
            raise UsageError(f"{where}'{key}' must be {wanted}.") from None
    return replace(table, **{key: _typed(hint, known[key], value, where)})  # type: ignore[type-var]


def _set_in_source(
    sources: tuple[Source, ...], name: str, key: str, text: str, where: str
) -> tuple[Source, ...]:
    if name not in {source.name for source in sources}:
        raise UsageError(f"{where}there is no source '{name}'; there is {_or(s.name for s in sources)}.")
    return tuple(_set(source, key, text, where) if source.name == name else source for source in sources)


def _fields(kind: type[Any]) -> dict[str, Field[Any]]:
    return {entry.name: entry for entry in fields(kind)}


def _unknown(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    advice = f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}."
    return f"there is no key '{key}'; {advice}"


def _or(names: Iterable[str]) -> str:
    return " or ".join(f"'{name}'" for name in names)
