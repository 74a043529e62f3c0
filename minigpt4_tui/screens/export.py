"""Saving a conversation as a file, and reading one that was saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from textual import on
from textual.content import Content
from textual.widgets import Input
from textual.widgets.option_list import Option

from minigpt4.core.atomic import replacing
from minigpt4.tui.history.export import file_stem, from_json, to_html, to_json, to_markdown
from minigpt4.tui.history.store import Store
from minigpt4.tui.screens.dialog import ListDialog
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

WAYS = {
    "markdown": ("Save as Markdown", "what is shown, pictures in a folder beside it"),
    "html": ("Save as HTML", "what is shown, one page with the pictures inside"),
    "json": ("Save as JSON", "every branch and picture, to be read again"),
    "import": ("Read a JSON file", "the one named above; it joins the list"),
}


class ExportScreen(ListDialog[None]):
    """The line holds the folder to save into."""

    HEADING = "Save the conversation"
    HINT = "type a folder · ↑↓ choose the form · Enter does it"
    PLACEHOLDER = "A folder"
    SHAPE = "-low"

    def __init__(self, conversation: str) -> None:
        super().__init__()
        self._conversation = conversation

    def on_mount(self) -> None:
        """The folder that the app was started in, to begin with."""
        rows = [
            Option(Content.assemble((name.ljust(18), "bold"), (about, "dim")), id=way)
            for way, (name, about) in WAYS.items()
        ]
        self.rows.fill(rows)
        self.query_one("#query", Input).value = str(Path.cwd())

    @on(OptionRows.OptionSelected)
    def _chosen(self, event: OptionRows.OptionSelected) -> None:
        place = Path(self.typed.strip() or ".").expanduser()
        host, way, store = self.host, event.option_id or "", self.host.store
        self.say_below("Working…")
        if way == "import":
            host.in_background(lambda: from_json(store, place.read_bytes()), self._read, self._failed)
        else:
            host.in_background(_saving(way, store, self._conversation, place), self._saved, self._failed)

    def _saved(self, path: Path) -> None:
        self.host.say(f"Saved {path}.")
        self._leave()

    def _read(self, done: object) -> None:
        added, known = len(getattr(done, "added", ())), len(getattr(done, "known", ()))
        self.host.say(f"Read {added} new conversation{'s' * (added != 1)}; {known} were here already.")
        self.host.conversations_changed.publish("")
        self._leave()

    def _leave(self) -> None:
        if self.is_attached:
            self.dismiss(None)

    def _failed(self, error: Exception) -> None:
        from minigpt4.tui.cli.errors import sentence

        if self.is_attached:
            self.say_below(sanitize_line(sentence(error)))
        else:
            self.host.say(sentence(error), "error")


def _saving(way: str, store: Store, conversation: str, folder: Path) -> Callable[[], Path]:
    """The work of one form of saving; it returns the file."""

    def work() -> Path:
        if way == "markdown":
            return to_markdown(store, conversation, folder)
        text = to_html(store, conversation) if way == "html" else to_json(store, [conversation])
        target = folder / f"{file_stem(store.get(conversation))}.{way}"
        with replacing(target) as draft:
            draft.write_text(text, encoding="utf-8", errors="replace")
        return target

    return work
