"""A terminal driver that survives invalid input and a closed terminal."""

from __future__ import annotations

import os
import select
import signal
from codecs import getincrementaldecoder
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, Any, cast

from textual._xterm_parser import XTermParser
from textual.drivers.linux_driver import LinuxDriver

if TYPE_CHECKING:
    from textual.app import App

POLL_S = 0.1
"""Seconds between checks for the app's exit; at exit, the wait for late replies."""


class TerminalDriver(LinuxDriver):
    """Textual's driver with two of its failures fixed.

    Textual's own raises on bytes that are not UTF-8, such as the name of a file from an old disk dropped on
    the window; once the terminal is closed, it reads in a busy loop and blocks forever on writing.
    """

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._file = cast("TextIOWrapper", TolerantStream(cast("IO[str]", self._file)))

    def run_input_thread(self) -> None:
        """Process input until the app exits; if the terminal is closed, end the app with SIGHUP."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        is_open = True
        while is_open and not self.exit_event.is_set():
            is_open = self._read_once(parser, decode)
        if is_open:
            self._read_once(parser, decode)
        elif not self.exit_event.is_set():
            os.kill(os.getpid(), signal.SIGHUP)

    def _read_once(self, parser: XTermParser, decode: Callable[[bytes], str]) -> bool:
        """Process the input that arrives within the timeout; False once the terminal is closed."""
        is_open = True
        if select.select([self.fileno], [], [], POLL_S)[0]:
            try:
                data = os.read(self.fileno, 4096)
            except OSError:
                data = b""
            is_open = bool(data)
            for event in parser.feed(decode(data)) if data else ():
                self.process_message(event)
        for event in parser.tick():
            self.process_message(event)
        return is_open


class TolerantStream:
    """A stream to the terminal that ignores errors of a closed one.

    An error would end the writer thread, and the app would wait for it forever.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write the text."""
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Flush the stream."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def fileno(self) -> int:
        """The terminal's file descriptor."""
        return self._stream.fileno()
