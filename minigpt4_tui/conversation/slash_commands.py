"""Slash commands of the plain chat and the app, named prompts among them, and their completion."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minigpt4.core.text import nearest
from minigpt4.tui.images.question import no_picture_sentence
from minigpt4.tui.prompts.prompts import NamedPrompt, prompt_files, prompts, read_prompt
from minigpt4.tui.terminal.sanitize import sanitize_line

WORD_START = re.compile(r"(?<!\\)\s+(?=\S)")
"""Where a path begins after another one; a space with a backslash is part of a path."""

MEANT_LETTERS = 3
"""Letters from which on commands are also found by their descriptions."""


@dataclass(frozen=True)
class SlashCommand:
    """A command of the app, of the plain chat, or of both."""

    name: str
    action: str
    """The action of the chat screen."""
    about: str = ""
    """Shown next to the name in the app; "" for a command of the plain chat alone."""
    plain: str = ""
    """Its help in the plain chat, with its arguments in capitals; "" if only the app has it."""
    takes_path: bool = False


COMMANDS = (
    SlashCommand(
        "/image",
        "attach_path",
        "PATH... add pictures to your next message",
        "PATH... add pictures to your next message; dropping a file on the terminal does it, too",
        takes_path=True,
    ),
    SlashCommand(
        "/remove", "", plain="NAME take a picture out of your next message; without a name, the last"
    ),
    SlashCommand(
        "/pick",
        "pick_picture",
        "choose pictures from a folder",
        "FOLDER list the pictures of a folder; then NUMBER... adds some",
    ),
    SlashCommand("/paste", "paste", "take the picture from the clipboard", "add the clipboard's picture"),
    SlashCommand(
        "/clear",
        "new_conversation",
        "begin anew; the conversation stays in the list",
        "begin anew; the conversation stays in the history",
    ),
    SlashCommand("/new", "new_conversation", "begin a new conversation", "begin a new conversation"),
    SlashCommand(
        "/again", "regenerate", "answer the last question once more", "answer the last question once more"
    ),
    SlashCommand("/continue", "continue_answer", "continue the last answer", "continue the last answer"),
    SlashCommand("/edit", "edit_last", "edit the last question", "TEXT ask the last question in other words"),
    SlashCommand(
        "/editor",
        "open_editor",
        "write the question in your own editor",
        "write the question, also of many lines, in your own editor",
    ),
    SlashCommand(
        "/variants", "", plain="NUMBER list all answers to the last question, or go on from another one"
    ),
    SlashCommand("/copy", "copy_last", "copy the last answer", "copy the last answer"),
    SlashCommand(
        "/code",
        "copy_last_code",
        "copy the last block of code",
        "FILE print the last block of code, or save it as a file",
    ),
    SlashCommand(
        "/save-html",
        "save_page",
        "FILE save the web page in the last answer",
        "FILE save the web page in the last answer",
    ),
    SlashCommand("/history", "", plain="list the conversations, the latest first"),
    SlashCommand("/search", "search", "search all conversations", "WORDS search all conversations"),
    SlashCommand("/open", "", plain="NUMBER open a conversation of the last list, or the one of an ID"),
    SlashCommand("/show", "", plain="print the conversation so far"),
    SlashCommand("/title", "", plain="TEXT give the conversation another title"),
    SlashCommand("/pin", "", plain="list the conversation first, or no longer"),
    SlashCommand("/delete", "", plain="delete the conversation, and begin a new one"),
    SlashCommand("/undelete", "", plain="bring back the conversation deleted last"),
    SlashCommand(
        "/export",
        "export",
        "save the conversation as a file",
        "FILE save the conversation as .md, .html or .json",
    ),
    SlashCommand("/models", "models", "choose a model", "NAME list the models, or switch to another"),
    SlashCommand(
        "/settings", "settings", "change the settings", "NAME VALUE list the settings, or change one"
    ),
    SlashCommand("/themes", "themes", "choose a theme", "NAME list the themes, or choose one"),
    SlashCommand("/restart", "restart_engine", "start the model again", "start the model again"),
    SlashCommand("/help", "help", "show all keys", "show this"),
    SlashCommand("/quit", "quit", "leave", "leave; Ctrl+D does it, too"),
)


_NAMES = {command.name for command in COMMANDS}


def all_commands() -> list[SlashCommand]:
    """The app's commands, then the named prompts, the user's own included."""
    named = (SlashCommand(f"/{one.name}", "", one.about, one.about) for one in named_prompts())
    return [*(one for one in COMMANDS if one.about), *named]


def command_in(line: str) -> SlashCommand | None:
    """The command that the line begins with, if any; named prompts do not count, see `with_prompt`."""
    name = _first_word(line)
    name = {"/exit": "/quit"}.get(name, name)
    return next((command for command in COMMANDS if command.name == name and command.about), None)


def plain_commands() -> list[SlashCommand]:
    """The commands of the plain chat, then the named prompts."""
    named = [one for one in all_commands() if one.name not in _NAMES]
    return [*(one for one in COMMANDS if one.plain), *named]


@dataclass(frozen=True)
class Asked:
    """A question, and the most tokens that its named prompt allows an answer; None: as in the settings."""

    text: str
    max_tokens: int | None = None


def with_prompt(line: str) -> Asked:
    """The question that a line like `/story about a pirate` stands for; any other line as it is.

    Raises PromptError if the prompt's file is invalid.
    """
    name = _first_word(line)
    if not name.startswith("/") or name in _NAMES or name[1:] not in (files := prompt_files()):
        return Asked(line)
    prompt = read_prompt(files[name[1:]])
    return Asked(prompt.question(line.strip()[len(name) :]), prompt.max_tokens)


def named_prompts() -> list[NamedPrompt]:
    """The named prompts that can be asked, by name."""
    return [one for one in prompts()[0] if f"/{one.name}" not in _NAMES]


def prompt_problems() -> list[str]:
    """What is wrong with the files of named prompts, a sentence for each."""
    return [
        *map(str, prompts()[1]),
        *(
            f"The prompt {path} is not used, because /{name} is a command; rename the file."
            for name, path in prompt_files().items()
            if f"/{name}" in _NAMES
        ),
    ]


def unknown_command(line: str, known: Sequence[SlashCommand] | None = None) -> str:
    """The sentence about a command, or a picture's path, that does not exist.

    `known` are the commands that may have been meant; the app's by default.
    """
    if sentence := no_picture_sentence(line):
        return sentence
    name = sanitize_line(line.split(maxsplit=1)[0], 40)
    near = nearest(name, (one.name for one in known or all_commands())) if name != "/" else None
    advice = f"did you mean {near}?" if near else "/help lists the commands."
    return f"There is no command {name}; {advice}"


@dataclass(frozen=True)
class Choice:
    """One way to complete the composer's text: the resulting text, and its label in the list."""

    text: str
    label: str
    about: str = ""


