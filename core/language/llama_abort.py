"""Cancel llama.cpp in the middle of a batch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minigpt4.core.language.base import Cancelled

ABORTED = 2

LEAST_ABORTED = 16
"""Fewest positions of a batch that can be aborted: the callback costs mini 1 ms, and one token takes 20."""

ASK_EVERY_S = 0.01
"""The library calls back after each of a graph's 1,000 nodes; `cancelled`, the caller's code, less often."""


class Abort:
    """llama.cpp's abort callback, which decides whether to continue a batch."""

    def __init__(self, api: Any, context: Any) -> None:
        self._set = api.llama_set_abort_callback
        self._context = context
        self._cancelled: Cancelled = lambda: False
        self._asked_at = 0.0
        self._error: BaseException | None = None
        self._callback = api.ggml_abort_callback(self._ask)
        self._none = api.ggml_abort_callback()

    @contextmanager
    def when(self, cancelled: Cancelled, size: int) -> Iterator[None]:
        """Abort a batch of `size` positions once `cancelled` returns true or raises; re-raises its error."""
        if size < LEAST_ABORTED:
            yield
            return
        self._cancelled, self._error, self._asked_at = cancelled, None, time.monotonic()
        self._set(self._context, self._callback, None)
        try:
            yield
        finally:
            self._set(self._context, self._none, None)
        if self._error is not None:
            raise self._error

    def _ask(self, _data: object) -> bool:
        # An exception, such as Ctrl+C's, cannot pass through native code.
        try:
            now = time.monotonic()
            if now - self._asked_at < ASK_EVERY_S:
                return self._error is not None
            self._asked_at = now
            return self._cancelled()
        except BaseException as error:
            self._error = error
            return True
