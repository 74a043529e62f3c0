"""What may come next on a command line that is being typed.

Asked at every Tab, so only the standard library and a table are read: typer and the modules of the commands
take 0.2 s and more. `docs/make.py` writes the table (table.json) from them, and a test compares the two.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from minigpt4.tui.cli.completion.values import FILES, Candidate, values_of

TABLE = Path(__file__).with_name("table.json")


def print_words(shell: str, words: Sequence[str]) -> None:
    """Print the candidates for the last of `words` in the form that the script of `shell` reads."""
    for value, about in candidates(words, splits_at_equals=shell == "bash"):
        if value == FILES or shell == "bash" or not about:
            print(value.replace(":", "\\:") if shell == "zsh" and value != FILES else value)
        elif shell == "zsh":
            print(value.replace("\\", "\\\\").replace(":", "\\:") + ":" + about)
        else:
            print(f"{value}\t{about}")


def candidates(words: Sequence[str], *, splits_at_equals: bool = False) -> list[Candidate]:
    """Values that may replace the last word, with descriptions; FILES stands for any path.

    With `splits_at_equals`, `--option=value` comes as three words, as bash splits it.
    """
    *before, current = words or [""]
    prefix = ""
    if splits_at_equals:
        before = [word for word in before if word != "="]
        current = "" if current == "=" else current
    table: dict[str, Any] = json.loads(TABLE.read_bytes())
    name, waiting, given = _place(table, before)
    command = table[name]
    if waiting is None and current.startswith("--") and "=" in current:
        option, _, current = current.partition("=")
        waiting, prefix = command["options"].get(option, {}).get("kind", ""), f"{option}="
    if waiting is not None:
        found = values_of(waiting, current)
    elif current.startswith("-"):
        found = _options(command)
    elif command["commands"]:
        found = iter(command["commands"].items())
    else:
        kinds = command["arguments"]
        kind = kinds[min(given, len(kinds) - 1)] if kinds else ""
        is_full = not kinds or (given >= len(kinds) and not command["repeats"])
        found = _options(command) if is_full else values_of(kind, current)
    return [
        (value if value == FILES else prefix + value, about)
        for value, about in found
        if value == FILES or value.startswith(current)
    ]


def _options(command: dict[str, Any]) -> Iterator[Candidate]:
    return ((name, option["about"]) for name, option in command["options"].items() if len(name) > 2)


def _place(table: dict[str, Any], before: Sequence[str]) -> tuple[str, str | None, int]:
    """The command, the kind of the value that its last option waits for, and the number of arguments."""
    name, waiting, given = "", None, 0
    takes_options = True
    for word in before:
        if waiting is not None:
            waiting = None
        elif takes_options and word == "--":
            takes_options = False
        elif takes_options and word.startswith("-") and word != "-":
            option = table[name]["options"].get(word)
            waiting = option["kind"] if option and option["takes_value"] else None
        elif word in table[name]["commands"]:
            name = f"{name} {word}".strip()
        else:
            given += 1
    return name, waiting, given
