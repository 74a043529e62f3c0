"""The draft in the user's own editor, which has the terminal meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import Any

Start = Any

F6 = "\x1b[17~"


def test_the_draft_is_edited_and_the_app_is_back(start: Start, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "EDITING $(cat "$1")"\nread line\necho "$line" >> "$1"\n')
    editor.chmod(0o755)
    terminal = start(env={"VISUAL": "", "EDITOR": str(editor)})
    terminal.until("● mini")
    terminal.send("First line")
    terminal.until("First line")
    terminal.send(F6)
    terminal.until("EDITING First line")
    assert terminal.left_set == set()  # it has the terminal as it was found
    terminal.send("second line\r")
    terminal.until("First linesecond line")
    terminal.send("!")
    terminal.until("First linesecond line!")
    terminal.press("ctrl+q")
    assert terminal.ended() == 0
    assert terminal.left_set == set()


def test_ctrl_c_in_the_editor_ends_the_editor_alone(start: Start, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\necho EDITING\nexec sleep 100\n")
    editor.chmod(0o755)
    terminal = start(env={"VISUAL": str(editor)})
    terminal.until("● mini")
    terminal.send("First line")
    terminal.until("First line")
    terminal.send(F6)
    terminal.until("EDITING")
    terminal.send("\x03")
    terminal.until(lambda: "signal 2" in " ".join(terminal.text.split()))
    terminal.send("!")
    terminal.until("First line!")
