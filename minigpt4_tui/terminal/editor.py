"""Edits a text in the user's own editor: `$VISUAL`, `$EDITOR`, or one that is installed."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from minigpt4.core.errors import Minigpt4Error

VARIABLES = ("VISUAL", "EDITOR")

INSTALLED = ("editor", "nano", "vim", "vi")
"""Tried in this order if neither variable is set; Debian's `editor` is the system's choice."""


class EditorError(Minigpt4Error):
    """The editor cannot be started, or it failed."""


def edit(text: str, longest: int) -> str:
    """Let the user edit a text, and return it; the editor has the terminal until it exits.

    The file is private, and removed with everything that the editor left beside it. Raises EditorError if
    there is no editor, if it fails, or if the text then has more than `longest` characters; in the last case
    the file stays.
    """
    command = _command()
    folder = Path(tempfile.mkdtemp(prefix="minigpt4-"))
    is_kept = False
    try:
        file = folder / "question.md"
        file.write_text(text, encoding="utf-8", errors="replace")
        _run(command, file)
        # Editors add a final newline, which the question did not have, and some a byte order mark.
        edited = file.read_text(encoding="utf-8-sig", errors="replace").removesuffix("\n")
        if len(edited) > longest:
            is_kept = True
            raise EditorError(
                f"The text has {len(edited):,} characters, and a question at most {longest:,}; "
                f"it is kept in '{file}'."
            )
        return edited
    except OSError as error:
        raise EditorError(f"The text cannot be edited in '{folder}': {error.strerror}.") from error
    finally:
        if not is_kept:
            shutil.rmtree(folder, ignore_errors=True)


def _command() -> list[str]:
    for variable in VARIABLES:
        value = os.environ.get(variable, "").strip()
        if not value:
            continue
        try:
            return shlex.split(value)
        except ValueError as error:
            raise EditorError(f"${variable} is '{value}', which is no command: {error}.") from error
    found = next(filter(None, map(shutil.which, INSTALLED)), None)
    if found is None:
        raise EditorError("There is no editor here; set EDITOR to one, such as nano.")
    return [found]


def _run(command: list[str], file: Path) -> None:
    named = f"The editor '{shlex.join(command)}'"
    try:
        code = subprocess.call([*command, str(file)])
    except OSError as error:
        raise EditorError(f"{named} cannot be started: {error.strerror}. Set EDITOR to another.") from error
    if code:
        how = f"was ended by signal {-code}" if code < 0 else f"ended with the exit code {code}"
        raise EditorError(f"{named} {how}; your text is as it was.")
    # Reading a pipe or a device might block forever.
    if not file.is_file():
        raise EditorError(f"{named} left no file behind; your text is as it was.")
