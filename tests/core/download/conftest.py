"""Servers, a hub and small bundles to fetch."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Protocol

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle

VISION = random.Random(1).randbytes(300_000)
LANGUAGE = random.Random(2).randbytes(3_000_000)


class WriteBundle(Protocol):
    def __call__(self, name: str, **parts: object) -> Path: ...


@dataclass
class Served:
    """A web server for one content, and the requests it received."""

    content: bytes
    honours_range: bool = True
    breaks_after: list[int] = field(default_factory=list)
    """Bytes after which to drop the connection, an entry a request; afterwards none is dropped."""
    ranges: list[str | None] = field(default_factory=list)
    sent: int = 0
    was_asked: threading.Event = field(default_factory=threading.Event)
    may_answer: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served(LANGUAGE)
    state.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            state.ranges.append(asked)
            state.was_asked.set()
            state.may_answer.wait(60)
            start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and state.honours_range else 0
            if start >= len(state.content):
                self.send_error(416)
                return
            body = state.content[start:]
            self.send_response(206 if start else 200)
            if start:
                last = len(state.content) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{last + 1}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if state.breaks_after:
                body = body[: state.breaks_after.pop(0)]
            state.sent += len(body)
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as address:
        state.url = f"{address}/language.bin"
        yield state
        state.may_answer.set()


@pytest.fixture
def hub() -> Iterator[str]:
    """As much of the Hugging Face hub as one file needs: its commit, tag, size and content."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", "c0ffee" + "0" * 34)
            self.send_header("ETag", '"5ma11"')
            self.send_header("Content-Length", str(len(LANGUAGE)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(LANGUAGE)

        def log_message(self, *_: object) -> None:
            pass

    with listening(Handler) as address:
        yield address


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A real server in a thread; yields its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def vision_file(tmp_path: Path) -> Path:
    path = tmp_path / "a vision file.bin"
    path.write_bytes(VISION)
    return path


@pytest.fixture
def url_bundle(served: Served, vision_file: Path, write_bundle: WriteBundle) -> Bundle:
    """Vision tower from a local path, language model from the server."""
    return small_bundle(write_bundle, vision_file, {"kind": "url", "url": served.url})


def small_bundle(write_bundle: WriteBundle, vision_file: Path, *language_sources: dict[str, str]) -> Bundle:
    write_bundle(
        "small",
        vision=VISION,
        vision_sources=[{"kind": "path", "path": str(vision_file)}],
        language=LANGUAGE,
        language_sources=language_sources,
    )
    return load_bundle("small")


@pytest.fixture
def small(write_bundle: WriteBundle, vision_file: Path) -> Callable[..., Bundle]:
    """A bundle whose language model comes from the given sources."""
    return lambda *sources: small_bundle(write_bundle, vision_file, *sources)
