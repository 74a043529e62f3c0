"""Search over all that was ever said, found words marked; Enter lands on the message."""

from __future__ import annotations

import time
from collections.abc import Iterator

from textual import on
from textual.content import Content
from textual.widgets import Input
from textual.widgets.option_list import Option

from minigpt4.tui.history.store import HIT, HIT_END, Hit
from minigpt4.tui.screens.dialog import ListDialog
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

PAGE = 50
"""Hits that are looked for at first, and as many more whenever the end of the list is near."""

SPEAKERS = {"user": "You", "assistant": "minigpt4", None: "Title"}


class SearchScreen(ListDialog[None]):
    """Finds as one types; a search never holds up a key."""

    HEADING = "Search all conversations"
    HINT = "↑↓ choose · Enter opens"
    PLACEHOLDER = 'Words, or "words as they stand"'

    def __init__(self) -> None:
        super().__init__()
        self._hits: list[Hit] = []
        self._wanted = ("", PAGE)
        self._looked_for = ("", PAGE)
        self._is_looking = False

    @on(Input.Changed, "#query")
    def _typed(self) -> None:
        self._want(PAGE)

    @on(OptionRows.NearEnd)
    def _near_end(self) -> None:
        words, limit = self._looked_for
        if words == self.typed and len(self._hits) == limit:
            self._want(limit + PAGE)

    def _want(self, limit: int) -> None:
        self._wanted = (self.typed, limit)
        if not self._is_looking:
            self._look()

    def _look(self) -> None:
        """One search at a time: of what was typed while one ran, only the latest is looked for."""
        self._is_looking = True
        wanted = self._wanted
        self.host.in_background(
            lambda: self.host.store.search(*wanted), lambda hits: self._found(wanted, hits), self._failed
        )

    def _found(self, looked_for: tuple[str, int], hits: list[Hit]) -> None:
        self._is_looking = False
        if not self.is_attached:
            return
        if looked_for != self._wanted:
            self._look()
        goes_on = looked_for[0] == self._looked_for[0]
        self._hits, self._looked_for = hits, looked_for
        keep = self.rows.chosen if goes_on else None
        self.rows.fill([Option(_row(hit), id=str(place)) for place, hit in enumerate(hits)], keep=keep)
        more = "+" if len(hits) == looked_for[1] else ""
        count = f"{len(hits)}{more} found" if hits else "Nothing found."
        self.say_below(count if looked_for[0].strip() else "")

    def _failed(self, error: Exception) -> None:
        self._is_looking = False
        if self.is_attached:
            self.say_below(sanitize_line(str(error)))

    @on(OptionRows.OptionSelected)
    def _chosen(self, event: OptionRows.OptionSelected) -> None:
        hit = self._hits[event.option_index]
        self.dismiss(None)
        self.host.open_conversation(hit.conversation, message=hit.message_id)


def _row(hit: Hit) -> Content:
    when = time.strftime("%d %b %Y", time.localtime(hit.created))
    title = sanitize_line(hit.title, 80) or "New conversation"
    head = f"{when} · {SPEAKERS[hit.role]:<8}  "
    return Content.assemble((head, "dim"), (title, "bold"), "\n  ", *_marked(hit.snippet))


def _marked(snippet: str) -> Iterator[str | tuple[str, str]]:
    """The snippet with what was found underlined."""
    before, *parts = snippet.split(HIT)
    yield sanitize_line(before) + (" " if before.endswith(" ") else "")
    for part in parts:
        found, _, after = part.partition(HIT_END)
        yield sanitize_line(found), "bold underline"
        lead = " " if after.startswith(" ") else ""
        trail = " " if after.strip() and after.endswith(" ") else ""
        yield lead + sanitize_line(after) + trail
