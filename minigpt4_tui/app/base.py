"""The base of all apps, the chat and the standalone ones: errors, background work, themes, start and exit."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from rich.console import RenderableType
from textual import events, on
from textual.app import App, SuspendNotSupported
from textual.filter import LineFilter
from textual.message import Message
from textual.signal import Signal
from textual.widgets import Input, TextArea

from minigpt4.core.errors import BackendError, Minigpt4Error
from minigpt4.themes import theme_files
from minigpt4.tui.settings.settings import entry
from minigpt4.tui.terminal.sanitize import sanitize
from minigpt4.tui.terminal.sanitize_filter import SanitizeFilter
from minigpt4.tui.textual_theme import register_theme_file

if TYPE_CHECKING:
    from pathlib import Path

    from textual.driver import Driver

    from minigpt4.themes.watch import ThemeWatch

T = TypeVar("T")
Severity = Literal["information", "warning", "error"]

EXIT_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Ctrl+C on the keyboard is a key here and not a signal; it stops an answer."""

MAX_PASTE = 10_000
"""Characters of a paste into an input or text area; the composer accepts more."""

LINE_FILTER = SanitizeFilter()

SIGNALS_READ_S = 0.2
"""Seconds after which the event loop has surely read the signals that came while it was blocked."""

REPEAT_S = 30.0
"""Seconds before a recurring error is shown again."""

THEME_POLL_S = 1.0
"""Seconds between two polls of the theme files, each of which takes under a millisecond."""


