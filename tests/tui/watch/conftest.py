"""Runs written by fixtures, and the screen that follows them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from textual.pilot import Pilot

from minigpt4.train.events import Answer, AnswersSampled, StepDone, Validated
from minigpt4.train.run.folder import RunFolder
from minigpt4.train.run.log import RunLog, RunTail, sample_picture
from minigpt4.tui.settings.settings import load_settings
from minigpt4.tui.watch.app import WatchApp
from minigpt4.tui.watch.format import run_names


@dataclass
class Writer:
    """Writes a run's folder as training does."""

    folder: RunFolder

    def steps(self, first: int, last: int, loss: Callable[[int], float] = lambda _: 2.0) -> None:
        """Log steps `first` to `last`."""
        for step in range(first, last + 1):
            self.folder.append(asdict(StepDone(step, loss(step), 1e-3, 0.5, 4.0, 100)))

    def validated(self, step: int, loss: float) -> None:
        """Log a validation."""
        self.folder.append(asdict(Validated(step, loss)))

    def sampled(self, step: int, **answers: str) -> None:
        """Log answers by the photos' keys."""
        found = tuple(Answer(key, "What is it?", text) for key, text in answers.items())
        self.folder.append(asdict(AnswersSampled(step, found)))

    def picture(self, key: str) -> None:
        """Keep the picture of a key."""
        path = sample_picture(self.folder.path, key)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), (90, 140, 190)).save(path)

    def log(self) -> RunLog:
        """The written log, read back."""
        log = RunLog(self.folder.path)
        log.update(RunTail(self.folder.path).poll())
        return log


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., Writer]:
    """Create a run of 100 steps of 8 photos, in a folder with that name."""

    def begin(name: str = "stage1") -> Writer:
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(parents=True)
        folder.recipe_file.write_text('stage = 1\nbundle = "mini"\nsteps = 100\nbatch_size = 8\n')
        return Writer(folder)

    return begin


@dataclass
class Stage:
    """The running screen."""

    app: WatchApp
    pilot: Pilot[None]

    async def until(self, holds: Callable[[], Any], seconds: float = 30) -> None:
        """Wait until a condition holds; fails on a timeout."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"it never came true:\n{self.text()}"
            await self.pilot.pause()
            await asyncio.sleep(0.005)

    async def read(self) -> None:
        """Read the folders now, and wait until the screen shows it."""
        await self.until(lambda: not self.app._is_reading)
        self.app.read()
        await self.until(lambda: not self.app._is_reading)
        await self.pilot.pause()

    def text(self) -> str:
        """The screen's text."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    def line(self, word: str) -> str:
        """The line of the screen that contains a word."""
        return next(line for line in self.text().splitlines() if word in line)


@pytest.fixture
def watch() -> Callable[..., AbstractAsyncContextManager[Stage]]:
    """Watch runs until the block ends; `flags` are settings."""

    @asynccontextmanager
    async def follow(*runs: Writer, size: tuple[int, int] = (80, 24), **flags: Any) -> AsyncIterator[Stage]:
        tails = [RunTail(run.folder.path) for run in runs]
        loaded = load_settings({"reduced_motion": True, **flags}, {})
        app = WatchApp(loaded, tails, run_names([tail.folder for tail in tails]))
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            yield Stage(app, pilot)

    return follow
