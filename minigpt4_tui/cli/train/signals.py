"""SIGINT and SIGTERM during training."""

from __future__ import annotations

import signal
from types import FrameType

from minigpt4.tui.terminal.messages import say


class StopSignals:
    """Exits at once during preparation, after the current step during training; at once on a second one."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        """`is_quiet` prints nothing: another process of the run does."""
        self.received: int | None = None
        self._is_quiet = is_quiet
        self._finishes_step = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def finish_step_first(self) -> None:
        """From now on a first signal only sets `received`."""
        self._finishes_step = True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        first, self.received = self.received is None, number
        if self._finishes_step and first:
            if not self._is_quiet:
                say("Finishing the step and saving; press again to stop immediately.")
            return
        # An exception and not the default action, so that incomplete files are removed.
        raise SystemExit(128 + number)
