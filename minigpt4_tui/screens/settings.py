"""All settings and keys, made of the schema: for good, or for this conversation alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from textual import on
from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Input, Static
from textual.widgets.option_list import Option

from minigpt4.core.bundles.bundle import bundle_names
from minigpt4.tui.screens.dialog import Dialog, ListDialog, hints
from minigpt4.tui.screens.prompt import Given, PromptScreen, without_room
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
"""The id of the row that tells whom a change is for."""


@dataclass(frozen=True)
class Line:
    """A setting as the list shows it; `entry` is None for the keys of one action."""

    key: str
    about: str
    group: str
    value: Any
    origin: Origin
    entry: Entry | None = None


class SettingsScreen(ListDialog[None]):
    """Narrowed down by what is typed; Enter changes what the cursor is on."""

    HEADING = "Settings"
    HINT = "↑↓ choose · Enter changes"
    PLACEHOLDER = "A setting, or a word of what it does"

    def __init__(self) -> None:
        super().__init__()
        self._is_here = False
        self._lines: dict[str, Line] = {}

    def on_mount(self) -> None:
        """All of them; other screens may change some meanwhile."""
        self.host.settings_changed.subscribe(self, lambda _: self._list())
        self._list()

    @on(Input.Changed, "#query")
    def _list(self) -> None:
        words = self.typed.lower().split()
        self._lines = {line.key: line for line in self._all() if not self._is_here or _may_be_own(line)}
        scope = "this conversation alone" if self._is_here else "all conversations"
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

    def _all(self) -> list[Line]:
        loaded = self.host.loaded.for_conversation(self.host.talk.own_settings)
        lines = [
            Line(
                one.name,
                one.about,
                one.group,
                getattr(loaded.settings, one.name),
                loaded.origins[one.name],
                one,
            )
            for one in schema()
            if one.name != "keys"
        ]
        own, keys = loaded.settings.keys, bindings(loaded.settings.keys).keys
        for action in ACTIONS:
            origin: Origin = "file" if action.id in own else "default"
            lines.append(Line(f"keys.{action.id}", action.about, "Keys", keys[action.id], origin))
        return lines

    @on(OptionRows.OptionHighlighted)
    def _told(self, event: OptionRows.OptionHighlighted) -> None:
        line = self._lines.get(event.option_id or "")
        if line is None:
            self.say_below("Enter turns this to the other.")
            return
        note = line.about
        if line.origin in ("flag", "environment"):
            note += (
                f" Now given by {FROM[line.origin]}, which is stronger than your file at the next start, too."
            )
        self.say_below(note)

    @on(OptionRows.OptionSelected)
    def _change(self, event: OptionRows.OptionSelected) -> None:
        key = event.option_id or ""
        if key == SCOPE:
            self._is_here = not self._is_here
            self._list()
        elif key == "theme":
            self.host.action_themes()
        elif key == "system_prompt":
            self._write_prompt()
        elif self._lines[key].entry is not None and self._lines[key].entry.kind is bool:  # type: ignore[union-attr]
            self._set(key, not self._lines[key].value)
        else:
            line = self._lines[key]
            self.app.push_screen(
                ValueScreen(line, is_here=self._is_here), lambda found: self._answered(key, found)
            )

    def _write_prompt(self) -> None:
        """Several lines, where the template has room for them; what stands there may always be taken out."""
        value = self._lines["system_prompt"].value
        why_not = self.host.guarded(lambda: without_room(self.host.settings.bundle))
        if why_not is not None:
            if why_not:
                self.host.say(why_not, "warning")
            if not why_not or value:
                screen = PromptScreen(value or "", is_here=self._is_here)
                self.app.push_screen(screen, lambda found: self._answered("system_prompt", found))

    def _answered(self, key: str, found: Given | None) -> None:
        if found is not None:
            self._set(key, found.value)

    def _set(self, key: str, value: Any) -> None:
        before = bindings(self.host.settings.keys).clashes
        if self._is_here and value is None and key not in self.host.talk.own_settings:
            return
        self.host.guarded(lambda: self.host.change_setting(key, value, here=self._is_here))
        for clash in bindings(self.host.settings.keys).clashes:
            if clash not in before:
                self.host.say(clash, "warning")
        self._list()


class ValueScreen(Dialog[Given | None]):
    """One setting: a choice of a list, or a line to type in."""

    SHAPE = "-slim"

    def __init__(self, line: Line, *, is_here: bool) -> None:
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
        way = (
            "↑↓ choose · Enter takes it"
            if self._choices
            else f"Enter takes it; nothing typed means {self._unset}"
        )
        return hints(way, action_link(f"{self.host.key('close')} leaves it as it was", "close"))

    def body(self) -> ComposeResult:
        if self._choices:
            yield OptionRows(id="choices")
        else:
            yield Input(sanitize_line(_typed(self._line.value)), id="value", placeholder=self._unset)
        yield Static(self._line.about, classes="note", markup=False)
        yield Static("", classes="problem", id="problem", markup=False)

    def on_mount(self) -> None:
        """The value that is there has the cursor."""
        if self._choices:
            options = [Option(Content(sanitize_line(choice)), id=f"={choice}") for choice in self._choices]
            unset = Option(Content.styled(f"({self._unset})", "dim"), id="unset")
            self.query_one(OptionRows).fill([unset, *options], keep=f"={self._line.value}")

    @on(OptionRows.OptionSelected)
    def _chosen(self, event: OptionRows.OptionSelected) -> None:
        self.dismiss(Given(None if event.option_id == "unset" else (event.option_id or "")[1:]))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip()
        if not text:
            self.dismiss(Given(None))
            return
        if self._line.entry is None:
            keys = [key for key in text.replace(",", " ").split() if key != "none"]
            self.dismiss(Given(keys))
            return
        try:
            self.dismiss(Given(self._line.entry.parsed(text)))
        except ValueError as fault:
            self.query_one("#problem", Static).update(sanitize(f"{text} {fault}"))


def _may_be_own(line: Line) -> bool:
    return line.entry is not None and line.entry.per_conversation


def _typed(value: Any) -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return "" if value is None else str(value)


def _row(line: Line) -> Content:
    value = _typed(line.value) if line.value is not None else "auto"
    if line.entry is not None and line.entry.kind is bool:
        value = "yes" if line.value else "no"
    name = line.key.removeprefix("keys.").replace("_", " ")
    origin = f"  {FROM[line.origin]}" if FROM[line.origin] else ""
    return Content.assemble(f"  {name:<24}", (sanitize_line(value, 40), "bold"), (origin, "dim"))
