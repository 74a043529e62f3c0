"""The dialog that saves a conversation to a file, or imports one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual import on
from textual.content import Content
from textual.widgets import Input
from textual.widgets.option_list import Option

from minigpt4.core.storage.atomic import replacing
from minigpt4.core.storage.regular_file import read_regular_file
from minigpt4.core.storage.working_folder import working_folder
from minigpt4.tui.history.export import file_stem, to_html, to_markdown
from minigpt4.tui.history.json_format import Imported, from_json, to_json
from minigpt4.tui.history.store import Store
from minigpt4.tui.screens.dialog import ListDialog
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

FORMATS = {
    "markdown": ("Save as Markdown", "this branch, and a folder with its pictures"),
    "html": ("Save as HTML", "this branch, a page with its pictures inside"),
    "json": ("Save as JSON", "all branches and pictures, to import again"),
    "import": ("Import a JSON file", "the one named above"),
}


class ExportScreen(ListDialog[None]):
    """The input holds the folder to save into, or the file to import."""

    HEADING = "Save the conversation"
    HINT = "type a folder · ↑↓ choose the format · Enter does it"
    PLACEHOLDER = "A folder"
    TAKES_PATH = True
    SHAPE = "-low"

    def __init__(self, conversation: str) -> None:
        super().__init__()
        self._conversation = conversation

    def on_mount(self) -> None:
        """Start with the folder in which the app was started."""
        rows = [
            Option(Content.assemble((name.ljust(20), "bold"), (about, "dim")), id=form)
            for form, (name, about) in FORMATS.items()
        ]
        self.rows.fill(rows)
        self.query_one("#query", Input).value = str(working_folder())

    @on(OptionRows.OptionSelected)
    def _chosen(self, event: OptionRows.OptionSelected) -> None:
        place = Path(self.typed.strip() or ".").expanduser()
        host, form, store = self.host, event.option_id or "", self.host.store
        self.show_note("Working…")
        if form == "import":
            host.in_background(
                lambda: from_json(store, read_regular_file(place)), self._imported, self._failed
            )
        else:
            host.in_background(_saving(form, store, self._conversation, place), self._saved, self._failed)

    def _saved(self, path: Path) -> None:
        self.host.say(f"Saved {path}.")
        self._close()

    def _imported(self, done: Imported) -> None:
        added, known = len(done.added), len(done.known)
        self.host.say(f"Imported {added} new conversation{'s' * (added != 1)}; {known} were here already.")
        self.host.conversations_changed.publish("")
        self._close()

    def _close(self) -> None:
        if self.is_attached:
            self.dismiss(None)

    def _failed(self, error: Exception) -> None:
        from minigpt4.tui.terminal.messages import sentence

        if self.is_attached:
            self.show_note(sanitize_line(sentence(error)))
        else:
            self.host.say(sentence(error), "error")


def _saving(form: str, store: Store, conversation: str, folder: Path) -> Callable[[], Path]:
    """The function that saves in one format and returns the file."""

    def work() -> Path:
        if form == "markdown":
            return to_markdown(store, conversation, folder)
        text = to_html(store, conversation) if form == "html" else to_json(store, [conversation])
        target = folder / f"{file_stem(store.get(conversation))}.{form}"
        with replacing(target) as draft:
            draft.write_text(text, encoding="utf-8", errors="replace")
        return target

    return work
