"""The command palette's entries: actions that need no selection, themes and bundles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider
from textual.content import Content

from minigpt4.core.bundles.bundle import bundle_names
from minigpt4.themes import theme_names
from minigpt4.tui.conversation.engine_status import options_from
from minigpt4.tui.settings.keys import ACTIONS, Action
from minigpt4.tui.terminal.sanitize import sanitize_line

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

EXCLUDED = ("palette", "page_up", "page_down", "stop")
"""Actions that make sense only as keys."""

NAME_WIDTH = 46
"""Columns of a command's name, so that the keys line up."""


class Commands(Provider):
    """Matched fuzzily by their descriptions."""

    @property
    def host(self) -> MiniGPT4App:
        """The app."""
        return cast("MiniGPT4App", self.app)

    async def discover(self) -> Hits:
        """The actions, shown before anything is typed."""
        for name, key, run in self._actions():
            yield DiscoveryHit(_row(Content(name), key), run, text=name)

    async def search(self, query: str) -> Hits:
        """Matching actions, themes and bundles."""
        matcher = self.matcher(query)
        for name, key, run in (*self._actions(), *self._choices()):
            score = matcher.match(name)
            if score > 0:
                yield Hit(score, _row(matcher.highlight(name), key), run, text=name)

    def _actions(self) -> Iterator[tuple[str, str, Callable[[], Any]]]:
        for action in ACTIONS:
            if action.scope in ("app", "chat") and action.id not in EXCLUDED:
                yield action.about, self.host.key(action.id), partial(self._run, action)

    def _choices(self) -> Iterator[tuple[str, str, Callable[[], Any]]]:
        host = self.host
        for name in theme_names():
            change = partial(host.change_setting, "theme", name)
            yield f"Theme: {sanitize_line(name)}", "", partial(host.guarded, change)
        for name in bundle_names():
            options = replace(options_from(host.settings), bundle=name, quant="auto")
            yield f"Model: {sanitize_line(name)}", "", partial(host.switch_model, options)

    async def _run(self, action: Action) -> None:
        host = self.host
        if action.scope == "chat":
            host.back_to_chat()
        await host.run_action(action.id, default_namespace=host if action.scope == "app" else host.chat)


def _row(name: Content, key: str) -> Content:
    return Content.assemble(name, " " * (NAME_WIDTH - name.cell_length), (key, "dim"))
