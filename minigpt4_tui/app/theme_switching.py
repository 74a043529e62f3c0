"""The app's colours: a theme is put on, and followed while somebody edits its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.signal import Signal

from minigpt4.core.errors import Minigpt4Error
from minigpt4.themes import load_theme
from minigpt4.tui.app.base import PatientApp
from minigpt4.tui.app.textual_theme import take_change, textual_theme
from minigpt4.tui.settings.settings import entry

if TYPE_CHECKING:
    from minigpt4.themes.watch import ThemeWatch

THEME_LOOK_S = 1.0
"""How often it is looked whether a theme's file was edited: under a millisecond each time."""


class ThemedApp(PatientApp, inherit_bindings=False):
    """An app that no theme's file can stop."""

    def __init__(self) -> None:
        super().__init__()
        if self.no_color:
            # Textual makes greys of the colours that it knows, and black of the terminal's own.
            self.ansi_color = False
        self.themes_changed: Signal[str] = Signal(self, "themes_changed")
        """A theme's file is new, edited or gone; its name."""
        self._missed_theme = ""
        self._first_colours: dict[str, str] | None = None

    def refresh_css(self, animate: bool = True) -> None:
        """Not for the first theme, which all is built with: every style sheet would be parsed twice."""
        if self._first_colours is None or self._first_colours != self.get_css_variables():
            super().refresh_css(animate)

    def use_theme(self, name: str) -> bool:
        """Show a theme, read anew; False where its file cannot be used, which is said."""
        try:
            found = textual_theme(load_theme(name))
        except Minigpt4Error as error:
            self.call_later(self.say, str(error), "error")
            return False
        self.register_theme(found)
        self.theme = name
        return True

    def begin_theme(self, name: str) -> None:
        """The first theme; where its file is wrong, ours, until that is mended."""
        if not self.use_theme(name):
            self._missed_theme = name
            self.use_theme(entry("theme").default)
        self._first_colours = self.get_css_variables()
        self.stylesheet.set_variables(self._first_colours)

    def follow_themes(self) -> None:
        """From now on an edited file is seen on the screen; what is wrong in it is said."""
        self._first_colours = None
        from minigpt4.themes.watch import ThemeWatch

        watch = ThemeWatch()
        self.set_interval(THEME_LOOK_S, lambda: self._look_at_themes(watch))

    def _look_at_themes(self, watch: ThemeWatch) -> None:
        for change in watch.poll():
            problem = take_change(self, change)
            if change.name in (self.theme, self._missed_theme):
                if problem is not None:
                    self.say(problem, "error")
                elif change.name == self._missed_theme and change.theme is not None:
                    self._missed_theme = ""
                    self.theme = change.name
            self.themes_changed.publish(change.name)
