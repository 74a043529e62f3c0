"""A worker with a scripted child, and a listener that waits for events."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import Event, Failed, Finished, TextDelta

CHILD = (sys.executable, "-P", str(Path(__file__).with_name("scripted_child.py")))
TIMEOUT_S = 120

E = TypeVar("E", bound=Event)


class Listener:
    """Keeps the events, and waits for the one that is needed."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def until(self, kind: type[E], is_meant: Callable[[E], bool] = lambda event: True) -> E:
        """The first event of the kind that is meant."""

        def found() -> E | None:
            return next((one for one in self.events if isinstance(one, kind) and is_meant(one)), None)

        with self._changed:
            assert self._changed.wait_for(lambda: found() is not None, TIMEOUT_S), self.events
            event = found()
            assert event is not None
            return event

    def finished(self, request: str) -> Finished:
        return self.until(Finished, lambda one: one.request == request)

    def failed(self, request: str | None) -> Failed:
        return self.until(Failed, lambda one: one.request == request)

    def answer(self, request: str) -> str:
        """The whole text, once it is finished."""
        self.finished(request)
        return self.text_of(request)

    def text_of(self, request: str) -> str:
        """The text so far."""
        return "".join(
            one.text for one in self.events if isinstance(one, TextDelta) and one.request == request
        )


@pytest.fixture
def heard() -> Listener:
    return Listener()


@pytest.fixture
def child() -> tuple[str, ...]:
    """The command of the scripted child."""
    return CHILD


@pytest.fixture
def worker(heard: Listener) -> Iterator[Worker]:
    """A worker of this test's own, nothing loaded."""
    worker = Worker(heard, CHILD)
    yield worker
    worker.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Worker, Listener]]:
    """One process for all tests that leave it whole; they tell their requests apart by name."""
    heard = Listener()
    worker = Worker(heard, CHILD)
    worker.load(EngineOptions("scripted"))
    yield worker, heard
    worker.stop()
