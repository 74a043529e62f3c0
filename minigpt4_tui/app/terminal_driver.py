"""The terminal as the app reads and writes it, whatever comes from it, and also once it is gone."""

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

LOOK_S = 0.1
"""Longest wait for a key before it is seen whether the app ends; and at the end, for late answers."""


class TerminalDriver(LinuxDriver):
    """Textual's driver, but for what ended it or kept it from ending.

    It dies of bytes that are no UTF-8, such as the name of a file from an old disk that is dropped on
    the window; once the terminal is gone it reads its end over and over, and waits for ever to write.
    """

    def __init__(
        self, app: App[Any], *, debug: bool = False, mouse: bool = True, size: tuple[int, int] | None = None
    ) -> None:
        super().__init__(app, debug=debug, mouse=mouse, size=size)
        self._file = cast("TextIOWrapper", Screen(cast("IO[str]", self._file)))

    def run_input_thread(self) -> None:
        """Hand on what is typed until the app ends; end it, as a closed window does, where nothing can be."""
        parser = XTermParser(self._debug)
        decode = getincrementaldecoder("utf-8")("replace").decode
        is_there = True
        while is_there and not self.exit_event.is_set():
            is_there = self._read_once(parser, decode)
        if is_there:
            self._read_once(parser, decode)
        elif not self.exit_event.is_set():
            os.kill(os.getpid(), signal.SIGHUP)

    def _read_once(self, parser: XTermParser, decode: Callable[[bytes], str]) -> bool:
        """Hand on what comes within the time; False where nothing will ever come again."""
        is_there = True
        if select.select([self.fileno], [], [], LOOK_S)[0]:
            try:
                data = os.read(self.fileno, 4096)
            except OSError:
                data = b""
            is_there = bool(data)
            for event in parser.feed(decode(data)) if data else ():
                self.process_message(event)
        for event in parser.tick():
            self.process_message(event)
        return is_there


class Screen:
    """A stream to the terminal, which takes everything also where nobody is left to see it.

    With an error the thread that writes would end, and the app wait for it.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Draw."""
        with suppress(OSError, ValueError):
            self._stream.write(text)

    def flush(self) -> None:
        """Let it be seen."""
        with suppress(OSError, ValueError):
            self._stream.flush()

    def fileno(self) -> int:
        """The terminal's."""
        return self._stream.fileno()
