"""The theme picker: the theme under the cursor is applied at once, and follows its file."""

from __future__ import annotations

from textual import on
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.content import Content
from textual.widgets import Static
from textual.widgets.option_list import Option

from minigpt4.core.errors import Minigpt4Error
from minigpt4.themes import load_theme, own_themes_folder, theme_files, theme_names
from minigpt4.tui.screens.dialog import Dialog
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line
from minigpt4.tui.textual_theme import register_theme_file
from minigpt4.tui.widgets.option_rows import OptionRows

SAMPLE = Content("  ").join(
    Content.styled(f"● {name}", f"${name}")
    for name in ("primary", "secondary", "accent", "success", "warning", "error")
)


class ThemesScreen(Dialog[None]):
    """Enter keeps the theme, Escape restores the one before."""

    HEADING = "Themes"
    HINT = "↑↓ try · Enter keeps"
    SHAPE = "-slim"

    def body(self) -> ComposeResult:
        yield OptionRows(id="themes")
        yield Static(SAMPLE, classes="note")
        yield Static("", classes="note", id="problem", markup=False)

    def on_mount(self) -> None:
        """Put the cursor on the current theme."""
        self._list()
        self.host.themes_changed.subscribe(self, self._edited)

    def _list(self) -> None:
        rows = self.query_one(OptionRows)
        names = theme_names()
        options = [Option(_row(name, name == self.host.settings.theme), id=name) for name in names]
        rows.fill(options, keep=rows.chosen or self.host.settings.theme)

    def _edited(self, _name: str) -> None:
        self._list()
        self._show(self.query_one(OptionRows).chosen or "")

    @on(OptionRows.OptionHighlighted)
    def _try(self, event: OptionRows.OptionHighlighted) -> None:
        self._show(event.option_id or "")

    def _show(self, name: str) -> None:
        problem = register_theme_file(self.app, name)
        line = self.query_one("#problem", Static)
        line.update(sanitize(problem))
        line.display = bool(problem)
        if not problem and name != self.app.theme:
            self.app.theme = name

    @on(OptionRows.OptionSelected)
    def _keep(self, event: OptionRows.OptionSelected) -> None:
        name = event.option_id or ""
        if not self.query_one("#problem").display:
            self.host.guarded(lambda: self.host.change_setting("theme", name))
            self.dismiss(None)

    def dismiss(self, result: None = None) -> AwaitComplete:
        """Close, and restore the saved theme, however the screen is closed."""
        if self.app.theme != self.host.settings.theme:
            self.host.use_theme(self.host.settings.theme)
        return super().dismiss(result)


def _row(name: str, is_saved: bool) -> Content:
    try:
        theme = load_theme(name)
        kind = "the terminal's own colors" if theme.ansi else "dark" if theme.dark else "light"
    except Minigpt4Error:
        kind = "cannot be used"
    own = " · yours" if theme_files()[name].parent == own_themes_folder() else ""
    mark = ("● ", "bold") if is_saved else "  "
    return Content.assemble(mark, (sanitize_line(name, 30).ljust(18), "bold"), (kind + own, "dim"))
