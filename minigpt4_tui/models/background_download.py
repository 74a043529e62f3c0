"""Fetching a bundle's files in a process of its own, which can be ended at any moment and holds up nothing.

What has arrived stays, and the next fetch goes on from there. The child lives no longer than its
parent, however that ends: it watches the pipe between them. Run as a module, this is the child.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from typing import TextIO

from minigpt4.core.download.fetch import FetchProgress
from minigpt4.core.errors import FetchError, Minigpt4Error

REPORT_S = 0.1
"""Least time between two reports on one file."""

RUNNING: dict[str, Pull] = {}
"""The fetches of this process, by bundle: they go on while no screen shows them."""


class Pull:
    """One fetch; `progress` and `notice` are the latest words of it."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self.progress: FetchProgress | None = None
        self.notice = ""
        self.was_stopped = False
        self._process: subprocess.Popen[str] | None = None

    def run(self) -> None:
        """Fetch until all is here or `stop` is called; raises FetchError. For a thread of its own."""
        command = [sys.executable, "-P", "-m", "minigpt4.tui.models.background_download", self.bundle]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            # A group, so that what the child starts ends with it; Ctrl+C is the app's alone.
            start_new_session=True,
        )
        if self.was_stopped:
            self.stop()
        error = ""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            told = json.loads(line)
            if "file" in told:
                self.progress = FetchProgress(**told)
            self.notice = told.get("notice", self.notice)
            error = told.get("error", error)
        code = self._process.wait()
        if code and not self.was_stopped:
            raise FetchError(
                error or f"Fetching the bundle '{self.bundle}' ended with no word (code {code}); try again."
            )

    def stop(self) -> None:
        """End it now; `run` then returns."""
        self.was_stopped = True
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def main(bundle: str) -> int:
    """The child: fetch what is missing of the bundle, or check every file where nothing is."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.download.fetch import ensure, is_present
    from minigpt4.core.language.load import needed_files

    try:
        found = load_bundle(bundle)
        files = needed_files(found)
        ensure(
            found,
            files=files,
            progress=_Reporter(out),
            notice=lambda sentence: _tell(out, {"notice": sentence}),
            verify=all(is_present(file, found) for file in files),
        )
    except Minigpt4Error as problem:
        _tell(out, {"error": str(problem)})
        return 1
    return 0


class _Reporter:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last = ("", 0.0)

    def __call__(self, now: FetchProgress) -> None:
        file, told = self._last
        if now.file != file or now.done == now.total or time.monotonic() - told >= REPORT_S:
            self._last = (now.file, time.monotonic())
            _tell(self._out, asdict(now))


def _tell(out: TextIO, what: dict[str, object]) -> None:
    out.write(json.dumps(what) + "\n")
    out.flush()


def _end_with_parent() -> None:
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
