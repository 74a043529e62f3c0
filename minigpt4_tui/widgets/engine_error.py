"""The card that says what broke and what can be done about it, above the composer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.message import Message
from textual.widgets import Static

from minigpt4.tui.conversation.engine_status import EngineStatus
from minigpt4.tui.terminal.sanitize import shown

MOST_DETAILS = 12
"""Lines of what the process wrote before it died; the last ones tell most."""


class Step(Static):
    """A next step: its key, and what it does; a click does it, too."""

    @dataclass
    class Taken(Message):
        """The step was clicked."""

        action: str

    def __init__(self, key: str, about: str, action: str) -> None:
        super().__init__(f"{key} {about}".strip(), markup=False)
        self.action = action

    def on_click(self, event: events.Click) -> None:
        """Do it."""
        event.stop()
        self.post_message(self.Taken(self.action))


class TroubleCard(Vertical):
    """Hidden while the engine is well. `keys` are those of restarting, of the models and of the settings."""

    def __init__(self, keys: Sequence[str], engine: EngineStatus) -> None:
        super().__init__(id="trouble")
        self._keys = keys
        self._engine = engine

    def compose(self) -> ComposeResult:
        yield Static("", classes="sentence", markup=False)
        yield Static("", classes="advice", markup=False)
        yield Static("", classes="details", markup=False)
        with Horizontal(classes="steps"):
            yield Step(self._keys[0], "starts it again", "restart_engine")
            yield Step(self._keys[1], "chooses a model", "models")
            yield Step(self._keys[2], "shows the settings", "settings")

    def on_mount(self) -> None:
        """Say what broke since it was made."""
        self._write()

    def show(self, engine: EngineStatus) -> None:
        """Say what broke, or vanish."""
        self._engine = engine
        if self.is_mounted:
            self._write()

    def _write(self) -> None:
        engine = self._engine
        self.display = engine.state == "dead"
        lines = shown(engine.details).strip().splitlines()[-MOST_DETAILS:]
        self.query_one(".sentence", Static).update(shown(engine.sentence))
        self.query_one(".advice", Static).update(shown(engine.advice))
        details = self.query_one(".details", Static)
        details.update("\n".join(lines))
        details.display = bool(lines)
