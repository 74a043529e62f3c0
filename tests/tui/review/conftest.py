"""A review on the screen."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from textual.pilot import Pilot

from minigpt4.tui.review.app import ReviewApp
from minigpt4.tui.settings.settings import Loaded, load_settings


@dataclass
class Stage:
    """The running screen."""

    app: Any
    pilot: Pilot[None]

    async def until(self, holds: Callable[[], Any], seconds: float = 8) -> None:
        """Wait until a condition holds; fails on a timeout."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"it never came true:\n{self.text()}"
            await self.pilot.pause()
            await asyncio.sleep(0.005)

    async def until_shown(self, words: str) -> None:
        """Wait until the screen has these words."""
        await self.until(lambda: words in " ".join(self.text().split()))

    def text(self) -> str:
        """The screen's text."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)


@pytest.fixture
def review(monkeypatch: pytest.MonkeyPatch) -> Callable[..., AbstractAsyncContextManager[Stage]]:
    """Run an app until the block ends; `flags` are settings. Every key counts at once."""
    for name in ("NO_COLOR", "TEXTUAL_COLOR_SYSTEM", "TEXTUAL_ANIMATIONS", "TERM_PROGRAM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("minigpt4.tui.review.app.UNREAD_S", 0.0)

    @asynccontextmanager
    async def run(
        make: Callable[[Loaded], ReviewApp], size: tuple[int, int] = (80, 24), **flags: Any
    ) -> AsyncIterator[Stage]:
        app = make(load_settings({"reduced_motion": True, "images": "halfblock", **flags}, {}))
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            yield Stage(app, pilot)

    return run
