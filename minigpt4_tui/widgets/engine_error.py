"""The card above the composer that shows why the engine's process exited and what can be done."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Static

from minigpt4.tui.conversation.engine_status import EngineStatus
from minigpt4.tui.terminal.sanitize import sanitize
from minigpt4.tui.widgets.key_line import KeyLine, action_link

MAX_DETAILS = 12
"""Lines of the process's last output; the last ones say most."""


class EngineErrorCard(Vertical):
    """Hidden while the engine runs. `keys` are those that restart it, choose a model, and open settings."""

    def __init__(self, keys: Sequence[str], engine: EngineStatus) -> None:
        super().__init__(id="engine-error")
        self._keys = keys
        self._engine = engine

    def compose(self) -> ComposeResult:
        yield Static("", classes="sentence", markup=False)
        yield Static("", classes="advice", markup=False)
        yield Static("", classes="details", markup=False)
        restart, models, settings = self._keys
        steps = [
            action_link(f"{restart} starts it again", "restart_engine"),
            action_link(f"{models} chooses a model", "models"),
            action_link(f"{settings} shows the settings", "settings"),
        ]
        yield KeyLine(Content("   ").join(steps), classes="steps")

    def on_mount(self) -> None:
        """Show the status that it was made with."""
        self._write()

    def show(self, engine: EngineStatus) -> None:
        """Show why the engine exited, or hide."""
        self._engine = engine
        if self.is_mounted:
            self._write()

    def _write(self) -> None:
        engine = self._engine
        self.display = engine.state == "dead"
        lines = sanitize(engine.details).strip().splitlines()[-MAX_DETAILS:]
        self.query_one(".sentence", Static).update(sanitize(engine.sentence))
        self.query_one(".advice", Static).update(sanitize(engine.advice))
        details = self.query_one(".details", Static)
        details.update("\n".join(lines))
        details.display = bool(lines)
