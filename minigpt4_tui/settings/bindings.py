"""Textual bindings from the table of actions."""

from __future__ import annotations

from textual.binding import Binding

from minigpt4.tui.settings.keys import ACTIONS

_PRIORITY = ("page_up", "page_down", "follow_end", "toggle_sidebar", "close")
"""Actions whose keys `Input` and `TextArea` bind themselves.

Like those of the scope "app", which work in every screen, their keys overtake letters that were typed
before them and have not reached the composer yet.
"""


def bindings_of(scope: str) -> list[Binding]:
    """The bindings of one scope of `ACTIONS`; `App.set_keymap` finds them by id."""
    return [
        Binding(
            ",".join(action.keys),
            action.id,
            action.about,
            show=False,
            priority=scope == "app" or action.id in _PRIORITY,
            id=action.id,
        )
        for action in ACTIONS
        if action.scope == scope
    ]


def key_label(key: str) -> str:
    """A key as people write it: "ctrl+o" is "Ctrl+O"."""
    names = {
        "pageup": "PgUp",
        "pagedown": "PgDn",
        "escape": "Esc",
        "delete": "Del",
        "question_mark": "?",
        "slash": "/",
    }
    *modifiers, last = key.split("+")
    label = names.get(last) or (last.upper() if len(last) == 1 and modifiers else last)
    if len(label) > 1 and label[:1].islower():
        label = label.capitalize()
    return "+".join([*(one.capitalize() for one in modifiers), label])
