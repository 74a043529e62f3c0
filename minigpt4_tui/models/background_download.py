"""Downloads a bundle's files in a child process, which can be killed at any moment and blocks nothing.

Downloaded parts are kept, and the next download resumes from them. The child exits with its parent,
however that ends: it reads the pipe between them until it closes. Run as a module, this is the child.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import TextIO

from minigpt4.core.download.fetch import FetchProgress
from minigpt4.core.errors import FetchError, Minigpt4Error

REPORT_S = 0.1
"""Minimum time between two reports on one file."""

RUNNING: dict[str, Download] = {}
"""This process's downloads by bundle; they continue while no screen shows them."""


RATE_S = 10.0
"""Seconds over which the rate is averaged."""


class Download:
    """One download; `progress` and `notice` are its latest reports, `files` the latest on each file begun."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self.progress: FetchProgress | None = None
        self.files: dict[str, FetchProgress] = {}
        self._arrived: deque[tuple[float, int]] = deque()
        self.notice = ""
        self.was_stopped = False
        self.then: Callable[[], None] | None = None
        """What to do once all files are here."""
        self._process: subprocess.Popen[str] | None = None

    def run(self) -> None:
        """Download until done or until `stop` is called; raises FetchError. Blocks its thread."""
        command = [sys.executable, "-P", "-m", "minigpt4.tui.models.background_download", self.bundle]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            # A process group, so that `stop` reaches what the child starts, and Ctrl+C only the app.
            start_new_session=True,
        )
        if self.was_stopped:
            self.stop()
        error = ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            if "file" in event:
                self.take(FetchProgress(**event), time.monotonic())
            self.notice = event.get("notice", self.notice)
            error = event.get("error", error)
        code = self._process.wait()
        if code and not self.was_stopped:
            raise FetchError(
                error or f"The download of the bundle '{self.bundle}' failed (exit code {code}); try again."
            )

    def take(self, now: FetchProgress, at: float) -> None:
        """Take a report that arrived at the time `at` (seconds)."""
        self.progress = self.files[now.file] = now
        self._arrived.append((at, now.done_in_all))
        while at - self._arrived[0][0] > RATE_S:
            self._arrived.popleft()

    @property
    def rate(self) -> float:
        """Bytes per second lately; 0 if unknown."""
        if len(self._arrived) < 2:
            return 0.0
        (began, before), (ended, after) = self._arrived[0], self._arrived[-1]
        return max(after - before, 0) / (ended - began) if ended > began else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Until all files are here, at this rate; None if unknown."""
        now, rate = self.progress, self.rate
        if now is None or now.total_in_all is None or not rate:
            return None
        return (now.total_in_all - now.done_in_all) / rate

    def stop(self) -> None:
        """Kill the child; `run` then returns."""
        self.was_stopped = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def main(bundle: str) -> int:
    """The child: download the bundle's missing files, or check every file if none is missing."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.download.fetch import ensure, is_present
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.language.load import needed_files

    reported = ("", 0.0)

    def report(now: FetchProgress) -> None:
        nonlocal reported
        file, at = reported
        if now.file != file or now.done == now.total or time.monotonic() - at >= REPORT_S:
            reported = (now.file, time.monotonic())
            _send(out, asdict(now))

    try:
        found = load_bundle(bundle)
        files = needed_files(EngineOptions(found))
        ensure(
            found,
            files=files,
            progress=report,
            notice=lambda sentence: _send(out, {"notice": sentence}),
            verify=all(is_present(file, found) for file in files),
        )
    except Minigpt4Error as problem:
        _send(out, {"error": str(problem)})
        return 1
    return 0


def _send(out: TextIO, event: dict[str, object]) -> None:
    out.write(json.dumps(event) + "\n")
    out.flush()


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
