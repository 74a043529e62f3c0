"""`minigpt4 bench`: how fast a bundle is on this machine, and how fast it could be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.errors import UsageError
from minigpt4.tui.cli import options
from minigpt4.tui.cli.signals import end_on_signals
from minigpt4.tui.terminal.messages import printable, say
from minigpt4.tui.terminal.results import json_text

if TYPE_CHECKING:
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.tui.bench.result import Result

MODEL_FLAGS = options.FixedModelFlags()


@options.with_option_sets
def bench(
    bundle: Annotated[
        str, typer.Argument(metavar="BUNDLE", help="The bundle, as 'models list' shows it.")
    ] = "mini",
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one JSON object.")] = False,
    compare: Annotated[
        Path | None,
        typer.Option(
            "--compare", metavar="FILE", help="Print ratios to an earlier result, a file of --json."
        ),
    ] = None,
    svg: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Draw the result as an SVG picture, too.")
    ] = None,
    model: options.FixedModelFlags = MODEL_FLAGS,
) -> None:
    """Measure a bundle on this machine, beside the machine's own memory bandwidth and arithmetic.

    Figures are medians with the lowest and highest value: load, look (a new picture), prefill, first_token
    (of an answer about a new picture), decode, second_turn (its first token), cached_picture, busy_ask
    (first_token beside a busy loop on each processor) and peak_memory. Close other programs before.
    """
    from minigpt4.tui.bench.result import earlier_figures, machine_line

    earlier = earlier_figures(compare.expanduser()) if compare is not None else {}
    drawing = svg.expanduser() if svg is not None else None
    if drawing is not None and (drawing.is_dir() or not drawing.absolute().parent.is_dir()):
        raise UsageError(f"--svg {drawing} cannot be written; name a file in a folder that is there.")
    choice = model.options(bundle).resolved()
    end_on_signals()
    options.fetch_files(choice)
    result = _measured(choice)
    if drawing is not None:
        from minigpt4.tui.bench.drawing import draw

        draw(result, drawing)
    if as_json:
        print(json_text(result.as_json(), indent=2))
        if not earlier:
            return
    lines = _table(list(result.rows(earlier)))
    print_line = say if as_json else print  # the ratios must not spoil the JSON
    for line in (printable(machine_line(result.machine)), "", *lines):
        print_line(line)


def _measured(choice: EngineOptions) -> Result:
    from minigpt4.core.cores import usable_cores
    from minigpt4.core.engine import Engine
    from minigpt4.core.language.load import choices_made
    from minigpt4.train.evaluate.identity import versions
    from minigpt4.tui.bench.figures import Bench, Figure
    from minigpt4.tui.bench.machine import measured, needs_of
    from minigpt4.tui.bench.result import Result

    bundle = choice.loaded_bundle()
    figures: list[Figure] = []
    measuring = Bench(lambda one: Engine.from_options(one, notice=say), choice)
    for figure in measuring.figures(usable_cores()):
        say(f"{figure.name} ...")
        figures.append(figure)
    choices = choices_made(choice)
    needs = needs_of(bundle, choices["quant"], measuring.look_operations)
    say("memory bandwidth and arithmetic ...")
    # Last, so that its memory does not count towards the peak.
    machine = measured(choices["device"], choice.threads)
    limits = {
        figure.name: limit
        for figure in figures
        if needs is not None and (limit := needs.limit(figure, machine)) is not None
    }
    libraries = {"torch": versions("torch")["torch"]} | versions(choices["backend"])
    return Result(bundle.name, choices, libraries, machine, figures, limits)


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            [
                f"{row[0]:<{widths[0]}}",
                *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
            ]
        ).rstrip()
        for row in rows
    ]
