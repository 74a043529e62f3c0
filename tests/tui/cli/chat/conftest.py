"""A plain chat with an engine that gives the answers of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from minigpt4.core.types import ResolvedSampling
from minigpt4.tui.cli.chat.plain import PlainChat
from minigpt4.tui.cli.chat.plain_history import Record
from minigpt4.tui.history.store import Store

Scripted = Callable[..., Any]


@pytest.fixture
def store() -> Iterator[Store]:
    store = Store.open()
    yield store
    store.close()


@pytest.fixture
def engine(scripted_engine: Scripted) -> Any:
    return scripted_engine()


@pytest.fixture
def chat(store: Store, engine: Any) -> PlainChat:
    return PlainChat(engine, ResolvedSampling(), record=Record(store, bundle="mini"))
