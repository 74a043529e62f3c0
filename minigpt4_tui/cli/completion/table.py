"""The table of commands, options and recipe keys (table.tsv), which `docs/make.py` makes from the code."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = os.path.join(os.path.dirname(__file__), "table.tsv")


class Option:
    """An option: the kind of its value, whether it takes one, and what it is for."""

    def __init__(self, kind: str, takes_value: bool, about: str) -> None:
        self.kind = kind
        self.takes_value = takes_value
        self.about = about


class Command:
    """A command with its options, the kinds of its arguments, and the commands below it by name."""

    def __init__(self) -> None:
        self.commands: dict[str, str] = {}
        self.options: dict[str, Option] = {}
        self.arguments: list[str] = []
        self.repeats = False


class Table:
    """All commands by their full name, "" for the program; recipe keys with kind and meaning."""

    def __init__(self) -> None:
        self.commands: dict[str, Command] = {}
        self.keys: dict[str, tuple[str, str]] = {}


def load_table() -> Table:
    """Read the table. It is not JSON, because importing a reader of that takes 8 ms."""
    table = Table()
    command = Command()
    for kind, *fields in _rows():
        if kind == "command":
            name, about = fields
            command = table.commands[name] = Command()
            parent, _, last = name.rpartition(" ")
            if name:
                table.commands[parent].commands[last] = about
        elif kind == "option":
            command.options[fields[0]] = Option(fields[1], fields[2] == "value", fields[3])
        elif kind == "argument":
            command.arguments.append(fields[0])
            command.repeats = fields[1] == "repeats"
        else:
            table.keys[fields[0]] = (fields[1], fields[2])
    return table


def _rows() -> Iterator[list[str]]:
    with open(TABLE, encoding="utf-8") as lines:
        for line in lines:
            yield line.rstrip("\n").split("\t")
