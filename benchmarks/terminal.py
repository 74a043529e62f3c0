"""A scripted pseudo-terminal: it starts a program, presses keys, and times the output."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType

ANSWERS = {
    b"\x1b[c": b"\x1b[?62;22c",
    b"\x1b[16t": b"\x1b[6;20;10t",
    b"\x1b[?2026$p": b"\x1b[?2026;2$y",
}
"""Replies of a typical terminal: a VT220 with colors, cells of 10 by 20 pixels, synchronized output."""

TIMEOUT_S = 60.0


class Terminal:
    """One program in a terminal of `columns` by `rows`; times are seconds since its start."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, columns: int = 120, rows: int = 40
    ) -> None:
        self.started = time.perf_counter()
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(command[0], list(command), dict(environment))
        self._seen = bytearray()
        self._searched = 0
        self._has_exited = False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._has_exited:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._screen)

    @property
    def now(self) -> float:
        """Seconds since the program was started."""
        return time.perf_counter() - self.started

    def until(self, text: str, timeout_s: float = TIMEOUT_S) -> float:
        """Wait for text after the last match; returns when it appeared. Raises SystemExit on a timeout."""
        wanted = text.encode()
        deadline = self.now + timeout_s
        while (place := self._seen.find(wanted, self._searched)) < 0:
            if self.now > deadline or not self._read(deadline - self.now):
                tail = bytes(self._seen[-2000:]).decode(errors="replace")
                raise SystemExit(f"{text!r} did not appear within {timeout_s:g} s; the last output:\n{tail}")
        self._searched = place + len(wanted)
        return self.now

    def rest(self, seconds: float) -> None:
        """Wait, and ignore the output of that time."""
        end = self.now + seconds
        while (left := end - self.now) > 0:
            self._read(left)
        self._searched = len(self._seen)

    def settle(self, quiet_s: float = 0.3) -> None:
        """Wait until there is no output for a while; a cursor blinks every half second."""
        while self._read(quiet_s):
            pass
        self._searched = len(self._seen)

    def press(self, keys: str) -> float:
        """Send these keys; returns the time before."""
        start = self.now
        os.write(self._screen, keys.encode())
        return start

    def paste(self, text: str) -> float:
        """Paste text (bracketed)."""
        return self.press(f"\x1b[200~{text}\x1b[201~")

    def echo(self, keys: str, text: str) -> float:
        """Seconds from pressing the keys until the text appears."""
        self._searched = len(self._seen)
        pressed = self.press(keys)
        return self.until(text) - pressed

    def end(self, keys: str) -> float:
        """Seconds from pressing the keys until the process exits."""
        pressed = self.press(keys)
        while self._read(TIMEOUT_S):
            pass
        _, status = os.waitpid(self.pid, 0)
        ended = self.now
        self._has_exited = True
        if status:
            raise SystemExit(f"the program exited with {os.waitstatus_to_exitcode(status)}")
        return ended - pressed

    def _read(self, seconds: float) -> bool:
        """Read the next output and answer its queries; False on a timeout, or at the end."""
        ready, _, _ = select.select([self._screen], [], [], max(seconds, 0))
        if not ready:
            return False
        chunk = b""
        with suppress(OSError):
            # Linux raises EIO once the program has closed the terminal.
            chunk = os.read(self._screen, 65536)
        for query, answer in ANSWERS.items():
            if query in chunk:
                os.write(self._screen, answer)
        self._seen += chunk
        return bool(chunk)
