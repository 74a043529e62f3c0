"""A chat template in a separate process, which may compute for two seconds and cannot open files."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

from minigpt4.core.storage.working_folder import has_working_folder

# -P: a file called json.py in the working folder must not become Python's `json`.
COMMAND = (sys.executable, "-P", "-m", "minigpt4.core.chat_template.render_process")

WAIT_S = 60
"""Longest wait for a render; the process's own limit of processor time is reached long before."""

MOST_BYTES = 16 << 20
"""Bytes of one answer: more than six for each character that a template may write."""

Kind = Literal["refused", "syntax", "limit", "failed"]
"""`refused`: the template itself raised. `syntax` and `limit` (time, memory, recursion) are permanent."""


class RenderError(Exception):
    """A template could not be rendered; `reason` is part of a sentence."""

    def __init__(self, kind: Kind, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


class Renderer:
    """Renders one template repeatedly; a render takes 0.3 ms, the first 0.2 s.

    The process starts with the first render, and again after a render that ended it. It ends with this
    object or this process.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the process, which then imports Jinja while this one does other work."""
        with self._lock:
            self._started()

    def render(self, messages: Sequence[Mapping[str, Any]], **variables: Any) -> str:
        """What the template writes for the messages; raises RenderError."""
        request = json.dumps({"messages": messages, **variables})
        with self._lock:
            process = self._started()
            try:
                answer = json.loads(self._exchange(process, request))
            except BaseException as error:
                self.close()
                if isinstance(error, OSError | ValueError):
                    raise RenderError("failed", "its process ended") from error
                raise
        if not isinstance(answer, dict):
            raise RenderError("failed", "its process answered something else")
        if "text" in answer:
            return str(answer["text"])
        raise RenderError(answer["kind"], answer["reason"])

    def close(self) -> None:
        """End the process; `render` starts another."""
        if self._end is not None:
            self._end()
        self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = process = subprocess.Popen(
                COMMAND,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=None if has_working_folder() else "/",
            )
            self._end = weakref.finalize(self, _end, process)
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # the first render reports it
                process.stdin.write(json.dumps(self._source).encode() + b"\n")
                process.stdin.flush()
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], request: str) -> bytes:
        """Send one line and read one; raises RenderError if there is none in time."""
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # reading the answer reports why
            process.stdin.write(request.encode() + b"\n")
            process.stdin.flush()
        deadline, answer, pipe = time.monotonic() + WAIT_S, bytearray(), process.stdout.fileno()
        while not answer.endswith(b"\n"):
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise RenderError("limit", f"it took more than {WAIT_S} seconds")
            data = os.read(pipe, 1 << 16)
            if not data:
                raise _end_of(process)
            answer += data
            if len(answer) > MOST_BYTES:
                raise RenderError("limit", f"it writes more than {MOST_BYTES} bytes")
        return bytes(answer)


def _end_of(process: subprocess.Popen[bytes]) -> RenderError:
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    if process.returncode == -signal.SIGPROF:
        return RenderError("limit", "it computes without an end")
    return RenderError("failed", "its process ended unexpectedly")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
