"""The table of commands and options that shell completion reads, made from the command line itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from typer.main import get_command

from minigpt4.tui.cli.commands import COMMANDS, app
from minigpt4.tui.cli.completion.values import CHOICES
from minigpt4.tui.settings.settings import schema

KINDS = {
    "--bundle": "bundle",
    "--theme": "theme",
    "--recipe": "recipe files",
    "--projection": "run files",
    "--init": "run files",
    "--watch": "run files",
    "--format": f"{CHOICES}markdown html json",
    "--template": f"{CHOICES}vicuna-v0 llama2",
    "--stage": f"{CHOICES}1 2",
    "--type": f"{CHOICES}F16 Q8_0 Q5_K_M Q4_K_M Q4_0",
    "--data": "files",
    "--image": "files",
    "shell": f"{CHOICES}bash zsh fish",
    "conversation": "conversation",
    "conversations": "conversation",
    "images": "files",
    "places": "files",
    "shards": "files",
    "paths": "files",
    "pictures": "files",
    "wanted": "theme files",
}
"""Of options and arguments by name, whichever command they belong to."""

SPECIAL = {
    ("chat", "--resume"): "conversation",
    ("history restore", "conversations"): "deleted",
    ("models import", "name"): "",
    ("models import", "--projection"): "files",
    ("models quantize", "name"): "bundle files",
    ("themes new", "--from"): "theme",
    ("themes new", "name"): "",
    ("themes path", "name"): "theme",
    ("train", "--output"): "run files",
    ("train", "--data"): "files",
}
NAMED = {"models": "bundle"}
"""The kind of an argument `name` in a family of commands."""


def completion_table() -> str:
    """The content of table.json."""
    return json.dumps(dict(_commands(get_command(app), "")), indent=1, ensure_ascii=False) + "\n"


def _commands(command: Any, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    inner = {
        sub: command.get_command(None, sub) for sub in getattr(command, "list_commands", lambda _: [])(None)
    }
    options: dict[str, Any] = {"--help": {"kind": "", "takes_value": False, "about": "Show the options."}}
    arguments = []
    repeats = False
    for param in command.params:
        if not param.opts[0].startswith("-"):
            arguments.append(_kind(name, param))
            repeats = param.nargs == -1
            continue
        about = " ".join((getattr(param, "help", None) or "").split())
        for option in [*param.opts, *param.secondary_opts]:
            options[option] = {"kind": _kind(name, param), "takes_value": not param.is_flag, "about": about}
    summaries = {
        sub: COMMANDS[sub].summary if not name else one.get_short_help_str(80) for sub, one in inner.items()
    }
    yield (
        name,
        {"commands": summaries, "options": options, "arguments": arguments, "repeats": repeats},
    )
    for sub, one in inner.items():
        yield from _commands(one, f"{name} {sub}".strip())


def _kind(command: str, param: Any) -> str:
    if getattr(param, "is_flag", False):
        return ""
    name = param.opts[0]
    if (command, name) in SPECIAL:
        return SPECIAL[command, name]
    if name in KINDS:
        return KINDS[name]
    if name == "name":
        return NAMED.get(command.split()[0], "")
    choices = {one.flag: one.choices for one in schema()}.get(name)
    if choices:
        return CHOICES + " ".join(map(str, choices))
    annotation = param.type_descriptor.annotation
    return "files" if Path in (annotation, *get_args(annotation)) else ""
