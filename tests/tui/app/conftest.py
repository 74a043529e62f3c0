"""The app with its own store, default settings, and an engine scripted by the test."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image
from pytest_textual_snapshot import SVGImageExtension
from textual.pilot import Pilot

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.pixels import open_picture
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
from minigpt4.tui.widgets.picture import PictureArea


@dataclass
class FakeWorker:
    """In place of a Worker: records commands, and sends the events that a test wants."""

    on_event: Callable[[Event], None]
    loads: bool = True
    loaded: list[EngineOptions] = field(default_factory=list)
    asked: list[tuple[str, tuple[ChatMessage, ...], Any]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    stopped: int = 0

    def load(self, choice: EngineOptions) -> None:
        self.loaded.append(choice)
        if self.loads:
            self.on_event(Ready(choice.bundle, "llamacpp", 1000, 9, 0.2))

    def reply(self, request: str, messages: Sequence[ChatMessage], sampling: Any = None) -> None:
        self.asked.append((request, tuple(messages), sampling))

    def count(self, request: str, messages: Sequence[ChatMessage]) -> None:
        self.on_event(ContextUsage(request, 10 * len(messages), 1000, 0))

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


RECT = re.compile(
    r'<rect fill="(\S+)" x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)" shape-rendering="\S+"/>'
)


class Shot(SVGImageExtension):
    """An SVG without what is not seen: how a line was put together does not matter, only how it looks."""

    def serialize(self, data: Any, **named: Any) -> Any:
        svg = super().serialize(data, **named)
        svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # they come from the network
        svg = svg.replace("<style>", "<style>rect { shape-rendering: crispEdges; }", 1)
        svg = re.sub(r'<clipPath id="\S+-line-\d+">.*?</clipPath>\s*', "", svg, flags=re.DOTALL)
        svg = re.sub(r' clip-path="url\(\S+-line-\d+\)"', "", svg)
        svg = re.sub(r"<text [^>]*>(&#160;)*</text>", "", svg)
        svg = re.sub(f"(?:{RECT.pattern})+", _joined, svg)
        return svg.replace("><text", ">\n<text").replace("><rect", ">\n<rect")


def _joined(found: re.Match[str]) -> str:
    """Neighbours of one colour as one rectangle."""
    lines: list[tuple[str, float, float, float, str]] = []
    for fill, *numbers, high in RECT.findall(found.group()):
        x, y, wide = map(float, numbers)
        if (
            lines
            and lines[-1][0] == fill
            and lines[-1][2] == y
            and abs(lines[-1][1] + lines[-1][3] - x) < 0.1
        ):
            x, wide = lines[-1][1], round(lines[-1][3] + wide, 1)
            del lines[-1]
        lines.append((fill, x, y, wide, high))
    return "".join(
        f'<rect fill="{fill}" x="{x:g}" y="{y:g}" width="{wide:g}" height="{high}"/>'
        for fill, x, y, wide, high in lines
    )


SIZES = ((80, 24), (120, 40))
THEMES = ("harbour", "paper")


@pytest.fixture
def look(snapshot: Any, tmp_path: Path) -> Callable[..., Awaitable[None]]:
    """Compare the screen with its four pictures: `size` and theme are gone through in the running app.

    `wear` puts on a theme, for screens that have their own say in it.
    """

    async def shoot(now: Stage, name: str, wear: Callable[[str], Awaitable[object]] | None = None) -> None:
        wrong = []
        for wide, high in SIZES:
            await now.pilot.resize_terminal(wide, high)
            for theme in THEMES:
                await wear(theme) if wear is not None else now.app.use_theme(theme)
                drawn = await _settled(now)
                shot = f"{name}-{theme}-{wide}x{high}"
                if snapshot(name=shot, extension_class=Shot) != drawn:
                    (tmp_path / f"{shot}.svg").write_text(drawn, encoding="utf-8")
                    wrong.append(shot)
        assert not wrong, f"{', '.join(wrong)} changed; as they look now they are in {tmp_path}"

    return shoot


async def _settled(now: Stage) -> str:
    """The screen as an SVG, once nothing is done beside it and it stays as it is."""
    before = ""
    while True:
        await now.until(lambda: not _is_busy(now))
        await asyncio.sleep(0.01)
        drawn = str(now.app.export_screenshot(simplify=True))
        if drawn == before and not _is_busy(now):
            return drawn
        before = drawn


def _is_busy(now: Stage) -> bool:
    if any(thread.name == "minigpt4-background" for thread in threading.enumerate()):
        return True
    areas = [area for area in now.app.screen.query(PictureArea) if area.display and area._view is not None]
    return any(area.size and _is_undrawn(area) for area in areas)


def _is_undrawn(area: PictureArea) -> bool:
    return area._drawing is None or len(area._drawing.cells) != area.size.height
