"""Progress of work on large files, on stderr: bars at a terminal, a line a file elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from minigpt4.core.download.fetch import FetchProgress, Progress
from minigpt4.core.download.sources import size_text
from minigpt4.tui.cli.errors import say


@contextmanager
def showing_progress(verb: str, *, bars: bool = True) -> Iterator[Progress]:
    """What is to be told how far each file has come; `verb` begins its line ("Writing").

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
    from rich.progress import BarColumn, DownloadColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    name = TextColumn("{task.description}", markup=False)
    tasks: dict[str, TaskID] = {}
    console = Console(stderr=True)
    with Bars(name, BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=console) as bars:

        def progress(now: FetchProgress) -> None:
            if now.file not in tasks:
                tasks[now.file] = bars.add_task(now.file, total=now.total)
            bars.update(tasks[now.file], completed=now.done)

        yield progress


def _line_a_file(verb: str) -> Progress:
    begun: set[str] = set()

    def progress(now: FetchProgress) -> None:
        if now.file not in begun:
            begun.add(now.file)
            say(f"{verb} {now.file}" + (f" ({size_text(now.total)})" if now.total else ""))

    return progress
