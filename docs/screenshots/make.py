"""The README's screenshots, taken from the running app with its real engine and mini's real answers.

    python docs/screenshots/make.py

writes the SVGs beside this file. Nothing personal gets into them: the app has an empty home that shares
only the files of the bundle `mini` (downloaded if missing).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from terminal_svg import to_svg
from textual.color import Color
from textual.pilot import Pilot

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.download.fetch import ensure
from minigpt4.core.storage.paths import HOME_VARIABLE, cache_home, data_home
from minigpt4.core.worker.client import Worker
from minigpt4.tui.app.app import MiniGPT4App
from minigpt4.tui.history.store import Store
from minigpt4.tui.screens.picker import PickerScreen
from minigpt4.tui.settings.settings import load_settings
from minigpt4.tui.widgets.picture import PictureArea

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"
TIMEOUT_S = 180.0

TALKS = (
    ("camera.png", ("What is the man doing?",)),
    ("rocket.jpg", ("Is this a building or a rocket?",)),
    ("chelsea.png", ("Which animal is this?",)),
    ("coffee.jpg", ("What is on the table?",)),
)
"""Photos, and the questions about each."""


class Camera:
    """The running app, with ways to wait for it and to take screenshots."""

    def __init__(self, app: MiniGPT4App, pilot: Pilot[None]) -> None:
        self.app = app
        self.pilot = pilot

    async def until(self, holds: Callable[[], object], what: str) -> None:
        """Wait for a condition; on a timeout `what` is printed."""
        async with asyncio.timeout(TIMEOUT_S) as limit:
            try:
                while not holds():
                    await self.pilot.pause(0.02)
            finally:
                if limit.expired():
                    print(f"waited for: {what}")
        await self.pilot.pause()

    async def ask(self, question: str, picture: Path | None = None) -> None:
        """Ask as a user would, and wait until the answer is finished."""
        chat = self.app.chat
        if picture is not None:
            self.app.attach([picture])
            await self.until(lambda: chat.footer.pictures, f"{picture} in the composer")
        chat.composer.replace_text(question)
        await self.pilot.press("enter")
        await self.until(lambda: not chat.composer.text, "the question to be sent")
        await self.until(lambda: self.app.conversation.answering is None, f"the answer to '{question}'")
        answer = self.app.conversation.path[-1]
        if answer.state != "done":
            raise SystemExit(f"'{question}' was not answered: {answer.state}, {dict(answer.stats)}")
        print(f"> {question}\n{answer.text}")

    async def take(self, name: str) -> None:
        """Save the screen, once all its pictures are drawn."""
        await self.until(lambda: not self._is_busy(), "pictures to be drawn")
        theme = self.app.current_theme
        colors = (Color.parse(str(color)).rgb for color in (theme.background, theme.foreground))
        svg = to_svg(self.app.screen._compositor.render_strips(), *colors)
        (HERE / f"{name}.svg").write_text(svg, encoding="utf-8")
        print(f"{name}.svg  {len(svg) / 1000:.0f} kB")

    def _is_busy(self) -> bool:
        areas: list[Any] = [area for area in self.app.screen.query(PictureArea) if area._view is not None]
        undrawn = any(area._drawing is None or len(area._drawing.cells) != area.size.height for area in areas)
        return undrawn or any(thread.name == "minigpt4-background" for thread in threading.enumerate())


@asynccontextmanager
async def running(store: Store, theme: str, size: tuple[int, int], **named: Any) -> AsyncIterator[Camera]:
    """The app in a terminal of that many columns and rows, with its model loaded."""
    flags = {"theme": theme, "images": "quadrant", "reduced_motion": True, "bundle": "mini"}
    app = MiniGPT4App(load_settings(flags, {}), store, Worker, **named)
    async with app.run_test(size=size, notifications=False) as pilot:
        camera = Camera(app, pilot)
        try:
            await camera.until(lambda: app.is_begun and app.engine.state == "ready", "the model")
            yield camera
        finally:
            app.close_down()


async def take_all(store: Store, photos: Path) -> None:
    """Take the chat in a dark and a light theme, the search, and the picture picker."""
    async with running(store, "harbour", (120, 42)) as camera:
        for photo, questions in TALKS:
            camera.app.new_conversation()
            await camera.ask(questions[0], photos / photo)
            for question in questions[1:]:
                await camera.ask(question)
    # Opened again, so that the speed of the machine that made them is not in the pictures.
    coffee = store.conversations(1)[0].id
    async with running(store, "harbour", (120, 42), conversation=coffee) as camera:
        await camera.until(lambda: camera.app.conversation.path, "the conversation")
        await camera.take("chat")
        await camera.pilot.press("ctrl+f")
        await camera.pilot.press(*"coffee")
        await camera.until(lambda: "found" in _text(camera), "search results")
        await camera.take("search")
    cat = store.conversations(4)[1].id
    async with running(store, "paper", (80, 24), conversation=cat) as camera:
        await camera.until(lambda: camera.app.conversation.path, "the conversation")
        await camera.take("chat-light")
    PickerScreen.start = photos
    async with running(store, "moss", (120, 30)) as camera:
        await camera.pilot.press("ctrl+o")
        await camera.until(lambda: "rocket.jpg" in _text(camera), "the photos")
        await camera.pilot.press("space", "down", "space")
        await camera.until(lambda: "×" in _text(camera), "the photo's size")
        await camera.take("picker")


def _text(camera: Camera) -> str:
    return "\n".join(strip.text for strip in camera.app.screen._compositor.render_strips())


def main() -> None:
    """Create a temporary home with the example photos, and take the screenshots."""
    ensure(load_bundle("mini"), progress=None)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        for name, kept in (("data", data_home()), ("cache", cache_home())):
            (home / "minigpt4" / name).mkdir(parents=True)
            kept.mkdir(parents=True, exist_ok=True)
            for part in kept.iterdir():
                if part.name in ("bundles", "converted"):
                    (home / "minigpt4" / name / part.name).symlink_to(part)
        os.environ |= {HOME_VARIABLE: str(home / "minigpt4"), "HOME": str(home)}
        os.environ.pop("NO_COLOR", None)
        photos = home / "photos"
        photos.mkdir()
        for photo in sorted(EXAMPLES.iterdir()):
            if photo.suffix != ".md":
                shutil.copy(photo, photos)
        store = Store.open(home / "conversations.sqlite3")
        try:
            asyncio.run(take_all(store, photos))
        finally:
            store.close()


if __name__ == "__main__":
    main()
