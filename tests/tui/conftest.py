"""What tests of the chats share: an engine that says what it is told to, and a web server."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Message
from minigpt4.core.reply import Piece
from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.core.types import ImageEmbedding, Sampling


@dataclass
class ScriptedReply:
    """A reply of given pieces that heeds the cancel signal as a real one does."""

    pieces: Sequence[str | Exception]
    finish_with: str
    dropped_messages: int
    cancelled: Callable[[], bool]
    text: str = ""
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
            self.text += piece
            self.answer_tokens += 1
            yield Piece(piece)
            if piece.endswith("^C"):
                os.kill(os.getpid(), signal.SIGINT)
        self.finish = self.finish_with


@dataclass
class ScriptedEngine:
    """Answers with `pieces`; remembers what it was asked."""

    pieces: Sequence[str] = ("A ", "cat.")
    finish: str = "stop"
    dropped: int = 0
    error: Exception | None = None
    breaks: Exception | None = None
    """Raised in the middle of an answer."""
    asked: list[list[Message]] = field(default_factory=list)
    limits: list[int | None] = field(default_factory=list)
    """The most tokens of each answer."""

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
