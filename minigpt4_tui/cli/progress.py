"""Progress of long work, on stderr: bars at a terminal, occasional lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from textwrap import shorten
from typing import TYPE_CHECKING

from minigpt4.core.download.fetch import FetchProgress, Progress
from minigpt4.core.download.sources import size_text
from minigpt4.tui.terminal.messages import printable, say

if TYPE_CHECKING:
    from minigpt4.train.events import Event, PhotoSkipped, Report

LINE = 100
"""Characters of a line about a picture."""

IN_ALL = "in all"
"""The name of the bar for all files."""


@contextmanager
def showing_progress(verb: str, *, bars: bool = True) -> Iterator[Progress]:
    """A callback for the progress of each file; `verb` begins its line ("Writing").

    Without `bars` there are lines at a terminal, too: a screen reader reads a moving bar again and again.
    """
    if bars and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _bars() as progress:
            yield progress
    else:
        yield _line_a_file(verb)


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    tasks: dict[str, TaskID] = {}
    bars = Bars(*columns, console=Console(stderr=True))

    def update(name: str, done: int, total: int | None) -> None:
        if name not in tasks:
            # What was there before does not count towards the speed.
            tasks[name] = bars.add_task(printable(name), total=total, completed=done)
        bars.update(tasks[name], completed=done)

    def progress(now: FetchProgress) -> None:
        # Not before: a question may be asked first, which the bars would overwrite.
        bars.start()
        update(now.file, now.done, now.total)
        if now.total_in_all and now.total_in_all != now.total:
            update(IN_ALL, now.done_in_all, now.total_in_all)

    try:
        yield progress
    finally:
        bars.stop()


def _line_a_file(verb: str) -> Progress:
    begun: set[str] = set()

    def progress(now: FetchProgress) -> None:
        if now.file not in begun:
            begun.add(now.file)
            say(f"{verb} {printable(now.file)}" + (f" ({size_text(now.total)})" if now.total else ""))

    return progress


@contextmanager
def counting_photos(title: str, total: int, *, every: int) -> Iterator[Callable[[], None]]:
    """Yield a function to call for each photo: it moves a bar, or prints a line after `every` photos."""
    if not sys.stderr.isatty():
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            if done % every == 0:
                say(f"{title}: {done} of {total} photos")

        yield advance
        return
    with _counting_bar(title, total) as step:
        yield step


@contextmanager
def timing_pictures(title: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function to call after each picture, with a line about it or ""; it also shows the time left.

    At a terminal the time left is in a bar below the lines.
    """
    if sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        with _counting_bar(title, total) as step:

            def advance_bar(said: str) -> None:
                if said:
                    say(shorten(printable(said), LINE, placeholder="..."))
                step()

            yield advance_bar
        return
    from minigpt4.tui.watch.format import time_text

    begun, done = time.monotonic(), 0

    def advance(said: str) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - begun) / done * (total - done)
        if said:
            text = shorten(printable(said), LINE, placeholder="...")
            say(f"{text} ({done} of {total}" + (f", {time_text(left)} left)" if done < total else ")"))

    yield advance


@contextmanager
def _counting_bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


@contextmanager
def opening_photos(skipped: Callable[[PhotoSkipped], object]) -> Iterator[Report]:
    """The `report` of `open_photos`: what it fetches is shown, and what it leaves out goes to `skipped`."""
    from minigpt4.train.events import PhotosFetched, PhotoSkipped

    with showing_progress("Fetching") as progress:

        def report(event: Event) -> None:
            if isinstance(event, PhotoSkipped):
                skipped(event)
            elif isinstance(event, PhotosFetched):
                progress(FetchProgress(event.source, event.done, event.total))

        yield report


@contextmanager
def counting_skipped() -> Iterator[Report]:
    """Like `opening_photos`; the number of photos left out is printed at the end, a line for each reason."""
    skipped: Counter[str] = Counter()
    first: dict[str, str] = {}

    def count(event: PhotoSkipped) -> None:
        skipped.update([event.reason])
        first.setdefault(event.reason, event.key)

    with opening_photos(count) as report:
        yield report
    for reason, number in skipped.most_common():
        say(printable(f"{number} skipped: {reason} (first: {first[reason]})"))