class BaseApp(App[None], inherit_bindings=False):
    """An app that shows errors as sentences, works in the background, and survives invalid theme files.

    It exits through `leave`, on a signal, when its terminal closes, or on an unexpected error; after
    `run`, `fault` holds that error for the caller to report.
    """

    @dataclass
    class Call(Message):
        """A function to be called on the app's thread."""

        function: Callable[[], object]

    def __init__(self) -> None:
        super().__init__()
        if self.no_color:
            # Textual turns known colors into grays, and the terminal's own into black.
            self.ansi_color = False
        self.fault: Exception | None = None
        self.is_leaving = False
        self.key_at = 0.0
        """When the last key was pressed, by `time.monotonic`."""
        self.themes_changed: Signal[str] = Signal(self, "themes_changed")
        """Published with a theme's name when its file is added, edited or deleted."""
        self._shown_errors: dict[str, float] = {}
        self._broken_theme = ""
        self._first_variables: dict[str, str] | None = None

    # Errors and background work

    def say(self, sentence: str, severity: Severity = "information") -> None:
        """Show a sentence as a notification for a few seconds."""
        seconds = 4 if severity == "information" else 8
        self.notify(sanitize(sentence), severity=severity, markup=False, timeout=seconds)

    def guarded(self, work: Callable[[], T], otherwise: T | None = None, *, rarely: bool = False) -> T | None:
        """The result of `work`; on a Minigpt4Error, show it and return `otherwise`.

        With `rarely`, a recurring error is shown only once in a while.
        """
        try:
            return work()
        except Minigpt4Error as error:
            now = time.monotonic()
            if not rarely or now - self._shown_errors.get(str(error), -REPEAT_S) >= REPEAT_S:
                self._shown_errors[str(error)] = now
                self.say(str(error), "error")
            return otherwise

    def in_background(
        self,
        work: Callable[[], T],
        then: Callable[[T], object],
        failed: Callable[[Exception], object] | None = None,
    ) -> None:
        """Run `work` on a daemon thread, then `then` or `failed` (default: show the error) on this one."""

        def run() -> None:
            try:
                result = work()
            except Exception as error:
                fault = error
                self.post_message(self.Call(lambda: (failed or self._failed)(fault)))
            else:
                self.post_message(self.Call(lambda: then(result)))

        threading.Thread(target=run, daemon=True, name="minigpt4-background").start()

    @on(Call)
    def _call(self, event: Call) -> None:
        # A call that arrives while the app closes would look for removed widgets.
        if self.is_running:
            event.function()

    def _failed(self, error: Exception) -> None:
        from minigpt4.tui.terminal.messages import sentence

        self.say(sentence(error), "error")

    # Keys and lines

    async def on_event(self, event: events.Event) -> None:
        """Truncate a paste: a book pasted into an input would block the screen.

        A screen with a `take_key` gets every key, whatever it is bound to.
        """
        if isinstance(event, events.Key):
            self.key_at = time.monotonic()
            take_key = getattr(self.screen, "take_key", None) if self.screen_stack else None
            if take_key is not None:
                take_key(event.key)
                return
        # A paste that the focused widget did not use comes back here, and must not be given to it again.
        if isinstance(event, events.Paste) and not event.is_forwarded and self._pastes_into_line:
            event = events.Paste(event.text[:MAX_PASTE])
        await super().on_event(event)

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Stop the cursor of any input from blinking if motion is reduced."""
        if isinstance(getattr(event.widget, "cursor_blink", None), bool):
            event.widget.cursor_blink = self.animation_level != "none"  # type: ignore[attr-defined]

    @property
    def _pastes_into_line(self) -> bool:
        return isinstance(self.focused, Input | TextArea) and self.focused.id != "composer"

    def get_line_filters(self) -> Sequence[LineFilter]:
        """Textual's filters, and one that replaces control characters."""
        return [*super().get_line_filters(), LINE_FILTER]

    # Themes

    def refresh_css(self, animate: bool = True) -> None:
        """Skip the first theme, which all is composed with: each style sheet would be parsed twice."""
        if self._first_variables is None or self._first_variables != self.get_css_variables():
            super().refresh_css(animate)

    def add_styles(self, file: Path) -> None:
        """Add the rules of a style sheet for the widgets that are mounted from now on."""
        self.stylesheet.read(file)
        self.stylesheet.parse()

    def use_theme(self, name: str) -> bool:
        """Read and show a theme; False if its file is invalid, after showing the error."""
        if problem := register_theme_file(self, name):
            self.call_later(self.say, problem, "error")
            return False
        self.theme = name
        return True

    def begin_theme(self, name: str) -> None:
        """Show the first theme; if its file is invalid, the default theme until it is fixed."""
        if not self.use_theme(name):
            self._broken_theme = name
            self.use_theme(entry("theme").default)
        self._first_variables = self.get_css_variables()
        self.stylesheet.set_variables(self._first_variables)

    def follow_themes(self) -> None:
        """From now on apply edits of theme files, and show errors in them."""
        self._first_variables = None
        from minigpt4.themes.watch import ThemeWatch

        watch = ThemeWatch()
        self.set_interval(THEME_POLL_S, lambda: self._poll_themes(watch))

    def _poll_themes(self, watch: ThemeWatch) -> None:
        for name in watch.poll():
            # A theme whose file is deleted stays as it was until the app exits.
            problem = register_theme_file(self, name) if name in theme_files() else ""
            if problem and name in (self.theme, self._broken_theme):
                self.say(problem, "error")
            elif name == self._broken_theme and name in self.available_themes:
                self._broken_theme = ""
                self.theme = name
            self.themes_changed.publish(name)

    @contextmanager
    def lent_terminal(self) -> Iterator[bool]:
        """Lend the terminal to another program in the block, which must not raise; yields whether it can.

        Ctrl+C then reaches only the other program.
        """
        loop = asyncio.get_running_loop()
        with ExitStack() as stack:
            try:
                stack.enter_context(self.suspend())
            except SuspendNotSupported:
                self.say("This terminal cannot be left to another program.", "warning")
                yield False
                return
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, lambda *_: None)
            try:
                yield True
            finally:
                # Only now does the loop read the signals that arrived, and it must find no handler for them.
                again = (signal.SIGINT, self.leave, 128 + signal.SIGINT)
                loop.call_later(SIGNALS_READ_S, loop.add_signal_handler, *again)

    # Start and end

    def on_load(self) -> None:
        """Install signal handlers before the terminal's mode is changed."""
        for number in EXIT_SIGNALS:
            # Only the main thread can install them.
            with suppress(RuntimeError, ValueError):
                asyncio.get_running_loop().add_signal_handler(number, self.leave, 128 + number)

    def get_driver_class(self) -> type[Driver]:
        """Replace Textual's driver for terminals by our own."""
        from textual.drivers.linux_driver import LinuxDriver

        found = super().get_driver_class()
        if found is not LinuxDriver:
            return found
        from minigpt4.tui.app.terminal_driver import TerminalDriver

        return TerminalDriver

    def close_down(self) -> None:
        """Save what is unsaved and end what was started; may be called twice."""

    def leave(self, code: int = 0) -> None:
        """End the app at once with that exit code."""
        self.is_leaving = True
        try:
            self.close_down()
        finally:
            self.exit(return_code=code)

    async def action_quit(self) -> None:
        """Quit."""
        self.leave()

    def panic(self, *renderables: RenderableType) -> None:
        """End the app: Textual calls this when the keyboard cannot be read any more."""
        self._end_with(BackendError("The terminal cannot be read any more; start again in another one."))

    def _handle_exception(self, error: Exception) -> None:
        """End the app on an unexpected error.

        Textual would print pages of traceback with the values of all variables, parts of the
        conversation among them.
        """
        self._end_with(error)

    def _end_with(self, error: Exception) -> None:
        if self._exception is None:
            self._exception = error
            self._exception_event.set()
            # A screen removed while it is being composed raises, as its widgets do not exist yet.
            if not self.is_leaving:
                self.fault = error
                self._return_code = 1
        self._close_messages_no_wait()
