"""A small OpenAI-compatible server on loopback that fails as it is told to."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Say = Callable[[str], str]
"""What the model says to a prompt."""


@dataclass
class FaultyServer:
    """Each request takes the next of `faults`; when they are used up, it is answered by `say`.

    Faults: a status ("500"; "429 0.2" with Retry-After), "slow" (1.5 s), "cut" (the connection, without a
    word), "half" (the response, then the connection is cut), "broken" (half of the JSON, as if whole),
    "empty" (JSON that is no completion).
    """

    say: Say
    faults: list[str] = field(default_factory=list)
    key: str | None = None
    """The key that is asked for; another one is echoed, as some servers do."""

    prompts: list[str] = field(default_factory=list)
    """What was answered, in order."""

    requests: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    url: str = ""
    refuses: Callable[[dict[str, Any]], dict[str, Any] | None] = lambda _request: None
    """The error of a request that is refused with status 400."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    busy: int = 0
    most_busy: int = 0
    delay: float = 0.0

    def next_fault(self) -> str:
        with self.lock:
            return self.faults.pop(0) if self.faults else ""


Serve = Callable[..., FaultyServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start such a server, which ends with the test; the arguments are its fields."""
    with ExitStack() as stack:
        yield lambda *arguments, **named: stack.enter_context(serving(FaultyServer(*arguments, **named)))


@contextmanager
def serving(server: FaultyServer) -> Iterator[FaultyServer]:
    """The server, listening on a free port."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"faulty": server}))
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    server.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
    try:
        yield server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faulty: FaultyServer

    def log_message(self, *_: object) -> None:
        return

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.faulty.lock:
            self.faulty.requests.append(request)
            self.faulty.times.append(time.monotonic())
            self.faulty.busy += 1
            self.faulty.most_busy = max(self.faulty.most_busy, self.faulty.busy)
        try:
            time.sleep(self.faulty.delay)
            self.respond(request)
        except OSError:
            return  # the client has gone
        finally:
            with self.faulty.lock:
                self.faulty.busy -= 1

    def respond(self, request: dict[str, Any]) -> None:
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.faulty.key is not None and token != self.faulty.key:
            self.send(401, {"error": {"message": f"Incorrect API key provided: {token}."}})
            return
        if error := self.faulty.refuses(request):
            self.send(400, {"error": error})
            return
        fault, _, wait = self.faulty.next_fault().partition(" ")
        if fault == "slow":
            time.sleep(1.5)
        elif fault == "cut":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        elif fault.isdigit():
            later = {"Retry-After": wait} if wait else {}
            self.send(int(fault), {"error": {"message": "not now"}}, later)
            return
        prompt = request["messages"][0]["content"]
        text = prompt if isinstance(prompt, str) else prompt[-1]["text"]
        body: dict[str, Any] = {
            "id": "1",
            "object": "chat.completion",
            "created": 0,
            "model": request["model"],
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": self.faulty.say(text)},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
        }
        if fault == "empty":
            body = {"choices": None}
        content = json.dumps(body).encode()
        if fault == "broken":
            content = content[: len(content) // 2]
        if fault == "half":
            self.head(200, len(content))
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.head(200, len(content))
        self.wfile.write(content)
        if not fault:
            with self.faulty.lock:
                self.faulty.prompts.append(text)

    def head(self, status: int, length: int, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(length))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def send(self, status: int, body: dict[str, Any], more: dict[str, str] | None = None) -> None:
        content = json.dumps(body).encode()
        self.head(status, len(content), more)
        self.wfile.write(content)
