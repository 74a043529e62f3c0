"""What tests of the program share: an engine that says what it is told to, a web server, looks at screens."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytest_textual_snapshot import SVGImageExtension

from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Message, SmolLM2
from minigpt4.core.reply import Piece
from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.core.types import ImageEmbedding, Sampling
from minigpt4.tui.widgets.picture import PictureArea


@dataclass
class ScriptedReply:
    """A reply of given pieces that heeds the cancel signal as a real one does."""

    pieces: Sequence[str | Piece | Exception]
    finish_with: str
    dropped_messages: int
    cancelled: Callable[[], bool]
    text: str = ""
    reasoning: str = ""
    finish: str | None = None
    answer_tokens: int = 0
    prompt_tokens: int = 7
    first_token_s: float | None = 0.25
    tokens_per_s: float | None = None

    def __iter__(self) -> Iterator[Piece]:
        for piece in self.pieces:
            if self.cancelled():
                self.finish = "cancelled"
                return
            if isinstance(piece, Exception):
                raise piece
            said = Piece(piece) if isinstance(piece, str) else piece
            if said.is_reasoning:
                self.reasoning += said.text
            else:
                self.text += said.text
            self.answer_tokens += 1
            yield said
            if said.text.endswith("^C"):
                os.kill(os.getpid(), signal.SIGINT)
        self.finish = self.finish_with


@dataclass
class ScriptedEngine:
    """Answers with `pieces`; remembers what it was asked."""

    pieces: Sequence[str | Piece] = ("A ", "cat.")
    finish: str = "stop"
    dropped: int = 0
    error: Exception | None = None
    breaks: Exception | None = None
    """Raised in the middle of an answer."""
    asked: list[list[Message]] = field(default_factory=list)
    limits: list[int | None] = field(default_factory=list)
    """The most tokens of each answer."""
    template: SmolLM2 = field(default_factory=SmolLM2)

    def look(self, source: Picture) -> ImageEmbedding:
        return ImageEmbedding(np.zeros((1, 1), np.float32), key=source.name)

    def reply(
        self,
        conversation: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> ScriptedReply:
        if self.error:
            raise self.error
        self.limits.append(sampling.max_tokens if sampling else None)
        self.asked.append(list(conversation))
        pieces = [*self.pieces, self.breaks] if self.breaks else self.pieces
        return ScriptedReply(pieces, self.finish, self.dropped, cancelled or (lambda: False))


@pytest.fixture
def scripted_engine() -> type[ScriptedEngine]:
    """To be called with what the engine is to say, and how."""
    return ScriptedEngine


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A picture with a space in its name, 30 x 20 pixels."""
    path = tmp_path / "my cat.png"
    Image.new("RGB", (30, 20)).save(path)
    return path


@pytest.fixture
def own_home(mini_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that holds mini and nothing else, for this process and its children."""
    home = tmp_path / "own-home"
    (home / "data").mkdir(parents=True)
    (mini_home / "cache").mkdir(exist_ok=True)
    (home / "data" / "bundles").symlink_to(mini_home / "data" / "bundles")
    (home / "cache").symlink_to(mini_home / "cache")
    monkeypatch.setenv(HOME_VARIABLE, str(home))
    return home


@dataclass
class Web:
    """A web server on this machine: `pages` maps a path to status, headers and content."""

    address: str
    pages: dict[str, tuple[int, dict[str, str], bytes]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    """The paths that were requested, in order."""

    def put(self, path: str, content: bytes, status: int = 200, **headers: str) -> str:
        """Serve the content there; returns its address."""
        self.pages[path] = (
            status,
            {name.replace("_", "-"): value for name, value in headers.items()},
            content,
        )
        return self.address + path


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server with nothing on it yet, which no proxy of this machine stands before."""
    monkeypatch.setenv("no_proxy", "*")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.asked.append(self.path)
            status, headers, content = site.pages.get(self.path, (404, {}, b""))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                if value:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    site = Web(f"http://127.0.0.1:{server.server_port}")
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


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

    async def shoot(now: Any, name: str, wear: Callable[[str], Awaitable[object]] | None = None) -> None:
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


async def _settled(now: Any) -> str:
    """The screen as an SVG, once nothing is done beside it and it stays as it is."""
    before = ""
    while True:
        await now.until(lambda: not _is_busy(now))
        await asyncio.sleep(0.01)
        drawn = str(now.app.export_screenshot(simplify=True))
        if drawn == before and not _is_busy(now):
            return drawn
        before = drawn


def _is_busy(now: Any) -> bool:
    if any(thread.name == "minigpt4-background" for thread in threading.enumerate()):
        return True
    areas = [area for area in now.app.screen.query(PictureArea) if area.display and area._view is not None]
    return any(area.size and _is_undrawn(area) for area in areas)


def _is_undrawn(area: PictureArea) -> bool:
    return area._drawing is None or len(area._drawing.cells) != area.size.height
