"""The help screen: all keys and commands, from the tables that the app itself uses; keys are changed here."""

from __future__ import annotations

from textual import on
from textual.content import Content
from textual.widgets import Input
from textual.widgets.option_list import Option

from minigpt4.tui.conversation.slash_commands import all_commands
from minigpt4.tui.screens.dialog import ListDialog
from minigpt4.tui.screens.key_capture import change_key
from minigpt4.tui.settings.bindings import key_label
from minigpt4.tui.settings.keys import ACTIONS, SCOPES
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

NAVIGATION = (
    ("Tab, Shift+Tab", "Move the focus on, or back", "everywhere"),
    ("↑ ↓ PgUp PgDn", "Move in a list; Home and End go to its ends", "in lists"),
    ("Enter", "Choose", "in lists"),
    ("Mouse", "Click to choose, turn the wheel to scroll", "everywhere"),
)
"""What Textual handles on every screen."""

KEYS_WIDTH = 20


class HelpScreen(ListDialog[None]):
    """Filtered by a key, or a word of what it does; Enter changes the key of the action under the cursor."""

    HEADING = "Keys and commands"
    HINT = "↑↓ choose · Enter changes the key"
    PLACEHOLDER = "A key, or what you want to do"

    def __init__(self) -> None:
        super().__init__()
        self._scopes: list[str] = []

    def on_mount(self) -> None:
        """Show all keys and commands, and follow changes."""
        self.host.settings_changed.subscribe(self, lambda _: self._list())
        self._list()

    @on(Input.Changed, "#query")
    def _list(self) -> None:
        words = self.typed.lower().split()
        rows: list[Option] = []
        self._scopes = []
        group = ""
        for name, keys, about, scope, action in self._lines():
            if all(word in f"{name} {keys} {about} {scope}".lower() for word in words):
                if name != group:
                    group = name
                    rows.append(Option(Content.assemble("\n" if rows else "", (name, "bold")), disabled=True))
                    self._scopes.append("")
                rows.append(Option(Content.assemble((f"  {keys:<{KEYS_WIDTH}}", "bold"), about), id=action))
                self._scopes.append(scope)
        self.rows.fill(rows, keep=self.rows.chosen)
        if not rows:
            self.show_note("Nothing found.")

    @on(OptionRows.OptionHighlighted)
    def _highlighted(self, event: OptionRows.OptionHighlighted) -> None:
        scope = self._scopes[event.option_index]
        self.show_note(f"Works {scope}." if scope else "")

    @on(OptionRows.OptionSelected)
    def _chosen(self, event: OptionRows.OptionSelected) -> None:
        if event.option_id is not None:
            change_key(self.host, event.option_id)
        else:
            self.show_note("This one cannot be changed.")

    def _lines(self) -> list[tuple[str, str, str, str, str | None]]:
        """Group, keys, description, scope and action (None: no key can be set) of each line."""
        keys = self.host.keys_by_action
        lines: list[tuple[str, str, str, str, str | None]] = []
        for group in dict.fromkeys(action.group for action in ACTIONS):
            for action in ACTIONS:
                if action.group == group:
                    labels = ", ".join(key_label(key) for key in keys[action.id]) or "no key"
                    lines.append(
                        (group, sanitize_line(labels), action.about, SCOPES[action.scope], action.id)
                    )
        lines += [("Navigation", *line, None) for line in NAVIGATION]
        lines += [("Commands, typed as a question", one.name, one.about, "", None) for one in all_commands()]
        return lines
