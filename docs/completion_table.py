"""The table of commands and options that shell completion reads, made from the command line itself."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from typer.main import get_command

from minigpt4.train.recipe import Recipe, Source, Validation
from minigpt4.tui.cli.commands import COMMANDS, app
from minigpt4.tui.cli.completion.values import CHOICES
from minigpt4.tui.settings.settings import schema

KINDS = {
    "--bundle": "bundle",
    "--theme": "theme",
    "--recipe": "recipe files.toml",
    "--set": "setting",
    "question": "question",
    "--projection": "run files",
    "--init": "run files",
    "--watch": "run files",
    "--format": f"{CHOICES}markdown html json",
    "--template": f"{CHOICES}vicuna-v0 llama2",
    "--stage": f"{CHOICES}1 2",
    "--type": f"{CHOICES}F16 Q8_0 Q5_K_M Q4_K_M Q4_0",
    "--device": f"{CHOICES}auto cpu cuda",
    "--existing": f"{CHOICES}skip append overwrite",
    "--gguf": f"{CHOICES}Q4_0 Q8_0 F16",
    "--on": f"{CHOICES}A100 H100 4090 CPU",
    "--export": f"{CHOICES}cc_sbu_align webdataset captions",
    "--until": f"{CHOICES}describe repair filter review export",
    "--without": f"{CHOICES}apology fragment repetition language similar-text similar-picture",
    "--judge-bundle": "bundle",
    "--eval-data": "files",
    "--data": "files",
    "--image": "files",
    "shell": f"{CHOICES}bash zsh fish",
    "conversation": "conversation",
    "conversations": "conversation",
    "data": "files",
    "images": "files",
    "places": "files",
    "shards": "files",
    "paths": "files",
    "pictures": "files",
    "wanted": "theme files.toml",
}
"""The kinds of options and arguments by name, in any command."""

SPECIAL = {
    ("chat", "--resume"): "conversation",
    ("history restore", "conversations"): "deleted",
    ("models import", "name"): "",
    ("models import", "--gguf"): "files",
    ("models import", "--mmproj"): "files",
    ("models import", "--projection"): "files",
    ("models quantize", "name"): "bundle files",
    ("models synth", "--dtype"): f"{CHOICES}bf16 fp16",
    ("models trace", "--dtype"): f"{CHOICES}float32 bfloat16 float16",
    ("themes new", "--from"): "theme",
    ("themes new", "name"): "",
    ("themes path", "name"): "theme",
    ("train", "--output"): "run files",
    ("train", "--data"): "files",
    ("curate", "--output"): "files",
    ("bench", "bundle"): "bundle",
    ("curate", "--repair-with"): "bundle",
}
NAMED = {"models": "bundle", "prompts": "prompt"}
"""The kind of an argument `name` in a family of commands."""


def completion_table() -> str:
    """The content of table.tsv, which minigpt4_tui/cli/completion/table.py reads."""
    rows = [*_commands(get_command(app), "", ""), *_recipe_keys()]
    return "".join("\t".join(row) + "\n" for row in rows)


def _commands(command: Any, name: str, summary: str) -> Iterator[tuple[str, ...]]:
    inner = {
        sub: command.get_command(None, sub) for sub in getattr(command, "list_commands", lambda _: [])(None)
    }
    yield ("command", name, summary)
    yield ("option", "--help", "", "flag", "Show the options.")
    for param in command.params:
        if not param.opts[0].startswith("-"):
            yield ("argument", _kind(name, param), "repeats" if param.nargs == -1 else "once")
            continue
        about = " ".join((getattr(param, "help", None) or "").split())
        for option in [*param.opts, *param.secondary_opts]:
            yield ("option", option, _kind(name, param), "flag" if param.is_flag else "value", about)
    for sub, one in inner.items():
        about = COMMANDS[sub].summary if not name else one.get_short_help_str(80)
        yield from _commands(one, f"{name} {sub}".strip(), about)


def _recipe_keys() -> Iterator[tuple[str, ...]]:
    """What `--set` takes; NAME stands for a source's name."""
    for kind, before in ((Recipe, ""), (Source, "source.NAME."), (Validation, "validation.")):
        hints = get_type_hints(kind)
        for field, about in _field_docs(kind).items():
            if before + field in ("source", "validation", "source.NAME.name"):
                continue
            choices = get_args(hints[field]) if get_origin(hints[field]) is Literal else ()
            values = CHOICES + " ".join(map(str, choices)) if choices else ""
            yield ("key", before + field, "bundle" if field == "bundle" else values, about)


def _field_docs(kind: type) -> dict[str, str]:
    """The first sentence below each field of a dataclass."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for field, below in pairwise(definition.body):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
            text = " ".join(ast.literal_eval(below.value).split())
            docs[ast.unparse(field.target)] = text.partition(". ")[0].removesuffix(".")
    return docs


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
