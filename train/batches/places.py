"""Where the data of a run are: a place for each source of its recipe, found again when the run resumes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from minigpt4.core.errors import DataError
from minigpt4.train.data.open import FORMS, holds_photos
from minigpt4.train.data.remote import is_remote
from minigpt4.train.recipe import Recipe, Source, Validation


def with_own_photos(recipe: Recipe, data: Sequence[str]) -> Recipe:
    """The recipe for the photos in `data`: folders that hold its sources, or the user's own photos.

    If some of its sources are missing and every place holds photos itself, these become the sources:
    the user's own, of kind `captions`, with the other keys of the recipe's first source of that kind,
    and some of them held out for validation.
    """
    if all(_place_of(data, name) is not None for name in source_names(recipe)):
        return recipe
    if not data or not all(holds_photos(place) for place in data):
        return recipe
    of_people = [source for source in recipe.source if source.kind == "captions"]
    like = of_people[0] if of_people else Source(name="", kind="captions", weight=1.0)
    own = tuple(replace(like, name=_label(place, data), weight=1.0) for place in dict.fromkeys(data))
    validation = Validation(name="", kind="captions", photos=recipe.validation.photos)
    return replace(recipe, source=own, validation=validation)


def locate(
    recipe: Recipe, data: Sequence[str], before: Mapping[str, str] | None = None, *, run: str = "this run"
) -> dict[str, str]:
    """The absolute place of every source and of the validation photos, by name; opens nothing.

    `data` are the places that the user gave. For a run that is resumed, `before` are the places where it
    found its sources (empty if it did not record them): a source whose folder was renamed is the place in
    `data` that no other source has. Raises DataError for the first missing source; its message names the
    run by `run`.
    """
    names = source_names(recipe)
    found = {name: place for name in names if (place := _place_of(data, name)) is not None}
    missing = [name for name in names if name not in found]
    if missing and before is None:
        raise DataError(_missing(missing[0], data))
    if missing and before is not None:
        found |= _found_again(missing, _unused(data, found), before, run)
    return {name: _absolute(found[name]) for name in names}


def source_names(recipe: Recipe) -> list[str]:
    """Names of the sources and the validation set, without duplicates."""
    names = [source.name for source in recipe.source if source.weight]
    return list(dict.fromkeys([*names, recipe.validation.name] if recipe.validation.name else names))


def _found_again(
    missing: Sequence[str], given: Sequence[str], before: Mapping[str, str], run: str
) -> dict[str, str]:
    """Places of a resumed run's sources that are in none of the given ones under their names."""
    gone = [name for name in missing if name not in before or not _exists(before[name])]
    moved: dict[str, str] = {}
    if given:
        renamed = next((names for names in (gone, missing) if len(names) == len(given)), None)
        unusable = next((place for place in given if not holds_photos(place)), None)
        if unusable is not None and not is_remote(unusable) and not Path(unusable).expanduser().exists():
            raise DataError(
                f"There is no data folder {unusable}; the run needs the data of {_listed(missing)}: give "
                "their place with --data."
            )
        if renamed is None or unusable is not None:
            raise DataError(
                f"--data {unusable or given[0]} does not hold the data of {_listed(missing)}, which the run "
                "needs; give one place for each, in this order, or the folder that holds "
                "them under these names."
            )
        moved = dict(zip(renamed, given, strict=True))
    for name in gone:
        if name in moved:
            continue
        if name not in before:
            raise DataError(
                f"The run does not record where the data of '{name}' are; give their place with --data."
            )
        raise DataError(
            f"The data of {run} were in {_vanished(before[name])}, which is gone; give their new place "
            "with --data."
        )
    return {name: before[name] for name in missing if name in before} | moved


def _unused(data: Sequence[str], found: Mapping[str, str]) -> list[str]:
    """The given places in which no source was found under its name."""
    return [
        place
        for place in dict.fromkeys(data)
        if not any(there in (place, _below(place, name)) for name, there in found.items())
    ]


def _vanished(place: str) -> Path:
    """The outermost folder of a path that does not exist any more."""
    path = Path(place)
    while not path.parent.exists():
        path = path.parent
    return path


def _exists(place: str) -> bool:
    return is_remote(place) or Path(place).exists() or holds_photos(place)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _place_of(data: Sequence[str], name: str) -> str | None:
    """The path of a source: below one of the places, or one of them itself."""
    for place in data:
        below = _below(place, name)
        if below is not None and Path(below).exists():
            return below
    for place in data:
        if _label(place, data) == name and holds_photos(place):
            return place
    return None


def _below(place: str, name: str) -> str | None:
    """The path of a source in a local folder."""
    return None if is_remote(place) else str(Path(place).expanduser() / name)


def _absolute(place: str) -> str:
    return place if is_remote(place) else str(Path(place).expanduser().absolute())


def _label(place: str, data: Sequence[str]) -> str:
    """The name of a place: the shortest end of its path that no other place shares."""
    ends = [_parts(other) for other in dict.fromkeys(data) if _parts(other) != _parts(place)]
    parts = _parts(place)
    length = next(
        (length for length in range(1, len(parts)) if all(end[-length:] != parts[-length:] for end in ends)),
        len(parts),
    )
    return "/".join(parts[-length:])


def _parts(place: str) -> tuple[str, ...]:
    if is_remote(place):
        return tuple(part for part in place.partition("?")[0].split("/") if part)
    path = Path(place).expanduser()
    path = path.resolve() if ".." in path.parts else path.absolute()
    return path.parts[1:]


def _missing(name: str, data: Sequence[str]) -> str:
    places = " and ".join(data) or "data"
    if not any(is_remote(place) or Path(place).expanduser().exists() for place in data):
        return (
            f"There is no data folder {places}; give one with --data. It should hold the folder '{name}' "
            f"with .tar shards of KEY.jpg and KEY.json; or give photos of your own: {FORMS}."
        )
    folders = [Path(place).expanduser() for place in data if Path(place).expanduser().is_dir()]
    held = sorted(place.name for folder in folders for place in folder.iterdir() if place.is_dir())
    return (
        f"The data folder {places} has no folder '{name}' (it holds {', '.join(held) or 'no folder'}); put "
        f".tar shards of KEY.jpg and KEY.json there, or leave the source out with --set "
        f"'source.{name}.weight=0'. Photos of your own are known by one of these: {FORMS}."
    )
