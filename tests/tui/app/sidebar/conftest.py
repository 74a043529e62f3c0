"""The app with its list of conversations in focus."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from minigpt4.tui.sidebar.sidebar import Sidebar

Opened = Callable[..., AbstractAsyncContextManager[tuple[Any, Sidebar]]]


@pytest.fixture
def opened(play: Any) -> Opened:
    """Run the app with its list in focus."""

    @asynccontextmanager
    async def with_list(size: tuple[int, int] = (120, 40)) -> AsyncIterator[tuple[Any, Sidebar]]:
        async with play(size=size) as on:
            await on.until(lambda: on.app.is_begun)
            await on.pilot.press("ctrl+l")
            await on.until(lambda: on.app.focused is not None and on.app.focused.id == "conversations")
            yield on, on.app.screen.query_one(Sidebar)

    return with_list
