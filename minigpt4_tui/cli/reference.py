"""Pages of the documentation that are made from the code, so that they cannot differ from it.

`python docs/make.py` writes them; a test holds that they are written anew when the code changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from minigpt4.tui.settings.bindings import key_label
from minigpt4.tui.settings.keys import ACTIONS, SCOPES
from minigpt4.tui.settings.settings import Entry, schema

MADE = "<!-- Made by docs/make.py from the code; changes belong there. -->"

SETTINGS_BEGIN = """\
# Settings

Every setting below may stand in a TOML file (`minigpt4 config path` prints where; it need not exist), in
the environment, on the command line, and in the app (`/settings`). The environment is stronger than
the file, what a conversation was given for itself is stronger still, and what is typed is the strongest.
`minigpt4 config show` prints what holds now and what decided it, `minigpt4 config check` every slip. A
wrong value is told, and the next weaker one holds; the app keeps comments when it writes to the file.

`minigpt4 chat` and `minigpt4 ask` obey them. Training, measuring and the commands for models do not: these
say on their command line all that they depend on.

    # settings.toml
    theme = "paper"
    bundle = "minigpt4-vicuna-7b"
    temperature = 0.2
    system_prompt = "Answer in one sentence."

    [keys]
    send = ["alt+enter"]
"""

SETTINGS_END = """\
What has no default is left to the bundle or the machine. Texts of the environment are written without
quotes; true and false may also be yes and no, on and off, 1 and 0.

`MINIGPT4_HOME` is no setting: it names one folder for all that minigpt4 keeps (`config`, `data` and `cache`
in it), in place of the system's own.
"""

KEYS_BEGIN = """\
# Keys

F1 shows them in the app. Each can be changed in the settings by the name of its action; `[]` leaves an
action without a key. Keys that are in each other's way are told, in the app and by `minigpt4 config check`.

    [keys]
    send = ["alt+enter"]
    newline = ["enter"]
    restart_engine = []

In the environment that is `MINIGPT4_KEYS="send=alt+enter; newline=enter; restart_engine="`.
"""


def settings_page() -> str:
    """docs/settings.md: every setting with its values, its default and its other names."""
    entries = schema()
    parts = [MADE, SETTINGS_BEGIN]
    for group in dict.fromkeys(entry.group for entry in entries):
        parts.append(f"## {group}\n")
        parts += [_setting(entry) for entry in entries if entry.group == group]
    return "\n".join([*parts, SETTINGS_END])


def keys_page() -> str:
    """docs/keys.md: every action with its keys and where they mean it."""
    parts = [MADE, KEYS_BEGIN]
    for group in dict.fromkeys(action.group for action in ACTIONS):
        rows = [
            (", ".join(map(key_label, action.keys)), action.about, SCOPES[action.scope], f"`{action.id}`")
            for action in ACTIONS
            if action.group == group
        ]
        parts.append(f"## {group}\n\n{_table(('Keys', 'What they do', 'Where', 'Action'), rows)}")
    return "\n".join(parts)


def _setting(entry: Entry) -> str:
    return f"### `{entry.name}`\n\n{entry.about}\n\n" + "".join(f"- {line}\n" for line in _facts(entry))


def _facts(entry: Entry) -> Iterator[str]:
    yield f"It is {entry.expected()}."
    if entry.default is not None and entry.default != {}:
        yield f"Default: `{json.dumps(entry.default)}`."
    names = [f"`{entry.variable}` in the environment"]
    if _has_flag(entry.name):
        names.append(f"`{entry.flag}` on the command line")
    yield f"Elsewhere: {', '.join(names)}."
    if entry.per_conversation:
        yield "A conversation can have its own."


def _has_flag(name: str) -> bool:
    import inspect

    from minigpt4.tui.cli.chat.chat import chat

    return name in inspect.signature(chat).parameters


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
