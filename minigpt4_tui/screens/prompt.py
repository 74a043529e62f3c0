"""The editor of the system prompt, for all conversations or for one."""

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

MARK = "\x00system\x00"
"""A text that no template contains."""


@dataclass(frozen=True)
class NewValue:
    """A setting's new value; None resets it."""

    value: Any


def no_system_prompt(bundle: str) -> str:
    """The message that a bundle's template has no system prompt; empty if it has one.

    Raises Minigpt4Error if there is no such bundle.
    """
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.prompt import TEMPLATES, Joined, System, User, template_named
    from minigpt4.core.types import Text

    template = load_bundle(bundle).template
    if template not in TEMPLATES:
        return ""  # a GGUF's chat template, which gets it before the first question at least
    for segment in template_named(template).segments([System(MARK), User("")]):
        texts = segment.texts if isinstance(segment, Joined) else (segment,)
        if any(isinstance(text, Text) and MARK in text.text for text in texts):
            return ""
    return f"The prompt template '{template}' of the bundle '{bundle}' has no system prompt."


class PromptScreen(Dialog[NewValue | None]):
    """Returns the text as a `NewValue` (of None if empty), or None if it is cancelled."""

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
        self._scope = "this conversation only" if is_here else "all conversations"
        self._unset = "as for all conversations" if is_here else "the model's own"

    def hint(self) -> Content:
        key = self.host.key
        leave = action_link(f"{key('close')} cancels", "close")
        return hints(action_link(f"{key('save')} saves it", "save"), leave)

    def body(self) -> ComposeResult:
        yield TextArea(self._text, id="prompt", compact=True, highlight_cursor_line=False)
        note = f"Comes before the first question of {self._scope}. Empty means {self._unset}."
        yield Static(note, classes="note quiet", markup=False)

    def on_mount(self) -> None:
        """Put the cursor at the end of the text."""
        area = self.query_one(TextArea)
        area.cursor_blink = not self.host.settings.reduced_motion
        area.move_cursor(area.document.end)

    def action_save(self) -> None:
        """Save the text."""
        self.dismiss(NewValue(self.query_one(TextArea).text.strip() or None))
