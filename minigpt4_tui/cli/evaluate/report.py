"""`minigpt4 eval report`: the scores of runs side by side, from their folders alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.errors import UsageError
from minigpt4.tui.terminal.messages import say
from minigpt4.tui.terminal.results import json_text

if TYPE_CHECKING:
    from minigpt4.train.evaluate.report.report import Report


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of runs; each is compared with the first.")
    ],
    markdown: Annotated[
        Path | None, typer.Option("--markdown", metavar="FILE", help="Write the tables as Markdown, too.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html",
            metavar="FILE",
            help="Write one page with pictures, answers and verdicts, to filter and sort in a browser.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="--html: where the pictures are now; may be repeated.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the scores as one JSON object.")] = False,
) -> None:
    """Compare runs by their scores, with 95 % intervals, the paper's figures and the differences."""
    from minigpt4.train.evaluate.report.report import Report, as_record
    from minigpt4.train.evaluate.report.reported_run import open_runs
    from minigpt4.train.evaluate.report.tables import as_markdown

    if data and html is None:
        raise UsageError("--data is where the pictures of --html are; give --html FILE, too.")
    paths = [run.expanduser() for run in runs]
    files = [file.expanduser() for file in (markdown, html) if file is not None]
    _require_apart(files, paths)
    made = Report(open_runs(paths))
    record, text = as_record(made), as_markdown(made)
    if markdown is not None:
        _write(markdown.expanduser(), text)
    if html is not None:
        _write_page(html.expanduser(), made, data or [])
    if as_json:
        print(json_text(record))
    else:
        _print(made)


def _require_apart(files: Sequence[Path], runs: Sequence[Path]) -> None:
    """Raise UsageError for two outputs in one file, or an output that is a folder or a run's own file."""
    if len({file.absolute() for file in files}) < len(files):
        raise UsageError(f"--markdown and --html are both '{files[0]}'; give them different names.")
    for file in files:
        if file.is_dir():
            raise UsageError(f"'{file}' is a folder; give the name of a file in it.")
        if file.suffix in (".json", ".jsonl") and file.parent.absolute() in [run.absolute() for run in runs]:
            raise UsageError(f"'{file}' is a file of the run itself; choose another name.")


def _write(path: Path, text: str) -> None:
    from minigpt4.core.storage.atomic import replacing

    with replacing(path) as draft:
        # A file name that is not UTF-8 has surrogates, which no encoding can write.
        draft.write_text(text, encoding="utf-8", errors="replace")


def _write_page(path: Path, made: Report, data: Sequence[str]) -> None:
    from minigpt4.train.evaluate.report.page import as_page
    from minigpt4.train.evaluate.report.pictures import find_pictures

    pictures = find_pictures(made.runs, data)
    for sentence in pictures.unreadable:
        say(sentence)
    if pictures.missing:
        number = len(pictures.missing)
        say(
            f"{number} picture{'s' if number > 1 else ''} not found, the first: {pictures.missing[0]}; "
            "name with --data where they are."
        )
    _write(path, as_page(made, pictures))


def _print(made: Report) -> None:
    from minigpt4.train.evaluate.report.tables import as_text, score_table

    for note in made.notes:
        say(note)
    for place, suite in enumerate(made.suites):
        if len(made.suites) > 1:
            print(f"{chr(10) if place else ''}{suite.name}")
        print(as_text(score_table(suite)), end="")
        for note in suite.notes:
            say(note)
