"""The screen that takes the next key pressed as the key of an action."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Static

from minigpt4.tui.screens.dialog import Dialog, hints
from minigpt4.tui.settings.bindings import key_label
from minigpt4.tui.settings.keys import action_named, bindings, key_problem, others_with
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.key_line import action_link

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

NewKeys = Mapping[str, list[str] | None]
"""The keys of each action that changes; None: its default ones."""

SILENT = "If nothing happens, your terminal keeps that key for itself: press another one."


class KeyScreen(Dialog[NewKeys | None]):
    """Escape leaves the keys as they are, Backspace or Delete brings the default ones back.

    If another action has the key, the screen asks first: Enter takes the key from that action.
    """

    SHAPE = "-slim -low"

    def __init__(self, action: str) -> None:
        super().__init__()
        self._action = action_named(action)
        self._asked = ""

    def heading(self) -> str:
        return "Press the new key"

    def hint(self) -> Content:
        default = f"Backspace brings back {_labels(self._action.keys)}"
        return hints(default, action_link("Esc cancels", "close"))

    def body(self) -> ComposeResult:
        now = _labels(self.host.keys_of(self._action.id)) or "no key"
        about = Content.assemble((self._action.about, "bold"), "   ", (f"now {sanitize_line(now)}", "dim"))
        yield Static(about, classes="note")
        yield Static(SILENT, classes="note quiet", markup=False)
        yield Static("", classes="problem", id="problem", markup=False)

    def take_key(self, key: str) -> None:
        """Use the key, or say why it cannot be used; `BaseApp` sends every key here, bound or not."""
        asked, self._asked = self._asked, ""
        if key == "escape":
            self.dismiss(None)
        elif asked and key == "enter":
            self.dismiss(self._with_taken(asked))
        elif key in ("backspace", "delete"):
            self.dismiss({self._action.id: None})
        elif problem := key_problem(self._action, key):
            self._say(problem)
        elif others := others_with(key, self._action, self.host.keys_by_action):
            names = " and ".join(f"'{other.about}'" for other in others)
            self._asked = key
            self._say(f"{key_label(key)} is the key of {names}. Enter takes it from there; or press another.")
        else:
            self.dismiss({self._action.id: [key]})

    def _with_taken(self, key: str) -> NewKeys:
        found = self.host.keys_by_action
        others = others_with(key, self._action, found)
        taken = {other.id: [one for one in found[other.id] if one != key] for other in others}
        return {**taken, self._action.id: [key]}

    def _say(self, sentence: str) -> None:
        self.query_one("#problem", Static).update(sanitize_line(sentence))


def change_key(host: MiniGPT4App, action: str) -> None:
    """Ask for a new key of the action; it is saved in the settings file and in force at once."""
    host.push_screen(KeyScreen(action), lambda found: _keep(host, found))


def _keep(host: MiniGPT4App, found: NewKeys | None) -> None:
    before = bindings(host.settings.keys).clashes
    for action, keys in (found or {}).items():
        value = None if keys == list(action_named(action).keys) else keys
        host.guarded(lambda action=action, value=value: host.change_setting(f"keys.{action}", value))  # type: ignore[misc]
    for clash in bindings(host.settings.keys).clashes:
        if clash not in before:
            host.say(clash, "warning")
    if found and host.loaded.origins["keys"] == "environment":
        host.say("MINIGPT4_KEYS in the environment overrides your file at the next start.", "warning")


def _labels(keys: tuple[str, ...]) -> str:
    return ", ".join(map(key_label, keys))
