"""Events on their way to a listener that may be slower than they come."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from minigpt4.core.worker.messages import Event, Failed, Finished, Loading, Said

log = logging.getLogger(__name__)


class Deliveries:
    """Calls a listener with one event after the other, on a thread of its own.

    While the listener is busy, words of one answer join and reports on one file make way for newer
    ones, so that a slow listener is behind by one call and holds nobody up.
    """

    def __init__(self, listener: Callable[[Event], None]) -> None:
        self._listener = listener
        self._waiting: deque[tuple[object, Event]] = deque()
        self._changed = threading.Condition()
        self._is_closed = False
        threading.Thread(target=self._deliver, name="minigpt4-events", daemon=True).start()

    def post(self, sender: object, event: Event) -> None:
        """Deliver an event after those that wait."""
        with self._changed:
            if not self._is_closed:
                self._waiting.append((sender, event))
                self._changed.notify()

    def withdraw(self, sender: object) -> None:
        """Forget what waits of a sender that is no longer the one in charge, its answers excepted."""
        with self._changed:
            kept = [
                (one, event)
                for one, event in self._waiting
                if one is not sender or isinstance(event, Said | Finished) or _ends_a_request(event)
            ]
            self._waiting = deque(kept)

    def close(self) -> None:
        """Forget everything that waits; from here on the listener is not called."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify()

    def _deliver(self) -> None:
        while (event := self._next()) is not None:
            try:
                self._listener(event)
            except Exception:
                # A screen that is closing must not cost a later one its events.
                log.exception("An event of the model's process was not taken: %s", type(event).__name__)

    def _next(self) -> Event | None:
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            if self._is_closed:
                return None
            _, event = self._waiting.popleft()
            match event:
                case Said(request, text):
                    texts = [text]
                    while self._waiting and isinstance(more := self._waiting[0][1], Said):
                        if more.request != request:
                            break
                        texts.append(more.text)
                        event = more
                        self._waiting.popleft()
                    return replace(event, text="".join(texts))
                case Loading(file):
                    while self._waiting and isinstance(newer := self._waiting[0][1], Loading):
                        if newer.file != file:
                            break
                        event = newer
                        self._waiting.popleft()
            return event


def _ends_a_request(event: Event) -> bool:
    return isinstance(event, Failed) and event.request is not None
