"""`minigpt4 config`: the settings file, the settings and their origins, and a check."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from minigpt4.tui.settings.file import settings_path
from minigpt4.tui.settings.problems import settings_problems
from minigpt4.tui.settings.settings import Entry, Loaded, load_settings, schema
from minigpt4.tui.terminal.messages import printable, say, shown_name
from minigpt4.tui.terminal.results import json_text, print_path

config_app = typer.Typer(
    help="Show and check the settings.", no_args_is_help=True, rich_markup_mode=None, add_completion=False
)


@config_app.command("path")
def path() -> None:
    """Print the path of the settings file.

    It may not exist yet; it is TOML, and 'config show' prints what could stand in it.
    """
    print_path(settings_path())


@config_app.command("show")
def show(
    about: Annotated[bool, typer.Option("--about", help="Tell what each setting is for.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting with its value and where that comes from.

    The lines are a settings file themselves. Problems go to standard error.
    """
    loaded = load_settings()
    if as_json:
        print(json_text(_as_json(loaded), indent=2))
    else:
        for found in schema():
            for line in _lines(found, loaded, about):
                print(line)
    for problem in loaded.problems:
        say(printable(problem))


@config_app.command("check")
def check() -> None:
    """Check the settings file, the environment and the keys.

    Every problem is a line on standard error, and the exit code is 1 if there is one.
    """
    problems = list(settings_problems())
    for problem in problems:
        say(printable(problem))
    if problems:
        raise typer.Exit(1)
    where = settings_path()
    shown = shown_name(where)
    print(f"{shown} is valid." if where.exists() else f"There is no {shown}; the defaults apply.")


def _as_json(loaded: Loaded) -> dict[str, Any]:
    rows = {
        found.name: {"value": getattr(loaded.settings, found.name), "from": loaded.origins[found.name]}
        for found in schema()
    }
    rows["keys"]["value"] = dict(loaded.settings.keys)
    return {"path": str(settings_path()), "settings": rows, "problems": list(loaded.problems)}


def _lines(found: Entry, loaded: Loaded, about: bool) -> Iterator[str]:
    if about:
        yield f"# {found.about}"
        if found.name != "keys":
            yield f"# It is {found.expected()}; {found.variable} in the environment sets it, too."
    value = getattr(loaded.settings, found.name)
    if isinstance(value, Mapping):
        yield f"[{found.name}]"
        yield from (f"{_toml(action)} = {_toml(list(keys))}" for action, keys in value.items())
    elif value is None:
        yield f"# {found.name} is not set"
    else:
        yield f"{found.name} = {_toml(value)}  # {loaded.origins[found.name]}"
    if about:
        yield ""


def _toml(value: object) -> str:
    """The value as TOML: JSON's strings, numbers, lists and booleans are valid TOML.

    Other unprintable characters are escaped, too: DEL because of TOML, and many more for terminals.
    """
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)
