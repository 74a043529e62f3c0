"""The commands of `minigpt4 eval`."""

from __future__ import annotations

import typer

from minigpt4.tui.cli.evaluate.ablations import ablations
from minigpt4.tui.cli.evaluate.judge import judge
from minigpt4.tui.cli.evaluate.report import report
from minigpt4.tui.cli.evaluate.suites import add_suites

eval_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure how well a model answers about known pictures.",
)
add_suites(eval_app)
eval_app.command("judge")(judge)
eval_app.command("report")(report)
eval_app.command()(ablations)
