"""The content of the list of conversations: pages of all, or of those that match the typed filter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from textual import on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content

from minigpt4.tui.history.store import ListedConversation
from minigpt4.tui.sidebar.conversation_list import ConversationList
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.key_line import KeyLine, action_link
from minigpt4.tui.widgets.option_rows import OptionRows

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

PAGE = 100
"""Conversations per page: more than the tallest screens show."""

POLL_S = 2.0
"""Seconds between checks for changes by another instance."""

MAX_FILTER = 200


class Listing(Vertical):
    """A heading, which becomes the filter, over the list; it follows the store."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self.letters = ""
        self._infos: list[ListedConversation] = []
        self._is_complete = False
        self._wanted: tuple[str, int] = ("", PAGE)
        self._is_reading = False
        self._opens_first = False
        self._version = -1

    @property
    def host(self) -> MiniGPT4App:
        """The app, typed."""
        return cast("MiniGPT4App", self.app)

    @property
    def rows(self) -> ConversationList:
        """The list."""
        return self.query_one(ConversationList)

    def compose(self) -> ComposeResult:
        yield KeyLine(classes="heading", is_plain=False)
        yield ConversationList(id="conversations")

    def on_mount(self) -> None:
        """Read the first page, and follow changes."""
        self.host.conversations_changed.subscribe(self, lambda _: self._read())
        self.host.conversation_opened.subscribe(self, lambda _: self._draw())
        self._draw_heading(None)
        self._read()
        self.set_interval(POLL_S, self._poll)

    def focus_list(self) -> None:
        """Focus the list, the cursor on the open conversation."""
        rows, current = self.rows, self._current
        if rows.lists(current) and not rows.has_focus:
            rows.highlighted = rows.get_option_index(current)
        rows.focus()

    @property
    def _current(self) -> str:
        """The id of the open conversation."""
        info = self.host.conversation.info
        return info.id if info is not None else ""

    def _poll(self) -> None:
        """Detect changes by another instance; this one's are published as signals."""
        if self.display:
            version = self.host.guarded(self.host.store.version)
            if version is not None and version != self._version:
                if self._version >= 0:
                    self.host.conversations_changed.publish("")
                self._version = version

    def _read(self) -> None:
        """Read as many conversations again as are listed."""
        count = max(len(self._infos), PAGE)
        if self.letters:
            self._search(count)
            return
        found = self.host.guarded(lambda: self.host.store.conversations(count))
        if found is not None:
            self._infos, self._is_complete = found, len(found) < count
            self._draw()

    @on(OptionRows.NearEnd)
    def _read_more(self, event: OptionRows.NearEnd) -> None:
        if self._is_complete or not self._infos or event.count != self.rows.option_count:
            return
        if self.letters:
            self._search(len(self._infos) + PAGE)
            return
        more = self.host.guarded(lambda: self.host.store.conversations(PAGE, self._infos[-1]))
        if more is not None:
            self._infos += more
            self._is_complete = len(more) < PAGE
            self.rows.extend(more, self._current)

    def _draw(self, *, keep: str | None = None) -> None:
        self.rows.show(self._infos, self._current, offers_new=not self.letters, keep=keep)
        if keep is not None:
            self.call_after_refresh(self.rows.scroll_to_highlight)

    @on(ConversationList.Typed)
    def _typed(self, event: ConversationList.Typed) -> None:
        event.stop()
        letters = (self.letters + event.letters)[:MAX_FILTER] if event.letters else self.letters[:-1]
        self._filter(letters.lstrip())

    def clear_filter(self) -> bool:
        """Show all conversations again; False if they are shown already."""
        if not self.letters:
            return False
        self._filter("", keep=self.rows.chosen or self._current)
        return True

    def _filter(self, letters: str, *, keep: str | None = None) -> None:
        if letters == self.letters:
            return
        self.letters = letters
        self._infos = []
        self._opens_first = False
        self.query_one(".heading").set_class(bool(letters), "-filtering")
        self._wanted = (letters, PAGE)
        self._draw_heading(None)
        if letters:
            self._search(PAGE)
        else:
            self._read()
            self._draw(keep=keep)

    def _search(self, limit: int) -> None:
        """Search in the background: one query at a time, and of those typed meanwhile only the latest.

        A search of 10,000 conversations takes up to 0.1 s.
        """
        self._wanted = (self.letters, limit)
        if self._is_reading:
            return
        self._is_reading = True
        (letters, limit), store = self._wanted, self.host.store
        self.host.in_background(
            lambda: (store.conversations(limit, None, letters), store.count(letters)),
            lambda found: self._found((letters, limit), *found),
            self._failed,
        )

    def _found(self, searched: tuple[str, int], infos: list[ListedConversation], count: int) -> None:
        self._is_reading = False
        if not self.is_attached or not self.letters:
            return
        if searched != self._wanted:
            self._search(self._wanted[1])
        if searched[0] == self.letters:
            is_new = not self._infos
            self._infos, self._is_complete = infos, len(infos) < searched[1]
            self._draw_heading(count)
            self._draw(keep=infos[0].id if is_new and infos else None)
            if self._opens_first:
                self._opens_first = False
                self.rows.action_select()

    @property
    def _is_behind(self) -> bool:
        """Whether the filter's rows have not been read yet."""
        return self._is_reading and bool(self.letters) and not self._infos

    def _failed(self, error: Exception) -> None:
        self._is_reading = self._opens_first = False
        if self.is_attached:
            self.host.say(sanitize_line(str(error)), "warning")

    def _draw_heading(self, count: int | None) -> None:
        """The heading, or the filter and how many it finds (None: not known yet)."""
        if not self.letters:
            text = action_link("Conversations", "focus_list")
        else:
            found = "" if count is None else "none" if not count else f"{count:,} found"
            text = Content.assemble(sanitize_line(self.letters), "▏", (f" {found}", "$text-muted not bold"))
        self.query_one(".heading", KeyLine).update(text)

    @property
    def _chosen(self) -> ListedConversation | None:
        return next((info for info in self._infos if info.id == self.rows.chosen), None)
