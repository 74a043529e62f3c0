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
"""Lines shown of the process's output: the last ones, which are the most informative."""


class EngineErrorCard(Vertical):
    """Hidden while the engine runs. `keys` are those that restart it, choose a model, and open settings."""

    def __init__(self, keys: Sequence[str], engine: EngineStatus) -> None:
        super().__init__(id="engine-error")
        self._keys = keys
        self._engine = engine

    def compose(self) -> ComposeResult:
        engine = self._engine
        yield Static(sanitize(engine.sentence), classes="sentence", markup=False)
        yield Static(sanitize(engine.advice), classes="advice", markup=False)
        if lines := sanitize(engine.details).strip().splitlines()[-MAX_DETAILS:]:
            yield Static("\n".join(lines), classes="details", markup=False)
        restart, models, settings = self._keys
        steps = [
            action_link(f"{restart} starts it again", "restart_engine"),
            action_link(f"{models} chooses a model", "models"),
            action_link(f"{settings} shows the settings", "settings"),
        ]
        yield KeyLine(Content("   ").join(steps), classes="steps")

    def show(self, engine: EngineStatus) -> None:
        """Show why the engine exited, or hide."""
        self._engine = engine
        self.display = engine.state == "dead"
        self.refresh(recompose=self.display)
