"""How the app ends: at once, in good order, and without a word too many, whoever or whatever ends it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from rich.console import RenderableType
from textual.app import App

from minigpt4.core.errors import BackendError

if TYPE_CHECKING:
    from textual.driver import Driver

LEAVING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Ctrl+C at the keyboard is none of them: that is a key, which stops an answer."""


class LeavableApp(App[None], inherit_bindings=False):
    """An app that a person, a signal, the end of its terminal or a mistake of its own may end.

    After `run`, `fault` is the mistake, if it was one; whoever ran it tells of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.fault: Exception | None = None
        self.is_leaving = False

    def on_load(self) -> None:
        """Heed signals before anything of the terminal is changed."""
        for number in LEAVING:
            # Only the process's first thread gets any.
            with suppress(RuntimeError, ValueError):
                asyncio.get_running_loop().add_signal_handler(number, self.leave, 128 + number)

    def get_driver_class(self) -> type[Driver]:
        """Our own in place of Textual's for terminals."""
        from textual.drivers.linux_driver import LinuxDriver

        found = super().get_driver_class()
        if found is not LinuxDriver:
            return found
        from minigpt4.tui.app.terminal_driver import TerminalDriver

        return TerminalDriver

    def close_down(self) -> None:
        """Keep what is to be kept and end what was begun; may be called twice."""

    def leave(self, code: int = 0) -> None:
        """Leave, whatever is being done, with that exit code."""
        self.is_leaving = True
        try:
            self.close_down()
        finally:
            self.exit(return_code=code)

    async def action_quit(self) -> None:
        """Leave."""
        self.leave()

    def panic(self, *renderables: RenderableType) -> None:
        """End, as the keyboard cannot be read any more; Textual calls this with what it would print."""
        self._end_with(BackendError("The terminal cannot be read any more; start again in another one."))

    def _handle_exception(self, error: Exception) -> None:
        """End for an error that nobody expected.

        Textual would print where it happened, with the values of all variables: pages, and what was
        said among them.
        """
        self._end_with(error)

    def _end_with(self, error: Exception) -> None:
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
            # A screen that is taken down while it is being built misses what it has not built yet.
            if not self.is_leaving:
                self.fault = error
                self._return_code = 1
        self._close_messages_no_wait()
