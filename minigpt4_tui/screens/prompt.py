"""Writing the system prompt: several lines, for all conversations or for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Static, TextArea

from minigpt4.tui.screens.dialog import Dialog, hints
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.widgets.key_line import action_link

MARK = "\x00room\x00"
"""A text that no template has of its own."""


@dataclass(frozen=True)
class Given:
    """What a setting is to be; None takes back what was set."""

    value: Any


def without_room(bundle: str) -> str:
    """The sentence about a bundle whose template takes no system prompt; empty where it takes one.

    Raises Minigpt4Error where there is no such bundle.
    """
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.prompt import Joined, System, User, template_named
    from minigpt4.core.types import Text as Said

    template = load_bundle(bundle).template
    for segment in template_named(template).segments([System(MARK), User("")]):
        texts = segment.texts if isinstance(segment, Joined) else (segment,)
        if any(isinstance(text, Said) and MARK in text.text for text in texts):
            return ""
    return f"The prompt template '{template}' of the bundle '{bundle}' has no room for a system prompt."


class PromptScreen(Dialog[Given | None]):
    """Gives the text, None in it where nothing was typed; None where it is left."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("editor")]
    HEADING = "System prompt"
    SHAPE = "-slim"
    CSS = """
    PromptScreen #prompt, PromptScreen #prompt:focus {
        height: 1fr;
        border: none;
        padding: 0 1;
        background: $panel;
    }
    """

    def __init__(self, text: str, *, is_here: bool) -> None:
        super().__init__()
        self._text = text
        self._whose = "this conversation alone" if is_here else "all conversations"
        self._unset = "as for all conversations" if is_here else "the model's own"

    def hint(self) -> Content:
        key = self.host.key
        leave = action_link(f"{key('close')} leaves it as it was", "close")
        return hints(action_link(f"{key('save')} keeps it", "save"), leave)

    def body(self) -> ComposeResult:
        yield TextArea(self._text, id="prompt", compact=True, highlight_cursor_line=False)
        note = f"What the model is told before {self._whose}. Nothing typed means {self._unset}."
        yield Static(note, classes="note quiet", markup=False)

    def on_mount(self) -> None:
        """Go on at the end of what is there."""
        area = self.query_one(TextArea)
        area.cursor_blink = not self.host.settings.reduced_motion
        area.move_cursor(area.document.end)

    def action_save(self) -> None:
        """Keep what was typed."""
        self.dismiss(Given(self.query_one(TextArea).text.strip() or None))
