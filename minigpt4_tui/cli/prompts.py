"""`minigpt4 prompts`: the named prompts, what they ask, and where their files are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.core.text import suggestion
from minigpt4.tui.cli.errors import FAILED, say_error
from minigpt4.tui.conversation.slash_commands import named_prompts, prompt_problems
from minigpt4.tui.prompts.prompts import NamedPrompt, own_prompts_folder, prompt_files, read_prompt
from minigpt4.tui.terminal.messages import printable, shown_name
from minigpt4.tui.terminal.results import json_text, print_path
from minigpt4.tui.terminal.sanitize import sanitize

prompts_app = typer.Typer(
    help="List and show named prompts: questions such as /poem, a TOML file each.",
    rich_markup_mode=None,
    add_completion=False,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@prompts_app.callback(invoke_without_command=True)
def prompts(context: typer.Context) -> None:
    """List and show named prompts: questions such as /poem, a TOML file each."""
    if context.invoked_subcommand is None:
        list_prompts()


@prompts_app.command("list")
def list_prompts(as_json: AsJson = False) -> None:
    """List the named prompts: what each is for, and its file.

    Your own lie in the folder that `minigpt4 prompts path` prints; one of the same name replaces ours.
    """
    found = named_prompts()
    files = prompt_files()
    if as_json:
        print(json_text([_row(one, files[one.name]) for one in found], indent=2))
    else:
        name_width = max(len(one.name) for one in found) + 1
        about_width = max(len(printable(one.about)) for one in found)
        for one in found:
            about = f"{printable(one.about):<{about_width}}"
            print(f"{'/' + one.name:<{name_width}}  {about}  {shown_name(files[one.name])}")
    problems = prompt_problems()
    for problem in problems:
        say_error(Minigpt4Error(problem))
    if problems:
        raise typer.Exit(FAILED)


@prompts_app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name, such as poem.")],
    as_json: AsJson = False,
) -> None:
    """Show a named prompt: its file, what it is for, the longest answer and the question."""
    files = prompt_files()
    wanted = name.removeprefix("/")
    if wanted not in files:
        raise UsageError(f"There is no prompt '{name}'; {suggestion(wanted, files)}")
    prompt = read_prompt(files[wanted])
    if as_json:
        print(json_text(_row(prompt, files[wanted]), indent=2))
        return
    limit = f"{prompt.max_tokens} tokens" if prompt.max_tokens else "as in the settings"
    print(f"/{prompt.name}: {printable(prompt.about)}")
    print(f"File: {shown_name(files[wanted])}")
    print(f"Longest answer: {limit}")
    print(f"Question: {sanitize(prompt.text.strip())}")


@prompts_app.command("path")
def path() -> None:
    """Print the folder of your own named prompts. It may not exist yet."""
    print_path(own_prompts_folder())


def _row(prompt: NamedPrompt, file: Path) -> dict[str, Any]:
    return {
        "name": prompt.name,
        "about": prompt.about,
        "text": prompt.text,
        "max_tokens": prompt.max_tokens,
        "own": file.parent == own_prompts_folder(),
        "path": str(file),
    }
