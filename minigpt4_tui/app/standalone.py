"""The base of the apps other than the chat (`train --watch`, reviews): settings, keys, themes, terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import ClassVar

import typer
from textual.binding import Binding, BindingType
from textual.signal import Signal

from minigpt4.tui.app.base import BaseApp
from minigpt4.tui.settings.keys import bindings
from minigpt4.tui.settings.settings import Loaded, Settings, load_settings


class StandaloneApp(BaseApp, inherit_bindings=False):
    """An app other than the chat that follows the user's settings."""

    TITLE = "minigpt4"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", show=False),
        Binding("ctrl+q", "quit", show=False, priority=True, id="quit"),
    ]
    CSS = """
    Screen { background: $background; color: $foreground; }
    * {
        scrollbar-size-vertical: 1;
        scrollbar-color: $foreground 20%;
        scrollbar-color-hover: $foreground 35%;
        scrollbar-color-active: $primary;
        scrollbar-background: $foreground 0%;
        scrollbar-background-hover: $foreground 0%;
        scrollbar-background-active: $foreground 0%;
    }
    *:ansi { scrollbar-color: $border-blurred; scrollbar-color-hover: $border; }
    """
    """The quit keys and the scroll bars; an app adds its own keys and styles to these."""

    def __init__(self, loaded: Loaded) -> None:
        super().__init__()
        self.settings: Settings = loaded.settings
        self.settings_changed: Signal[str] = Signal(self, "settings_changed")
        self._problems = loaded.problems
        self.animation_level = "none" if self.settings.reduced_motion else "full"
        self.begin_theme(self.settings.theme)

    def on_mount(self) -> None:
        """Apply the user's keys, report problems in the settings, and follow theme files."""
        self.set_keymap(bindings(self.settings.keys).keymap())
        for problem in self._problems:
            self.say(problem, "warning")
        self.follow_themes()


def at_terminal() -> bool:
    """Whether keys can be read and a screen can be drawn."""
    streams = (sys.stdin, sys.stdout)
    return all(one is not None and one.isatty() for one in streams) and os.environ.get("TERM") != "dumb"


def run_app(make: Callable[[Loaded], StandaloneApp]) -> None:
    """Run an app in this terminal until it exits.

    Raises the error that ended it, or typer.Exit with its code if a signal did.
    """
    from minigpt4.tui.images.terminal_protocol import query_terminal

    loaded = load_settings()
    # The terminal replies while the app is made.
    wait_for_reply = query_terminal(loaded.settings.images)
    app = make(loaded)
    wait_for_reply()
    app.run()
    if app.fault is not None:
        raise app.fault
    if app.return_code:
        raise typer.Exit(app.return_code)