@dataclass(frozen=True)
class Completion:
    """A line completed by Tab as far as it is certain, and what can be chosen from there."""

    line: str
    choices: tuple[Choice, ...] = ()


def choices_for(line: str) -> tuple[Choice, ...]:
    """The commands that an unfinished line may mean, the likeliest first.

    Names that begin with it come first, then names that contain its letters in order, then descriptions
    that contain them in a row.
    """
    if not line.startswith("/") or any(letter.isspace() for letter in line):
        return ()
    if any(command.name == line for command in all_commands()):
        return ()
    begun = [command for command in all_commands() if command.name.startswith(line)]
    others = [command for command in all_commands() if command not in begun]
    return tuple(map(_choice, [*begun, *(_alike(line[1:], others) if len(line) > 1 else ())]))


def _alike(letters: str, commands: Sequence[SlashCommand]) -> list[SlashCommand]:
    # It is needed only while a command is typed.
    from textual.fuzzy import Matcher

    match = Matcher(letters).match
    scores = {command.name: match(command.name) for command in commands}
    alike = sorted(
        (command for command in commands if scores[command.name]), key=lambda command: -scores[command.name]
    )
    meant = [
        command
        for command in commands
        if len(letters) >= MEANT_LETTERS and letters.lower() in command.about.lower() and command not in alike
    ]
    return [*alike, *meant]


def _choice(command: SlashCommand) -> Choice:
    return Choice(f"{command.name} " if command.takes_path else command.name, command.name, command.about)


def complete(line: str, complete_path: Callable[[str], list[str]]) -> Completion:
    """The line completed as far as it is certain; a path if the command takes one."""
    command = command_in(line)
    if command is not None and command.takes_path and " " in line:
        return _complete_path(line, complete_path)
    if any(one.name == line for one in all_commands()):
        return Completion(f"{line} ")
    choices = choices_for(line)
    if len(choices) == 1:
        return Completion(f"{choices[0].label} ")
    begun = [one.label for one in choices if one.label.startswith(line)]
    return Completion(_common(begun) if begun else line, choices)


def _complete_path(line: str, complete_path: Callable[[str], list[str]]) -> Completion:
    """Complete all that follows the command, or else the last word of it, as one path."""
    name, _, rest = line.partition(" ")
    starts = [len(name) + 1 + len(rest) - len(rest.lstrip())]
    if words := list(WORD_START.finditer(line, starts[0])):
        starts.append(words[-1].end())
    for start in starts:
        head, typed = line[:start], line[start:]
        path = re.sub(r"\\(.)", r"\1", typed).lstrip("'\"")
        if found := complete_path(path):
            whole = _common(found)
            text = escaped(whole) if len(whole) > len(path) else typed
            choices = tuple(Choice(head + escaped(one), _last_part(one)) for one in found)
            return Completion(head + text, choices if len(found) > 1 else ())
    return Completion(line)


def escaped(path: str) -> str:
    """The path as one word among others; a line is split as a shell splits it."""
    return re.sub(r"""[\s\\'"]""", r"\\\g<0>", path)


def _last_part(path: str) -> str:
    head = path.rstrip("/").rpartition("/")[0]
    return path[len(head) :].lstrip("/") or path


def _first_word(line: str) -> str:
    return line.split(maxsplit=1)[0] if line.strip() else ""


def _common(texts: Sequence[str]) -> str:
    """Their common prefix."""
    first, last = min(texts), max(texts)
    return first[: next((at for at, letter in enumerate(first) if last[at : at + 1] != letter), len(first))]
