"""The candidates for the next word of a command line that is being typed.

This runs at every Tab, so it only reads a table and imports next to nothing: typer and the modules of the
commands take 0.2 s and more.
"""

from __future__ import annotations

from minigpt4.tui.cli.completion.table import Command, Table, load_table
from minigpt4.tui.cli.completion.values import FILES, Candidate, values_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


def print_words(shell: str, words: Sequence[str]) -> None:
    """Print the candidates for the last of `words` in the form that the script of `shell` reads."""
    typed = [*words] or [""]
    if shell == "bash":
        typed = [_unquoted(word) for word in typed]
    elif shell == "fish":
        typed[-1] = _unquoted(typed[-1])
    for value, about in candidates(typed):
        if value.startswith(FILES):
            print(value)
        elif shell == "zsh":
            escaped = value.replace(":", "\\:")
            print(f"{escaped}:{about}" if about else escaped)
        else:
            print(f"{value}\t{about}" if about and shell == "fish" else value)


def candidates(words: Sequence[str]) -> list[Candidate]:
    """Values that may replace the last word, with descriptions; FILES stands for any path."""
    *before, current = words or [""]
    prefix = ""
    table = load_table()
    name, waiting, given = _place(table, before)
    command = table.commands[name]
    if waiting is None and current.startswith("--") and "=" in current:
        option, _, current = current.partition("=")
        known = command.options.get(option)
        waiting, prefix = known.kind if known else "", f"{option}="
    if waiting is not None:
        found = values_of(waiting, current, before)
    elif current.startswith("-"):
        found = _options(command)
    elif command.commands:
        found = iter(command.commands.items())
    else:
        kinds = command.arguments
        kind = kinds[min(given, len(kinds) - 1)] if kinds else ""
        is_full = not kinds or (given >= len(kinds) and not command.repeats)
        found = _options(command) if is_full else values_of(kind, current, before)
    return [
        (value if value.startswith(FILES) else prefix + value, about)
        for value, about in found
        if value.startswith((FILES, current))
    ]


def _options(command: Command) -> Iterator[Candidate]:
    return ((name, option.about) for name, option in command.options.items() if len(name) > 2)


def _place(table: Table, before: Sequence[str]) -> tuple[str, str | None, int]:
    """The command, the kind of the value that its last option waits for, and the number of arguments."""
    name, waiting, given = "", None, 0
    takes_options = True
    for word in before:
        command = table.commands[name]
        if waiting is not None:
            waiting = None
        elif takes_options and word == "--":
            takes_options = False
        elif takes_options and word.startswith("-") and word != "-":
            option = command.options.get(word)
            waiting = option.kind if option and option.takes_value else None
        elif word in command.commands:
            name = f"{name} {word}".strip()
        else:
            given += 1
    return name, waiting, given


def _unquoted(word: str) -> str:
    """A word, perhaps only partly typed, without the shell's quotes and backslashes."""
    if word[:1] in ("'", '"'):
        return word[1:].removesuffix(word[0])
    letters, is_escaped = [], False
    for letter in word:
        if is_escaped or letter != "\\":
            letters.append(letter)
            is_escaped = False
        else:
            is_escaped = True
    return "".join(letters)
