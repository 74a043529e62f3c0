"""What `minigpt4 data inspect` found: as lines, as JSON, and as the parts of a contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np

from minigpt4.tui.terminal.messages import printable

if TYPE_CHECKING:
    from minigpt4.train.data.dataset import PhotoSet
    from minigpt4.train.events import PhotoSkipped
    from minigpt4.train.inspection.caption_lengths import CaptionLengths
    from minigpt4.train.inspection.contact_sheet import Cell, Part
    from minigpt4.train.inspection.inspection import Group, Inspection, Place
    from minigpt4.train.recipe import Recipe

SHOWN = 10
"""Photos or groups of a kind that are named in the lines; JSON names all."""

MEMBERS_SHOWN = 4
GROUPS_ON_SHEET, PHOTOS_OF_A_GROUP = 24, 6
BARS, LONGEST_BAR = 12, 40
LABEL = 16


def report_lines(
    found: Inspection, sets: Sequence[PhotoSet], lengths: CaptionLengths, recipe: Recipe, image_size: int
) -> Iterator[str]:
    """The lines of the report for people."""
    for count in found.sets:
        yield _line(
            printable(count.name), f"{_many(count.photos, 'photo')}, {_many(count.captions, 'caption')}"
        )
    yield from _skipped_lines(found, recipe)
    yield from _picture_lines(found, recipe, image_size)
    yield from _caption_lines(found, lengths, recipe)
    groups: tuple[tuple[str, tuple[Group, ...]], ...] = (
        ("same file", found.same_file),
        ("look alike", found.look_alike),
    )
    for label, some in groups:
        yield _line(label, f"{_many(len(some), 'group')}, {sum(map(len, some)):,} photos" if some else "none")
        yield from _some(some, lambda group: _group_text(group, sets))
    if len(sets) > 1:
        both = found.in_several_sets
        yield _line("in several sets", f"{len(both):,} of these groups" if both else "none of these")
        yield from _some(both, lambda group: _group_text(group, sets))


def record_of(
    found: Inspection, sets: Sequence[PhotoSet], lengths: CaptionLengths, recipe: Recipe
) -> Mapping[str, Any]:
    """The whole report, for programs."""

    def names(group: Group) -> list[Mapping[str, str]]:
        return [{"set": sets[place.set].name, "key": _key(place, sets)} for place in group]

    shorter = found.sizes.min(axis=1)
    return {
        "recipe": {"stage": recipe.stage, "bundle": recipe.bundle, "caption_form": recipe.caption_form},
        "photos": found.photos,
        "sets": [{"name": one.name, "photos": one.photos, "captions": one.captions} for one in found.sets],
        "left_out": [{"set": one.source, "key": one.key, "reason": one.reason} for one in found.skipped],
        "unlearnt": found.unlearnt,
        "shorter_side": {
            "least": int(shorter.min()),
            "median": float(np.median(shorter)),
            "most": int(shorter.max()),
        },
        "long_shapes": found.long_shapes,
        "formats": dict(found.formats),
        "modes": dict(found.modes),
        "animated": found.animated,
        "captions": {
            "count": found.captions,
            "per_photo": _by_number(found.captions_per_photo),
            "unit": lengths.unit,
            "lengths": _by_number(found.lengths),
            "limit": lengths.limit,
            "cut": _cut(found, lengths),
        },
        "same_file": [names(group) for group in found.same_file],
        "look_alike": [names(group) for group in found.look_alike],
        "in_several_sets": [names(group) for group in found.in_several_sets],
        "flat": names(found.flat),
    }


def parts_of(found: Inspection, sets: Sequence[PhotoSet], samples: int, seed: int) -> list[Part]:
    """A sample of the photos, and the groups of duplicates and look-alikes."""
    from minigpt4.train.inspection.contact_sheet import Part

    chosen = sorted(Random(seed).sample(range(found.photos), min(samples, found.photos)))
    parts = [Part("A sample", tuple((_cell(place, sets),) for place in found.places(chosen)))]
    for heading, groups in (("The same file", found.same_file), ("Look alike", found.look_alike)):
        shown = groups[:GROUPS_ON_SHEET]
        more = f", {len(shown)} of {len(groups)} groups" if len(shown) < len(groups) else ""
        cells = tuple(tuple(_cell(place, sets) for place in group[:PHOTOS_OF_A_GROUP]) for group in shown)
        parts.append(Part(heading + more, cells))
    return parts


def _many(count: int, thing: str) -> str:
    """A count with its noun: 1 photo, 1,200 photos."""
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def _line(label: str, text: str) -> str:
    return f"{label:<{LABEL}}  {text}"


def _some(items: Sequence[Any], text: Callable[[Any], str]) -> Iterator[str]:
    """A line for each of the first items, and how many more there are."""
    yield from (_line("", text(item)) for item in items[:SHOWN])
    if len(items) > SHOWN:
        yield _line("", f"... and {len(items) - SHOWN:,} more (--json names all)")


def _skipped_lines(found: Inspection, recipe: Recipe) -> Iterator[str]:
    if not found.skipped:
        yield _line("skipped", "none")
        return

    def text(one: PhotoSkipped) -> str:
        return printable(f"{one.key}: {one.reason}")

    share = found.skipped_fraction
    yield _line("skipped", f"{len(found.skipped):,} ({share:.1%})")
    yield from _some(found.skipped, text)
    if share > recipe.bad_share:
        yield _line("", f"A run stops if more than {recipe.bad_share:.0%} are bad (bad_share of the recipe).")


def _picture_lines(found: Inspection, recipe: Recipe, image_size: int) -> Iterator[str]:
    shorter = found.sizes.min(axis=1)
    yield _line(
        "shorter side",
        f"{shorter.min()} to {shorter.max()} pixels, median {np.median(shorter):.0f}; "
        f"{found.smaller_than(image_size):,} below the {image_size} that {recipe.bundle} sees",
    )
    formats, modes = _counts(found.formats), _counts(found.modes)
    yield _line("kinds", f"{formats}; {modes}" + (f"; {found.animated} animated" if found.animated else ""))
    if found.long_shapes:
        yield _line("long shapes", f"{_many(found.long_shapes, 'photo')} of sides 1 : 3 and longer")
    if found.flat:
        yield _line("one colour", f"{_many(len(found.flat), 'photo')}")


def _caption_lines(found: Inspection, lengths: CaptionLengths, recipe: Recipe) -> Iterator[str]:
    per_photo = found.captions_per_photo
    if found.unlearnt:
        yield _line(
            "nothing left",
            f"{_many(found.unlearnt, 'photo')} of whose captions the form '{lengths.form}' leaves nothing",
        )
    if not found.captions:
        return
    least, most = min(per_photo), max(per_photo)
    yield _line(
        "captions",
        f"{least if least == most else f'{least} to {most}'} a photo, of {min(found.lengths)} to "
        f"{max(found.lengths)} {lengths.unit}, median {_quantile(found.lengths, 0.5)}",
    )
    yield from _bars(found.lengths)
    cut = _cut(found, lengths)
    if cut is None:
        yield _line(
            "cut",
            f"not known: the vocabulary of {recipe.bundle} is not here, so words are counted "
            f"(minigpt4 models pull {recipe.bundle})",
        )
    elif lengths.limit:
        yield _line(
            "cut",
            f"{cut:,} ({cut / found.captions:.1%}) have more than {lengths.limit} tokens and lose their end",
        )
    else:
        yield _line("cut", "none: the recipe has no longest text")


def _bars(lengths: Counter[int]) -> Iterator[str]:
    """A histogram with bins of equal width; the last bin holds the longest hundredth."""
    least, most = min(lengths), max(lengths)
    width = max(1, -(-(_quantile(lengths, 0.99) - least + 1) // BARS))
    rows = Counter[int]()
    for length, count in lengths.items():
        rows[min((length - least) // width, BARS)] += count
    largest = max(rows.values())
    for row in range(max(rows) + 1):
        first = least + row * width
        last = most if row == BARS else first + width - 1
        label = f"{first}" if first == last else f"{first} to {last}"
        bar = "#" * -(-LONGEST_BAR * rows[row] // largest)
        yield _line(f"{label:>{LABEL}}", f"{bar} {rows[row]:,}" if bar else "0")


def _cut(found: Inspection, lengths: CaptionLengths) -> int | None:
    cuts = [(lengths.is_cut(length), count) for length, count in found.lengths.items()]
    if any(is_cut is None for is_cut, _ in cuts):
        return None
    return sum(count for is_cut, count in cuts if is_cut)


def _quantile(counts: Counter[int], share: float) -> int:
    """The least value that at least this share of all values does not exceed."""
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= share * counts.total():
            return value
    return max(counts)


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.most_common())


def _by_number(counts: Counter[int]) -> Mapping[str, int]:
    return {str(number): counts[number] for number in sorted(counts)}


def _group_text(group: Group, sets: Sequence[PhotoSet]) -> str:
    """Some of a group's photos, at least one of every set if there is room."""
    firsts = list({place.set: place for place in reversed(group)}.values())[::-1]
    shown = [*firsts, *(place for place in group if place not in firsts)][:MEMBERS_SHOWN]
    names = (
        f"{sets[place.set].name}: {_key(place, sets)}" if len(sets) > 1 else _key(place, sets)
        for place in shown
    )
    more = f" and {len(group) - MEMBERS_SHOWN:,} more" if len(group) > MEMBERS_SHOWN else ""
    return printable(", ".join(names) + more)


def _key(place: Place, sets: Sequence[PhotoSet]) -> str:
    return sets[place.set].key(place.photo)


def _cell(place: Place, sets: Sequence[PhotoSet]) -> Cell:
    from minigpt4.core.pixels import open_picture
    from minigpt4.train.data.dataset import captions_in
    from minigpt4.train.inspection.contact_sheet import Cell, thumbnail

    photos = sets[place.set]
    title = _key(place, sets) if len(sets) == 1 else f"{photos.name}: {_key(place, sets)}"
    image = open_picture(photos.read(place.photo), name=title).image
    return Cell(title, captions_in(photos.meta(place.photo)), thumbnail(image))
