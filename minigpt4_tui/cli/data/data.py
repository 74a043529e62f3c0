"""`minigpt4 data prepare | inspect`: choose, fetch and inspect photos for training."""

from __future__ import annotations

import typer

from minigpt4.tui.cli.data.inspect import inspect
from minigpt4.tui.cli.data.prepare import prepare

data_app = typer.Typer(
    help="Choose and fetch photos to learn from, and look through them before they are learnt.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

data_app.command()(prepare)
data_app.command()(inspect)
