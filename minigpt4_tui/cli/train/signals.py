"""Ctrl+C and a terminate request while a run is prepared and while it trains."""

from __future__ import annotations

import signal
from types import FrameType

from minigpt4.tui.cli.errors import say


class StopSignals:
    """At once while things are prepared, after the step while training; a second one always at once."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        """With `is_quiet` nothing is said: another process of the run says it."""
        self.received: int | None = None
        self._is_quiet = is_quiet
        self._waits = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignals:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # type: ignore[arg-type]

    def end_the_step_first(self) -> None:
        """From now on a first signal only sets `received`."""
        self._waits = True

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        first, self.received = self.received is None, number
        if self._waits and first:
            if not self._is_quiet:
                say("Finishing the step and saving; once more to stop at once.")
            return
        # An exception and not the default action, so that half-written files are taken away.
        raise SystemExit(128 + number)
