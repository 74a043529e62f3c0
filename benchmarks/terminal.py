"""A terminal that a script sits at: it starts a program, presses keys, and knows what came when."""

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
"""What a usual terminal says of itself: a VT220 in colour, cells of 10 by 20 pixels, synchronised output."""

PATIENCE_S = 60.0


class Terminal:
    """One program at a terminal of `columns` by `rows`; times are seconds since it was started."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, columns: int = 120, rows: int = 40
    ) -> None:
        self.begun = time.perf_counter()
        self.pid, self._screen = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            os.execve(command[0], list(command), dict(environment))
        self._seen = bytearray()
        self._searched = 0
        self._is_over = False

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_over:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._screen)

    @property
    def now(self) -> float:
        """Seconds since the program was started."""
        return time.perf_counter() - self.begun

    def until(self, text: str, patience_s: float = PATIENCE_S) -> float:
        """When the text came, of what was not waited for yet; raises SystemExit where it does not come."""
        wanted = text.encode()
        end = self.now + patience_s
        while (place := self._seen.find(wanted, self._searched)) < 0:
            if self.now > end or not self._take(end - self.now):
                tail = bytes(self._seen[-2000:]).decode(errors="replace")
                raise SystemExit(
                    f"{text!r} did not come within {patience_s:g} s; the last that came:\n{tail}"
                )
        self._searched = place + len(wanted)
        return self.now

    def rest(self, seconds: float) -> None:
        """Let time go by; what comes meanwhile will not be waited for."""
        end = self.now + seconds
        while (left := end - self.now) > 0:
            self._take(left)
        self._searched = len(self._seen)

    def settle(self, quiet_s: float = 0.3) -> None:
        """Wait until nothing comes for a while; a cursor blinks each half of a second."""
        while self._take(quiet_s):
            pass
        self._searched = len(self._seen)

    def press(self, keys: str) -> float:
        """Send what a terminal sends for these keys; when that was begun."""
        begun = self.now
        os.write(self._screen, keys.encode())
        return begun

    def paste(self, text: str) -> float:
        """As a terminal pastes."""
        return self.press(f"\x1b[200~{text}\x1b[201~")

    def echo(self, keys: str, text: str) -> float:
        """Seconds from pressing the keys to the text's coming."""
        self._searched = len(self._seen)
        pressed = self.press(keys)
        return self.until(text) - pressed

    def end(self, keys: str) -> float:
        """Seconds from pressing the keys to the end of the process."""
        pressed = self.press(keys)
        while self._take(PATIENCE_S):
            pass
        _, status = os.waitpid(self.pid, 0)
        ended = self.now
        self._is_over = True
        if status:
            raise SystemExit(f"the program ended with {os.waitstatus_to_exitcode(status)}")
        return ended - pressed

    def _take(self, seconds: float) -> bool:
        """Take in what comes next, answering questions; False where nothing came in time, or nothing will."""
        ready, _, _ = select.select([self._screen], [], [], max(seconds, 0))
        if not ready:
            return False
        piece = b""
        with suppress(OSError):
            # Linux says EIO where the program has let go of the terminal.
            piece = os.read(self._screen, 65536)
        for question, answer in ANSWERS.items():
            if question in piece:
                os.write(self._screen, answer)
        self._seen += piece
        return bool(piece)
