"""The app with its own store, default settings, and an engine scripted by the test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image
from textual.pilot import Pilot

from minigpt4.core.bundles.bundle import SHIPPED_BUNDLES
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.pixels import open_picture
from minigpt4.core.storage.paths import config_home
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import (
    ChatMessage,
    ContextUsage,
    Event,
    Finished,
    Phase,
    Ready,
    TextDelta,
)
from minigpt4.tui.app.app import MiniGPT4App
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.settings.settings import load_settings


@dataclass
class FakeWorker:
    """In place of a Worker: records commands, and sends the events that a test wants."""

    on_event: Callable[[Event], None]
    loads: bool = True
    loaded: list[EngineOptions] = field(default_factory=list)
    asked: list[tuple[str, tuple[ChatMessage, ...], Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    searched: list[tuple[str, Path]] = field(default_factory=list)
    prepared: list[tuple[ChatMessage, ...]] = field(default_factory=list)
    stopped: int = 0

    def load(self, choice: EngineOptions) -> None:
        self.loaded.append(choice)
        if self.loads:
            self.on_event(Ready(choice.bundle, "llamacpp", 1000, 9, 0.2))

    def reply(self, request: str, messages: Sequence[ChatMessage], sampling: Any = None) -> None:
        self.asked.append((request, tuple(messages), sampling))

    def prepare(self, messages: Sequence[ChatMessage], sampling: Any = None) -> None:
        self.prepared.append(tuple(messages))

    def count(self, request: str, messages: Sequence[ChatMessage]) -> None:
        self.on_event(ContextUsage(request, 10 * len(messages), 1000, 0))

    def find_objects(self, request: str, picture: Path) -> None:
        self.searched.append((request, picture))

    def cancel(self, request: str) -> None:
        self.cancelled.append(request)

    def stop(self, timeout: float = 0.3) -> None:
        self.stopped += 1

    @property
    def request(self) -> str:
        """The id of the last question."""
        return self.asked[-1][0]

    def begin(self, *pieces: str) -> None:
        """Say the beginning of an answer to it."""
        self.on_event(Phase(self.request, "decode"))
        for piece in pieces:
            self.on_event(TextDelta(self.request, piece))

    def answer(self, *pieces: str, finish: Any = "stop") -> None:
        """Say a whole answer."""
        self.begin(*pieces)
        self.on_event(Finished(self.request, finish, 30, len(pieces), 0.5, 20.0))


@dataclass
class Stage:
    """An app that runs, and what it runs with."""

    app: MiniGPT4App
    pilot: Pilot[None]
    engine: FakeWorker
    store: Store

    async def until(self, holds: Callable[[], Any], seconds: float = 60) -> None:
        """Wait until it holds; fails when it does not within the time."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it never came true"
            await self.pilot.pause()
            await asyncio.sleep(0.005)
        await self.pilot.pause()

    async def ask(self, question: str) -> None:
        """Type a question and send it."""
        before = len(self.engine.asked)
        self.app.chat.composer.replace_text(question)
        await self.pilot.press("enter")
        await self.until(lambda: len(self.engine.asked) > before)

    async def talk(self, question: str, *answer: str) -> None:
        """Ask, and have it answered."""
        await self.ask(question)
        self.engine.answer(*answer)
        await self.until(lambda: self.app.conversation.answering is None)
        await self.pilot.pause()

    @property
    def shown(self) -> list[str]:
        """The texts of the messages on the screen."""
        return [view.message.text for view in self.app.chat.transcript.views]

    def text(self) -> str:
        """All that the screen shows."""
        lines = []
        for strip in self.app.screen._compositor.render_strips():
            lines.append("".join(segment.text for segment in strip))
        return "\n".join(lines)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "kept" / "conversations.sqlite3")
    yield opened
    opened.close()


@pytest.fixture
def picture(store: Store) -> StoredPicture:
    return store.keep_picture(open_picture(_png((40, 30))), "cat.png")


def _png(size: tuple[int, int]) -> bytes:
    out = BytesIO()
    Image.new("RGB", size, (90, 140, 190)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def png() -> Callable[[tuple[int, int]], bytes]:
    """The bytes of a picture of that size."""
    return _png


@pytest.fixture
def seeing() -> dict[str, str]:
    """Settings with a bundle that has a detector."""
    manifest = (SHIPPED_BUNDLES / "mini.toml").read_text()
    path = config_home() / "bundles" / "seeing.toml"
    path.parent.mkdir(parents=True)
    path.write_text(manifest)
    return {"images": "halfblock", "bundle": "seeing"}


@pytest.fixture
def play(store: Store) -> Callable[..., AbstractAsyncContextManager[Stage]]:
    """Run an app until the block ends; `flags` are settings as the command line gives them.

    `kept` is a store in place of the fixture's, and what was wrong with another one; `toasts` draws the
    sentences that the app says, which otherwise are only kept.
    """

    @asynccontextmanager
    async def run(
        flags: Mapping[str, Any] | None = None,
        *,
        pictures: Iterable[Path] = (),
        conversation: str | None = None,
        loads: bool = True,
        size: tuple[int, int] = (80, 24),
        kept: tuple[Store, str] | None = None,
        toasts: bool = False,
    ) -> AsyncIterator[Stage]:
        settings = load_settings({"sidebar": "closed", "reduced_motion": True, **(flags or {})}, {})
        opened, problem = kept or (store, "")
        settings = replace(settings, problems=(*settings.problems, problem))
        app = MiniGPT4App(
            settings,
            opened,
            lambda on_event: cast(Worker, FakeWorker(on_event, loads)),
            pictures,
            conversation,
        )
        async with app.run_test(size=size, notifications=toasts) as pilot:
            engine = cast(object, app.worker)
            assert isinstance(engine, FakeWorker)
            now = Stage(app, pilot, engine, opened)
            await now.until(lambda: app.is_begun and app.focused is not None)
            yield now

    return run
