"""Search over all conversations, with matches underlined; Enter opens the message."""

from __future__ import annotations

import time
from collections.abc import Iterator

from textual import on
from textual.content import Content
from textual.widgets import Input
from textual.widgets.option_list import Option

from minigpt4.tui.history.records import HIT, HIT_END, Hit
from minigpt4.tui.screens.dialog import ListDialog
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

PAGE = 50
"""Hits of the first search, and how many more are searched near the end of the list."""

SPEAKERS = {"user": "You", "assistant": "Answer", None: "Title"}


class SearchScreen(ListDialog[None]):
    """Searches while the user types, on a background thread."""

    HEADING = "Search all conversations"
    HINT = "↑↓ choose · Enter opens"
    PLACEHOLDER = 'Words, or "an exact phrase"'

    def __init__(self) -> None:
        super().__init__()
        self._hits: list[Hit] = []
        self._requested = ("", PAGE)
        self._searched = ("", PAGE)
        self._is_searching = False

    @on(Input.Changed, "#query")
    def _typed(self) -> None:
        self._request(PAGE)

    @on(OptionRows.NearEnd)
    def _near_end(self) -> None:
        words, limit = self._searched
        if words == self.typed and len(self._hits) == limit:
            self._request(limit + PAGE)

    def _request(self, limit: int) -> None:
        self._requested = (self.typed, limit)
        self.rows.is_awaited = self.typed != self._searched[0]
        if not self._is_searching:
            self._search()

    def _search(self) -> None:
        """Run one search at a time; of the queries typed meanwhile, only the latest is run."""
        self._is_searching = True
        query = self._requested
        self.host.in_background(
            lambda: self.host.store.search(*query),
            lambda hits: self._found(query, hits),
            self._failed,
        )

    def _found(self, searched: tuple[str, int], hits: list[Hit]) -> None:
        self._is_searching = False
        if not self.is_attached:
            return
        if searched != self._requested:
            self._search()
        self.rows.is_awaited = searched[0] != self._requested[0]
        same_query = searched[0] == self._searched[0]
        self._hits, self._searched = hits, searched
        keep = self.rows.chosen if same_query else None
        self.rows.fill([Option(_row(hit), id=str(place)) for place, hit in enumerate(hits)], keep=keep)
        more = "+" if len(hits) == searched[1] else ""
        count = f"{len(hits)}{more} found" if hits else "Nothing found."
        self.show_note(count if searched[0].strip() else "")

    def _failed(self, error: Exception) -> None:
        self._is_searching = False
        if self.is_attached:
            self.rows.release()
            self.show_note(sanitize_line(str(error)))

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
    """The snippet with its matches underlined."""
    before, *parts = snippet.split(HIT)
    yield sanitize_line(before) + (" " if before.endswith(" ") else "")
    for part in parts:
        found, _, after = part.partition(HIT_END)
        yield sanitize_line(found), "bold underline"
        lead = " " if after.startswith(" ") else ""
        trail = " " if after.strip() and after.endswith(" ") else ""
        yield lead + sanitize_line(after) + trail
