"""`minigpt4 themes`: list and check colour themes, and begin your own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.themes import Theme, load_theme, own_themes_folder, read_theme, theme_files, theme_names
from minigpt4.tui.cli.errors import say_error
from minigpt4.tui.terminal.messages import printable, say, shown_name
from minigpt4.tui.terminal.results import json_text, print_path

themes_app = typer.Typer(
    help="List, check and begin colour themes: a TOML file each.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@themes_app.command("list")
def list_themes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the themes: name, dark or light, and whose it is."""
    rows, problems = _rows()
    if as_json:
        print(json_text(rows, indent=2))
    else:
        width = max(len(str(row["name"])) for row in rows)
        for row in rows:
            name = shown_name(str(row["name"]))
            where = shown_name(str(row["path"])) if row["own"] else "shipped"
            print(f"{name:<{width}}  {row['kind']:<8}  {where}")
    for problem in problems:
        say_error(problem)
    if problems:
        raise typer.Exit(1)


@themes_app.command("check")
def check(
    wanted: Annotated[
        list[str] | None, typer.Argument(metavar="[THEME]...", help="Names or TOML files; all without one.")
    ] = None,
) -> None:
    """Check theme files.

    Looks at keys, colours, and how well each text can be read. What is hard to read is reported; only a
    theme that cannot be used ends in exit code 1.
    """
    from minigpt4.tui.textual_theme import contrast_problems

    failed = False
    for name in wanted or theme_names():
        try:
            theme = read_theme(Path(name)) if _is_path(name) else load_theme(name)
            faint = contrast_problems(theme)
        except Minigpt4Error as problem:
            say_error(problem)
            failed = True
            continue
        for sentence in faint:
            say(printable(sentence))
        print(
            f"{shown_name(theme.name)} can be used" + (f"; {_count(faint)} hard to read." if faint else ".")
        )
    if failed:
        raise typer.Exit(1)


@themes_app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What your theme is called.")],
    base: Annotated[
        str, typer.Option("--from", metavar="THEME", help="The theme to begin with.")
    ] = "harbour",
) -> None:
    """Begin a theme of your own as a copy of another, and print its path.

    While the app is open, it follows every save of the file.
    """
    if not NAME.fullmatch(name):
        raise UsageError(f"'{name}' cannot be a theme's name; use lower-case letters, digits, - and _.")
    path = own_themes_folder() / f"{name}.toml"
    if path.exists():
        raise UsageError(f"There is a theme {path} already; edit it, or choose another name.")
    load_theme(base)
    import tomlkit

    document = tomlkit.parse(theme_files()[base].read_text(encoding="utf-8"))
    document["name"] = name
    with replacing(path) as draft:
        draft.write_text(f"# Begun from '{base}'.\n{tomlkit.dumps(document)}", encoding="utf-8")
    print_path(path)
    say(f'`minigpt4 themes check {name}` checks it, and theme = "{name}" in the settings chooses it.')


@themes_app.command("path")
def path(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A theme's name.")] = None,
) -> None:
    """Print the file of a theme.

    Without a name the folder of your own themes. It may not exist yet.
    """
    if name is None:
        print_path(own_themes_folder())
    elif name in theme_files():
        print_path(theme_files()[name])
    else:
        load_theme(name)  # raises an error that suggests the nearest name


def _rows() -> tuple[list[dict[str, str | bool]], list[Minigpt4Error]]:
    rows: list[dict[str, str | bool]] = []
    problems: list[Minigpt4Error] = []
    for name, file in sorted(theme_files().items()):
        try:
            kind = _kind(load_theme(name))
        except Minigpt4Error as problem:
            kind = "broken"
            problems.append(problem)
        own = file.parent == own_themes_folder()
        rows.append({"name": name, "kind": kind, "own": own, "path": str(file)})
    return rows, problems


def _kind(theme: Theme) -> str:
    if theme.ansi:
        return "terminal"
    return "dark" if theme.dark else "light"


def _is_path(name: str) -> bool:
    return name.endswith(".toml") or "/" in name


def _count(faint: list[str]) -> str:
    return "1 text is" if len(faint) == 1 else f"{len(faint)} texts are"
