"""The settings screen: all settings and keys, for all conversations or for this one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static
from textual.widgets.option_list import Option

from minigpt4.core.bundles.bundle import bundle_names
from minigpt4.tui.conversation.values_in_force import values_in_force
from minigpt4.tui.screens.dialog import Dialog, ListDialog, hints
from minigpt4.tui.screens.key_capture import change_key
from minigpt4.tui.screens.prompt import NewValue, PromptScreen, no_system_prompt
from minigpt4.tui.settings.keys import ACTIONS, bindings
from minigpt4.tui.settings.settings import Entry, Origin, schema
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line
from minigpt4.tui.widgets.key_line import action_link
from minigpt4.tui.widgets.option_rows import OptionRows

FROM = {
    "default": "",
    "file": "your settings file",
    "environment": "the environment",
    "conversation": "this conversation",
    "flag": "the command line",
}
SCOPE = "scope"
"""The id of the row that says whether changes are for all conversations."""


@dataclass(frozen=True)
class SettingRow:
    """A setting as listed; `entry` is None for the keys of an action."""

    key: str
    about: str
    group: str
    value: Any
    origin: Origin
    entry: Entry | None = None
    in_force: str = ""
    """The effective value if this one leaves the choice to the terminal, the machine or the bundle."""


class SettingsScreen(ListDialog[None]):
    """Filtered by the input; Enter changes the setting under the cursor."""

    HEADING = "Settings"
    HINT = "↑↓ choose · Enter changes"
    PLACEHOLDER = "A setting, or a word of what it does"

    def __init__(self) -> None:
        super().__init__()
        self._is_here = False
        self._lines: dict[str, SettingRow] = {}

    def on_mount(self) -> None:
        """Show all settings, and follow changes made elsewhere."""
        self.host.settings_changed.subscribe(self, lambda _: self._list())
        self.host.engine_changed.subscribe(self, lambda _: self._list())
        self._list()

    @on(Input.Changed, "#query")
    def _list(self) -> None:
        words = self.typed.lower().split()
        self._lines = {
            line.key: line for line in self._all() if not self._is_here or _is_per_conversation(line)
        }
        scope = "this conversation only" if self._is_here else "all conversations"
        rows = [Option(Content.assemble(("Changes are for  ", "dim"), (scope, "bold")), id=SCOPE)]
        group = ""
        for line in self._lines.values():
            if all(word in f"{line.key} {line.about} {line.group}".lower() for word in words):
                if line.group != group:
                    group = line.group
                    rows.append(Option(Content.assemble("\n", (group, "bold")), disabled=True))
                rows.append(Option(_row(line), id=line.key))
        first = rows[2].id if words and len(rows) > 2 else None
        keep = self.rows.chosen if not words else None
        self.rows.fill(rows, keep=keep or first)

    def _all(self) -> list[SettingRow]:
        loaded = self.host.loaded.for_conversation(self.host.conversation.own_settings)
        shows_sidebar = self.host.chat.shows_sidebar
        in_force = values_in_force(loaded.settings, self.host.engine, shows_sidebar=shows_sidebar)
        lines = [
            SettingRow(
                one.name,
                one.about,
                one.group,
                getattr(loaded.settings, one.name),
                loaded.origins[one.name],
                one,
                in_force.get(one.name, ""),
            )
            for one in schema()
            if one.name != "keys"
        ]
        customized, keys = loaded.settings.keys, bindings(loaded.settings.keys).keys
        for action in ACTIONS:
            origin: Origin = "file" if action.id in customized else "default"
            lines.append(SettingRow(f"keys.{action.id}", action.about, "Keys", keys[action.id], origin))
        return lines

    @on(OptionRows.OptionHighlighted)
    def _highlighted(self, event: OptionRows.OptionHighlighted) -> None:
        line = self._lines.get(event.option_id or "")
        if line is None:
            self.show_note("Enter switches between all conversations and this one.")
            return
        note = line.about
        if line.origin in ("flag", "environment"):
            note += f" Set by {FROM[line.origin]}, which overrides your file, also at the next start."
        self.show_note(note)

    @on(OptionRows.OptionSelected)
    def _change(self, event: OptionRows.OptionSelected) -> None:
        key = event.option_id or ""
        if key == SCOPE:
            self._is_here = not self._is_here
            self._list()
        elif key == "theme":
            self.host.action_themes()
        elif key == "system_prompt":
            self._edit_prompt()
        elif self._lines[key].entry is None:
            change_key(self.host, key.removeprefix("keys."))
        elif isinstance(self._lines[key].value, bool):
            self._set(key, not self._lines[key].value)
        else:
            line = self._lines[key]
            self.app.push_screen(
                ValueScreen(line, is_here=self._is_here), lambda found: self._take(key, found)
            )

    def _edit_prompt(self) -> None:
        """Edit the system prompt if the template has one; a value that is set can always be removed."""
        value = self._lines["system_prompt"].value
        problem = self.host.guarded(lambda: no_system_prompt(self.host.settings.bundle))
        if problem is not None:
            if problem:
                self.host.say(problem, "warning")
            if not problem or value:
                screen = PromptScreen(value or "", is_here=self._is_here)
                self.app.push_screen(screen, lambda found: self._take("system_prompt", found))

    def _take(self, key: str, found: NewValue | None) -> None:
        if found is not None:
            self._set(key, found.value)

    def _set(self, key: str, value: Any) -> None:
        if self._is_here and value is None and key not in self.host.conversation.own_settings:
            return
        self.host.guarded(lambda: self.host.change_setting(key, value, here=self._is_here))
        self._list()


class ValueScreen(Dialog[NewValue | None]):
    """One setting: a list of choices, or an input."""

    SHAPE = "-slim"

    def __init__(self, line: SettingRow, *, is_here: bool) -> None:
        super().__init__()
        self._line = line
        self._unset = "as for all conversations" if is_here else "the default"
        entry = line.entry
        self._choices = entry.choices if entry is not None else ()
        if line.key == "bundle":
            self._choices = tuple(bundle_names())

    def heading(self) -> str:
        return self._line.key

    def hint(self) -> Content:
        keys = "↑↓ choose · Enter sets it" if self._choices else f"Enter sets it; empty means {self._unset}"
        return hints(keys, action_link(f"{self.host.key('close')} cancels", "close"))

    def body(self) -> ComposeResult:
        if self._choices:
            yield OptionRows(id="choices")
        else:
            yield Input(sanitize_line(_as_typed(self._line.value)), id="value", placeholder=self._unset)
        yield Static(self._line.about, classes="note", markup=False)
        yield Static("", classes="problem", id="problem", markup=False)

    def on_mount(self) -> None:
        """Put the cursor on the current value."""
        if self._choices:
            options = [Option(Content(sanitize_line(choice)), id=f"={choice}") for choice in self._choices]
            unset = Option(Content.styled(f"({self._unset})", "dim"), id="unset")
            self.query_one(OptionRows).fill([unset, *options], keep=f"={self._line.value}")

    @on(OptionRows.OptionSelected)
    def _chosen(self, event: OptionRows.OptionSelected) -> None:
        self.dismiss(NewValue(None if event.option_id == "unset" else (event.option_id or "")[1:]))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if not text:
            self.dismiss(NewValue(None))
            return
        assert self._line.entry is not None
        try:
            self.dismiss(NewValue(self._line.entry.parsed(text)))
        except ValueError as error:
            self.query_one("#problem", Static).update(sanitize(str(error)))


def _is_per_conversation(line: SettingRow) -> bool:
    return line.entry is not None and line.entry.per_conversation


def _as_typed(value: Any) -> str:
    """A value as the user would type it."""
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "" if value is None else str(value)


def _row(line: SettingRow) -> Content:
    value = _as_typed(line.value) if line.value is not None else "auto"
    if isinstance(line.value, bool):
        value = "yes" if line.value else "no"
    in_force = f" ({sanitize_line(line.in_force, 30)})" if line.in_force else ""
    name = line.key.removeprefix("keys.").replace("_", " ")
    origin = f"  {FROM[line.origin]}" if FROM[line.origin] else ""
    return Content.assemble(f"  {name:<24}", (sanitize_line(value, 40), "bold"), in_force, (origin, "dim"))
