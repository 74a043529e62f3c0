"""`minigpt4 data inspect PLACE...`: inspect photos before training on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.cores import usable_cores
from minigpt4.core.errors import DataError
from minigpt4.tui.cli.progress import counting_photos, opening_photos
from minigpt4.tui.terminal.messages import say, shown_name
from minigpt4.tui.terminal.results import json_text

if TYPE_CHECKING:
    from minigpt4.train.data.dataset import PhotoSet
    from minigpt4.train.events import PhotoSkipped

PHOTOS_A_LINE = 1000
"""Photos between two lines of progress if stderr is not a terminal."""


def inspect(
    places: Annotated[
        list[str],
        typer.Argument(
            metavar="PLACE",
            help="Folders, lists or shards of photos with captions: whatever 'train --data' takes.",
        ),
    ],
    recipe: Annotated[
        str, typer.Option("--recipe", help="The recipe whose caption form and longest text count.")
    ] = "mini-stage1",
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="Another bundle than the recipe's.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option("--sheet", help="Write a contact sheet: an .html or .png file.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Photos on the sheet, by chance.")] = 48,
    seed: Annotated[int, typer.Option("--seed", help="The same seed puts the same photos on the sheet.")] = 0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Photos opened at a time; otherwise the cores.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all that was found as JSON.")] = False,
) -> None:
    """Count photos, open each of them, measure captions, and find what is there twice."""
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.train.inspection.caption_lengths import caption_lengths
    from minigpt4.train.inspection.contact_sheet import check_sheet, write_sheet
    from minigpt4.train.inspection.inspection import inspect_photos
    from minigpt4.train.recipe_file import read_recipe, recipe_path
    from minigpt4.tui.cli.data.report import parts_of, record_of, report_lines

    if sheet is not None:
        sheet = sheet.expanduser()
        check_sheet(sheet)
    chosen = read_recipe(recipe_path(recipe))
    chosen = replace(chosen, bundle=bundle or chosen.bundle)
    model = load_bundle(chosen.bundle)
    lengths = caption_lengths(chosen, model)
    skipped: list[PhotoSkipped] = []
    sets = _opened(places, skipped)
    with counting_photos("inspect", sum(map(len, sets)), every=PHOTOS_A_LINE) as advance:
        found = inspect_photos(
            sets, lengths, skipped=skipped, workers=workers or usable_cores(), advance=advance
        )
    if not found.photos:
        first = found.skipped[0]
        raise DataError(
            f"None of the {len(found.skipped)} photos can be used; the first, {first.key}: {first.reason}."
        )
    if as_json:
        print(json_text(record_of(found, sets, lengths, chosen)))
    else:
        for line in report_lines(found, sets, lengths, chosen, model.vision.image_size):
            print(line)
    if sheet is not None:
        write_sheet(sheet, f"{found.photos:,} photos", parts_of(found, sets, samples, seed))
        say(f"The contact sheet is {shown_name(sheet)}.")


def _opened(places: Sequence[str], skipped: list[PhotoSkipped]) -> list[PhotoSet]:
    """The sets, each under a name of its own; photos that cannot be opened are added to `skipped`."""
    from minigpt4.train.data.open import open_photos

    short = [place.rstrip("/").rpartition("/")[2] for place in places]
    with opening_photos(skipped.append) as report:
        return [
            open_photos(place, name=name if short.count(name) == 1 else place, report=report)
            for place, name in zip(places, short, strict=True)
        ]
