"""`minigpt4 data prepare`: choose pairs from lists of URLs, and have img2dataset fetch their photos."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.cores import usable_cores
from minigpt4.core.download.fetch import FetchProgress
from minigpt4.core.download.sources import size_text
from minigpt4.core.errors import UsageError
from minigpt4.tui.cli.progress import showing_progress
from minigpt4.tui.cli.signals import end_on_signals
from minigpt4.tui.terminal.messages import printable, say, shell_command, shown_name

if TYPE_CHECKING:
    from minigpt4.train.prepare.choose import Choice, Prepared
    from minigpt4.train.prepare.img2dataset import Download, Fetched

REASONS_SHOWN = 8


def prepare(
    lists: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="LIST",
            help='JSON arrays of {"url": ..., "caption": ...} as BLIP released them; none to go on with a '
            "folder that is prepared already.",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for the chosen pairs and their photos.")
    ] = Path("data"),
    pairs: Annotated[
        int | None, typer.Option("--pairs", "-n", min=1, help="How many pairs to choose, of all lists.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="The same seed chooses the same pairs.")] = 0,
    ratio: Annotated[
        str | None,
        typer.Option("--ratio", metavar="A:B", help="How lists are mixed; otherwise as in recipe stage1."),
    ] = None,
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", help="For whose tower the photos are scaled down.")
    ] = "minigpt4-vicuna-13b",
    original_size: Annotated[
        bool, typer.Option("--original-size", help="Keep the files as they come; several times the disk.")
    ] = False,
    run: Annotated[
        bool, typer.Option("--run", help="Run img2dataset instead of printing its commands.")
    ] = False,
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Processes of img2dataset; otherwise the cores.")
    ] = None,
) -> None:
    """Choose pairs from lists of web addresses, and have their photos fetched.

    The same command again resumes where it stopped.
    """
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.train.prepare.choose import Choice, read_prepared
    from minigpt4.train.prepare.img2dataset import check_program, downloads, fetch

    folder = output.expanduser()
    choice = None
    if lists:
        if pairs is None:
            raise UsageError("How many pairs are to be chosen? Give their number with -n.")
        choice = Choice(
            lists=tuple(path.expanduser() for path in lists),
            pairs=pairs,
            seed=seed,
            ratio=_ratio(ratio),
            image_size=load_bundle(bundle).vision.image_size,
            original_size=original_size,
        )
    if run and read_prepared(folder) is None:
        # Before minutes of counting, not after.
        check_program()
    end_on_signals()  # by an exception, which also stops img2dataset
    prepared = _prepared(folder, choice)
    wanted = downloads(prepared, processes or usable_cores())
    if not run:
        _print_fetched(wanted)
        _print_disk_space(folder, wanted)
        print("\n".join(shell_command(download.command) for download in wanted))
        return
    _print_disk_space(folder, wanted)
    try:
        for download in wanted:
            fetch(download)
    except (KeyboardInterrupt, SystemExit):
        say("Stopped; the same command resumes with the missing shards.")
        raise
    finally:
        _print_fetched(wanted)
    _print_next_commands(folder, wanted)


def _ratio(text: str | None) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(":"))
    except ValueError:
        numbers = ()
    if not numbers or not all(0 < number < float("inf") for number in numbers):
        raise UsageError(f"--ratio is '{text}'; write a number above 0 for each list, as in 115:14.")
    return numbers


def _prepared(folder: Path, choice: Choice | None) -> Prepared:
    from minigpt4.train.prepare.choose import prepare as choose
    from minigpt4.train.prepare.choose import read_prepared

    if choice is None:
        kept = read_prepared(folder)
        if kept is None:
            raise UsageError(
                f"{folder} holds no chosen pairs to continue with; name the lists to choose from, and how "
                "many with -n."
            )
        return kept
    with showing_progress("Reading:") as progress:
        prepared = choose(
            folder,
            choice,
            report=lambda doing, done, total: progress(FetchProgress(doing, done, total)),
        )
    for share in prepared.shares:
        name = shown_name(prepared.list_of(share))
        say(f"{name}: {share.pairs:,} of {share.rows:,} pairs, seed {prepared.seed}")
    return prepared


def _print_disk_space(folder: Path, wanted: Sequence[Download]) -> None:
    from minigpt4.train.prepare.img2dataset import fetched

    needed = sum(
        download.disk * (download.pairs - fetched(download).tried) // download.pairs for download in wanted
    )
    if needed > 0:
        free = size_text(shutil.disk_usage(folder).free)
        least = "at least " if any(download.original_size for download in wanted) else "about "
        say(f"If every link is alive, the photos take {least}{size_text(needed)}; the disk has {free} free.")


def _print_fetched(wanted: Sequence[Download]) -> None:
    from minigpt4.train.prepare.img2dataset import fetched

    for download in wanted:
        found = fetched(download)
        if found.done:
            _print_result(download, found)


def _print_result(download: Download, found: Fetched) -> None:
    lost_fraction = found.lost / max(found.tried, 1)
    say(
        f"{shown_name(download.name)}: {found.photos:,} photos from {found.done} of {download.shards} shards"
        f"; {found.lost:,} of {found.tried:,} links were dead or no picture ({lost_fraction:.1%})"
    )
    shown = Counter(found.failures).most_common(REASONS_SHOWN)
    for reason, count in shown:
        say(f"  {count:>9,}  {printable(reason)}")
    others = found.lost - sum(count for _, count in shown)
    if others > 0:
        say(f"  {others:>9,}  other reasons")
    if found.poor:
        names = " ".join(f"{name}_stats.json" for name in found.poor)
        say(
            f"  {len(found.poor)} of the shards failed far more often than the others; if the network was "
            f"down, delete these in {shown_name(download.folder)} and run the same command again: {names}"
        )


def _print_next_commands(folder: Path, wanted: Sequence[Download]) -> None:
    from minigpt4.train.recipe_file import read_recipe, recipe_path

    places = shell_command(download.folder for download in wanted)
    say(f"Look through them with: minigpt4 data inspect {places}")
    known = {source.name for source in read_recipe(recipe_path("stage1")).source}
    if known == {download.name for download in wanted}:
        say(f"Train on them with: minigpt4 train --recipe stage1 --data {shell_command([folder])}")
