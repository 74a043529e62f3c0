"""Ctrl+C and other signals: what has begun ends in good order, and what was said is kept."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def stopping_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Inside, a first Ctrl+C only makes the yielded function true; a second one interrupts.

    An exception in the middle of the model's own code costs it all that it has read of the
    conversation, so it is asked to stop instead.
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
        # None: a handler that was not set from Python, and cannot be put back by it.
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)


def end_on_signals() -> None:
    """Until the app heeds them, let signals end the program by way of its `finally`.

    The terminal that is being asked what it can do gets its old mode back that way.
    """

    def end(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)
