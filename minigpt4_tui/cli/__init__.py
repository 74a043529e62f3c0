"""The command line: one module a command, each imported only when it is called.

`minigpt4 --help` therefore knows nothing of models; it answers from the table below.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command, get_group

import minigpt4
from minigpt4.core.errors import UsageError
from minigpt4.tui.cli.edge import Edge, run_at_edge

PROGRAM = "minigpt4"


@dataclass(frozen=True)
class Command:
    """Where a command lives (`attribute` is a function or a typer app) and what it is for."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "chat": Command("chat", "chat", "Talk about your pictures, turn by turn."),
    "ask": Command("ask", "ask", "Answer one question about one or more pictures."),
    "history": Command("history", "history_app", "List, search, show, export and delete conversations."),
    "models": Command("models", "models_app", "List, show, download and find model bundles."),
    "data": Command("data", "data_app", "Choose, fetch and look through photos to learn from."),
    "train": Command("train", "train", "Train a bundle's projection, stage 1 or 2."),
    "themes": Command("themes", "themes_app", "List, check and begin colour themes."),
    "config": Command("config", "config_app", "Show and check the settings."),
    "doctor": Command("doctor", "doctor", "Look for what is missing or broken, and tell the way out."),
    "eval": Command("evaluate", "eval_app", "Measure how well a bundle answers."),
}


class CommandTable(TyperGroup):
    """The table of commands; a module is imported when its command is called for by name."""

    def list_commands(self, _ctx: Any) -> list[str]:
        """Names in the order of the table, as the help page shows them."""
        return list(COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command = COMMANDS[cmd_name]
        module = importlib.import_module(f"{__name__}.{command.module}")
        target = getattr(module, command.attribute)
        if isinstance(target, typer.Typer):
            return get_group(target)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name)(target)
        return get_command(single)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As usual; a name that is not in the table gets the nearest one suggested."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            near = difflib.get_close_matches(name.lower(), COMMANDS, n=1, cutoff=0.5)
            advice = f"did you mean '{near[0]}'?" if near else f"there are {', '.join(COMMANDS)}."
            raise UsageError(f"There is no command '{name}'; {advice}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """The table, one line a command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])


app = typer.Typer(
    name=PROGRAM,
    cls=CommandTable,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"{PROGRAM} {minigpt4.__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def start(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the code an error happened.")] = False,
) -> None:
    """Chat with a local vision-language model about your own pictures, and train it."""
    context.obj.debug = debug
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: list[str] | None = None) -> None:
    """The console script: run the command line and exit with its code."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        # A terminal or a pipe that cannot show a letter must not end an answer.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    edge = Edge()

    def parse_and_run() -> None:
        command = get_command(app)
        given = sys.argv[1:] if arguments is None else arguments
        with command.make_context(PROGRAM, list(given), obj=edge) as context:
            command.invoke(context)

    sys.exit(run_at_edge(parse_and_run, edge))
