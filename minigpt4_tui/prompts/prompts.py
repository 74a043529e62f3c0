"""Named prompts: a question kept in a file, and asked by typing a slash and the file's name.

`/story` asks the text of `story.toml`; what is typed after it is appended, or replaces `{text}` in the
text. Files lie in this folder, and the user's own in `config_home()/prompts`, where one of the same name
replaces ours.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.storage.dataclass_toml import InvalidValueError, bounded, load_toml, read
from minigpt4.core.storage.dataclass_toml import text as filled
from minigpt4.core.storage.paths import config_home

PLACE = "{text}"
"""The placeholder in the text for what is typed after the name."""

NAME = re.compile(r"[a-z][a-z0-9_-]*")


class PromptError(Minigpt4Error):
    """A prompt's file is wrong; the message names file, key and value."""


@dataclass(frozen=True, kw_only=True)
class NamedPrompt:
    """A question with a name."""

    name: str
    about: str = filled()
    """A few words beside the name in lists."""

    text: str = filled()
    """The question."""

    max_tokens: int | None = bounded(1, 100_000, default=None)
    """The longest answer, in tokens; it overrides the settings, and the command line overrides it."""

    def question(self, typed: str = "") -> str:
        """The question, with what was typed after the name."""
        typed = typed.strip()
        if PLACE in self.text:
            return self.text.replace(PLACE, typed).strip()
        return f"{self.text.strip()} {typed}".strip()


def own_prompts_folder() -> Path:
    """The folder of the user's own prompts; it may not exist."""
    return config_home() / "prompts"


def prompt_files() -> dict[str, Path]:
    """The file of every prompt by name; the user's own replace ours."""
    folders = (Path(__file__).parent, own_prompts_folder())
    return {path.stem: path for folder in folders for path in sorted(folder.glob("*.toml"))}


def read_prompt(path: Path) -> NamedPrompt:
    """The prompt in one TOML file; raises PromptError naming the file, the key and the value."""
    if not NAME.fullmatch(path.stem):
        raise PromptError(
            f"The prompt {path} cannot be typed; name its file with the letters a-z, digits, - and _."
        )
    try:
        return read(NamedPrompt, load_toml(path, "prompt", PromptError), name=path.stem)
    except InvalidValueError as problem:
        raise PromptError(f"In the prompt {path}, {problem}") from problem


def prompts() -> tuple[list[NamedPrompt], list[PromptError]]:
    """All prompts by name, and what is wrong with the files of those that are left out."""
    found, problems = [], []
    for path in prompt_files().values():
        try:
            found.append(read_prompt(path))
        except PromptError as problem:
            problems.append(problem)
    return sorted(found, key=lambda one: one.name), problems
