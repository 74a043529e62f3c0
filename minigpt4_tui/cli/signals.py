"""Ctrl+C, SIGTERM and SIGHUP: orderly shutdown."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from minigpt4.tui.terminal.messages import say


@contextmanager
def stopping_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Inside, a first Ctrl+C only makes the yielded function return True; a second one interrupts.

    An exception in the middle of a forward pass would cost the KV cache of the conversation.
    """
    interrupted = False

    def note(signum: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            signal.default_int_handler(signum, frame)
        interrupted = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: interrupted
    finally:
        # None: the handler was not set from Python, which cannot restore it.
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end the program by an exception, so that `finally` blocks run.

    A terminal in raw mode is restored, and a child process stopped, that way.
    """

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)


class StopSignals:
    """Exits at once during preparation, after the current step in training; at once on a second signal."""

    def __init__(self, *, is_quiet: bool = False) -> None:
        """With `is_quiet` nothing is printed: another process of the run does that."""
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
