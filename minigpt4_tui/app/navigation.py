"""The screens that lie over the conversation: called for from anywhere, never the same one twice."""

from __future__ import annotations

from textual.screen import Screen

from minigpt4.tui.app.theme_switching import ThemedApp
from minigpt4.tui.screens import plug


class LayeredApp(ThemedApp, inherit_bindings=False):
    """The actions of the scope "app" that show a screen; they work in every screen."""

    def back_to_chat(self) -> None:
        """Close all that lies over the conversation, as Escape would."""
        self._close_down_to(self.screen_stack[0])

    def action_search(self) -> None:
        """Search all conversations."""
        self._show("search")

    def action_help(self) -> None:
        """All keys."""
        self._show("help")

    def action_models(self) -> None:
        """All bundles."""
        self._show("models")

    def action_settings(self) -> None:
        """All settings."""
        self._show("settings")

    def action_themes(self) -> None:
        """All themes."""
        self._show("themes")

    def action_palette(self) -> None:
        """All commands, by name."""
        from textual.command import CommandPalette

        if not isinstance(self.screen, CommandPalette):
            placeholder = "What you want to do, a theme, or a model"
            self.push_screen(CommandPalette(placeholder=placeholder, id="--command-palette"))

    def _show(self, name: str) -> None:
        """Push a screen, or come back to it where it lies below others."""
        self._leave_palette()
        kind = plug(name)
        for screen in self.screen_stack:
            if isinstance(screen, kind):
                self._close_down_to(screen)
                return
        self.push_screen(kind())

    def _leave_palette(self) -> None:
        from textual.command import CommandPalette

        if isinstance(self.screen, CommandPalette):
            self.screen.dismiss(None)

    def _close_down_to(self, below: Screen[object]) -> None:
        while self.screen is not below:
            self.screen.dismiss(None)
