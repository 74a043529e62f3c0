"""The dialog that saves a web page of an answer, and then asks whether to open it."""

from __future__ import annotations

from pathlib import Path

from textual import on
from textual.content import Content
from textual.widgets import Input
from textual.widgets.option_list import Option

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.conversation.html_page import free_name, open_page, save_new
from minigpt4.tui.screens.dialog import ListDialog
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows


class SavePageScreen(ListDialog[None]):
    """The input holds the file's path; once the page is saved, the rows offer to open it."""

    HEADING = "Save the web page"
    HINT = "type a file · ↑↓ choose · Enter does it"
    PLACEHOLDER = "A file"
    TAKES_PATH = True
    SHAPE = "-low"

    def __init__(self, page: str, path: str = "") -> None:
        super().__init__()
        self._page = page
        self._path = path
        self._saved: Path | None = None

    def on_mount(self) -> None:
        """Propose a free name in the folder in which the app was started."""
        self._show({"save": "Save"})
        self.query_one("#query", Input).value = self._path or str(free_name(Path.cwd()))

    @on(OptionRows.OptionSelected)
    def _chosen(self, event: OptionRows.OptionSelected) -> None:
        try:
            if event.option_id == "save":
                self._save(Path(self.typed.strip() or "page.html").expanduser())
                return
            if event.option_id == "open" and self._saved is not None:
                open_page(self._saved)
            self.dismiss(None)
        except Minigpt4Error as error:
            self.show_note(sanitize_line(str(error)))

    def _save(self, path: Path) -> None:
        save_new(self._page, path)
        self._saved = path
        self._show({"leave": "Close", "open": "Open it in the browser"})
        self.show_note(
            f"Saved {sanitize_line(str(path))}. "
            "A browser runs the scripts in it, and they may load from the web."
        )

    def _show(self, rows: dict[str, str]) -> None:
        self.rows.fill([Option(Content.styled(text, "bold"), id=name) for name, text in rows.items()])
