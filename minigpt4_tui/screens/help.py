"""All keys and commands, made of the tables that the app itself goes by."""

from __future__ import annotations

from textual import on
from textual.content import Content
from textual.widgets import Input
from textual.widgets.option_list import Option

from minigpt4.tui.conversation.slash_commands import COMMANDS
from minigpt4.tui.screens.dialog import ListDialog
from minigpt4.tui.settings.bindings import key_label
from minigpt4.tui.settings.keys import ACTIONS, SCOPES, bindings
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

MOVING = (
    ("Tab, Shift+Tab", "Go to the next place, or the one before", "everywhere"),
    ("↑ ↓ PgUp PgDn", "Move in a list; Home and End to its ends", "in lists"),
    ("Enter", "Choose", "in lists"),
    ("Mouse", "Click what you want, turn the wheel to scroll", "everywhere"),
)
"""What Textual itself does in every screen."""

KEYS_WIDTH = 20


class HelpScreen(ListDialog[None]):
    """Narrowed down by what is typed: a key, or a word of what it does."""

    HEADING = "Keys and commands"
    PLACEHOLDER = "A key, or what you want to do"

    def __init__(self) -> None:
        super().__init__()
        self._places: list[str] = []

    def on_mount(self) -> None:
        """All of them, to begin with."""
        self._list()

    @on(Input.Changed, "#query")
    def _list(self) -> None:
        words = self.typed.lower().split()
        rows: list[Option] = []
        self._places = []
        group = ""
        for name, keys, about, where in self._lines():
            if all(word in f"{name} {keys} {about} {where}".lower() for word in words):
                if name != group:
                    group = name
                    rows.append(Option(Content.assemble("\n" if rows else "", (name, "bold")), disabled=True))
                    self._places.append("")
                rows.append(Option(Content.assemble((f"  {keys:<{KEYS_WIDTH}}", "bold"), about)))
                self._places.append(where)
        self.rows.fill(rows)
        if not rows:
            self.say_below("Nothing is called that.")

    @on(OptionRows.OptionHighlighted)
    def _told(self, event: OptionRows.OptionHighlighted) -> None:
        where = self._places[event.option_index]
        self.say_below(f"Works {where}." if where else "")

    def _lines(self) -> list[tuple[str, str, str, str]]:
        """Group, keys, meaning, place."""
        keys = bindings(self.host.settings.keys).keys
        lines = []
        for group in dict.fromkeys(action.group for action in ACTIONS):
            for action in ACTIONS:
                if action.group == group:
                    labels = ", ".join(key_label(key) for key in keys[action.id]) or "no key"
                    lines.append((group, sanitize_line(labels), action.about, SCOPES[action.scope]))
        lines += [("Moving about", *line) for line in MOVING]
        lines += [("Commands, typed as a question", one.name, one.about, "") for one in COMMANDS]
        return lines
