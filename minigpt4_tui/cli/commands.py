"""The commands and what they are for; each module is imported only when its command is called.

So `minigpt4 --help` imports none of them; it prints the table below.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin

import typer
from typer._coercion import build_runtime_param
from typer.core import TyperGroup, _TyperParameter
from typer.main import get_command, get_group

import minigpt4
from minigpt4.core.errors import UsageError
from minigpt4.core.text import suggestion
from minigpt4.tui.cli.errors import Edge

PROGRAM = "minigpt4"


@dataclass(frozen=True)
class Command:
    """The module of a command, its function or typer app there, and its summary."""

    module: str
    attribute: str
    summary: str


COMMANDS = {
    "chat": Command("chat.chat", "chat", "Talk about your pictures, turn by turn."),
    "ask": Command("ask", "ask", "Answer one question about one or more pictures."),
    "caption": Command("caption", "caption", "Write captions for whole folders of pictures."),
    "history": Command("history", "history_app", "List, search, show, export and delete conversations."),
    "models": Command("models.models", "models_app", "List, show, download and find model bundles."),
    "train": Command("train.train", "train", "Train a bundle's projection, stage 1 or 2."),
    "data": Command("data.data", "data_app", "Choose, fetch and look through photos to learn from."),
    "themes": Command("themes", "themes_app", "List, check and begin colour themes."),
    "prompts": Command("prompts", "prompts_app", "List and show named prompts, such as /poem."),
    "config": Command("config", "config_app", "Show and check the settings."),
    "doctor": Command("doctor", "doctor", "Check this machine for problems, and say how to fix them."),
    "bench": Command("bench", "bench", "Measure how fast a bundle is here, and how fast it could be."),
    "eval": Command("evaluate.app", "eval_app", "Measure how well a bundle answers."),
    "curate": Command("curate", "curate", "Describe your own pictures for stage 2, and keep the good texts."),
    "completion": Command(
        "completion.command", "completion", "Print the completion script for bash, zsh or fish."
    ),
}


class Coercion:
    """typer's conversion of a parameter's value, without pydantic if the value has its type already.

    pydantic takes 50 ms to import, and typer calls it also for options that are not given.
    """

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value that the command is called with; raises typer.BadParameter."""
        kind = param.type_descriptor.annotation
        if value is None:
            return () if param.nargs == -1 or param.multiple else None
        if isinstance(kind, type) and isinstance(value, kind):
            return value
        if get_origin(kind) is list and all(isinstance(one, get_args(kind)[0]) for one in value):
            return list(value)
        return build_runtime_param(param.type_descriptor).coerce(value, param=param, ctx=ctx)


_COERCION = Coercion()
_TyperParameter.get_runtime_param = lambda _: _COERCION  # type: ignore


class CommandTable(TyperGroup):
    """The table of commands; a module is imported when its command is used."""

    def list_commands(self, _ctx: Any) -> list[str]:
        """Names in the order of the table, as the help page shows them."""
        return list(COMMANDS)

    def get_command(self, _ctx: Any, cmd_name: str) -> Any:
        """The command of that name, or None."""
        if cmd_name not in COMMANDS:
            return None
        command = COMMANDS[cmd_name]
        module = importlib.import_module(f"minigpt4.tui.cli.{command.module}")
        target = getattr(module, command.attribute)
        if isinstance(target, typer.Typer):
            return get_group(target)
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name)(target)
        return get_command(single)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Resolve a command; for an unknown name, the UsageError suggests the nearest one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            raise UsageError(f"There is no command '{name}'; {suggestion(name, COMMANDS)}")
        if isinstance(ctx.obj, Edge):
            ctx.obj.command = name
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: Any, formatter: Any) -> None:
        """Write the table, one line per command."""
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


def run_command(arguments: list[str], edge: Edge) -> None:
    """Parse the arguments and run the command; raises its errors, and typer.Exit with an exit code."""
    command = get_command(app)
    with command.make_context(PROGRAM, arguments, obj=edge) as context:
        command.invoke(context)
