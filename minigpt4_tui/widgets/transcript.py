"""The messages of a conversation, of which only those near the viewport are widgets.

A conversation may have thousands of messages, and a screen lays out all its widgets. Therefore only a
window of them is mounted, which moves when the user scrolls near one of its ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.reactive import Reactive, ReactiveType
from textual.widget import Widget
from textual.widgets import Static

from minigpt4.tui.history.store import StoredMessage
from minigpt4.tui.widgets.message import MessageView

AROUND = 2
"""Screenfuls of messages mounted above and below the viewport: each text delta lays all of them out."""

WINDOW = 40
"""Maximum messages that are mounted at once, however short they are."""


class Transcript(VerticalScroll, can_focus=False):
    """Follows its end until the user scrolls away, and again once they are back."""

    def __init__(self, make: Callable[[StoredMessage], MessageView]) -> None:
        super().__init__(id="transcript")
        self._make = make
        self._path: Sequence[StoredMessage] = ()
        self._start = 0
        self._end = 0
        self._lock = asyncio.Lock()
        self._pin: tuple[MessageView, float] | None = None
        self._moving = False
        self._holding = False

    def compose(self) -> ComposeResult:
        yield Static("", id="earlier", markup=False)

    def on_mount(self) -> None:
        """Hide the count of earlier messages."""
        self._show_earlier_count()

    @property
    def views(self) -> list[MessageView]:
        """The mounted messages, in order."""
        return [child for child in self.children if isinstance(child, MessageView) and not child._pruning]

    @property
    def shows_end(self) -> bool:
        """Whether the last message is mounted."""
        return self._end >= len(self._path)

    def view(self, message_id: str) -> MessageView | None:
        """The widget of the message, if it is mounted."""
        return next((view for view in reversed(self.views) if view.message.id == message_id), None)

    async def show(self, path: Sequence[StoredMessage], landing: str | None = None) -> None:
        """Show another path, scrolled to the message `landing` or to the end."""
        async with self._lock:
            self._path = path
            place = next((at for at, one in enumerate(path) if one.id == landing), None)
            self._end = len(path) if place is None else self._reach(place, 1)
            self._start = self._reach(self._end if place is None else place, -1)
            with self.app.batch_update():
                await self.remove_children(MessageView)
                await self.mount_all([self._make(one) for one in path[self._start : self._end]])
                self._show_earlier_count()
        view = self.view(landing) if landing else None
        if view is None or self.shows_end and place == len(path) - 1:
            self.anchor()
        else:
            self.anchor(self.shows_end)
            self.release_anchor()
            self.call_after_refresh(self.scroll_to_widget, view, animate=False, top=True)
        self.call_after_refresh(self._fill)

    async def add(self, path: Sequence[StoredMessage]) -> None:
        """Mount the messages appended to the path, and scroll to them."""
        if not self.shows_end or len(path) < self._end:
            await self.show(path)
            return
        async with self._lock:
            fresh = [self._make(one) for one in path[self._end :]]
            self._path, self._end = path, len(path)
            if not fresh:
                return
            far = self._far(-1)
            with self.app.batch_update():
                await self.mount_all(fresh)
                if far:
                    await self.remove_children(far)
                    self._start += len(far)
                    self._show_earlier_count()
        self.anchor()

    @property
    def follows(self) -> bool:
        """Whether new text at the end scrolls the transcript."""
        return self.is_anchored and not self._anchor_released

    async def to_end(self) -> None:
        """Scroll to the last message, and follow new text."""
        if not self.shows_end:
            await self.show(self._path)
        self.anchor()

    async def neighbour(self, view: MessageView, step: int) -> MessageView | None:
        """The message before (-1) or after (1) another, mounted if it is not yet."""
        views = self.views
        place = views.index(view) + step if view in views else -1
        if not 0 <= place < len(views):
            await self._extend(step)
            views = self.views
            place = views.index(view) + step if view in views else -1
        return views[place] if 0 <= place < len(views) else None

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Move the window before its end becomes visible."""
        super().watch_scroll_y(old_value, new_value)
        if self._pin is not None and not self._holding:
            # The user scrolls while messages are mounted: pin what they see now.
            view, offset = self._pin
            self._pin = (view, offset + old_value - new_value)
        if not self._moving:
            if new_value < old_value and new_value < self._near and self._start > 0:
                self._begin_extending(-1)
            elif new_value > old_value and new_value > self.max_scroll_y - self._near and not self.shows_end:
                self._begin_extending(1)

    def set_reactive(self, reactive: Reactive[ReactiveType], value: ReactiveType) -> None:
        """Keep a conversation shorter than the viewport at the top.

        While the end is followed, Textual's layout would scroll it to the bottom by a negative offset.
        """
        if reactive in (Widget.scroll_y, Widget.scroll_target_y) and isinstance(value, int | float):
            super().set_reactive(reactive, max(value, 0))
        else:
            super().set_reactive(reactive, value)

    def watch_virtual_size(self, _old: Size, _new: Size) -> None:
        """Keep the visible messages in place while others are mounted or removed above them."""
        self._hold()

    def _begin_extending(self, step: int) -> None:
        self._moving = True
        self.run_worker(self._extend(step), exclusive=False)

    async def _extend(self, step: int) -> None:
        """Move the window: mount, then remove, so that the scroll offset can be corrected after each."""
        self._moving = True
        try:
            async with self._lock:
                views = self.views
                if not views or (self._start == 0 if step < 0 else self.shows_end):
                    return
                followed = self.follows
                seen = next((view for view in views if view.virtual_region.bottom > self.scroll_y), views[0])
                self._pin = (seen, seen.virtual_region.y - self.scroll_y)
                self.anchor(False)
                await self._mount_more(views, step)
                await self._settled()
                await self._remove_far(step)
                await self._settled()
                if followed:
                    # The user did not scroll: the viewport was only not full yet.
                    self.anchor()
                elif self.shows_end:
                    # Set directly: `anchor` would scroll to the end.
                    self._anchored, self._anchor_released = True, True
        finally:
            self._pin = None
            self._moving = False
        self.call_after_refresh(self._fill)

    async def _mount_more(self, views: list[MessageView], step: int) -> None:
        if step < 0:
            start = self._reach(self._start, -1)
            fresh = [self._make(one) for one in self._path[start : self._start]]
            self._start = start
            with self.app.batch_update():
                await self.mount_all(fresh, before=views[0])
                self._show_earlier_count()
        else:
            fresh = [self._make(one) for one in self._path[self._end : self._reach(self._end, 1)]]
            self._end += len(fresh)
            with self.app.batch_update():
                await self.mount_all(fresh)

    async def _remove_far(self, step: int) -> None:
        """Remove messages on the side that the viewport moves away from."""
        far = self._far(-step)
        if not far:
            return
        with self.app.batch_update():
            if step < 0:
                self._end -= len(far)
                await self.remove_children(far)
            else:
                self._start += len(far)
                await self.remove_children(far)
                self._show_earlier_count()

    def _far(self, step: int) -> list[MessageView]:
        """The messages further above (-1) or below (1) the viewport than need to be mounted."""
        margin = AROUND * self.size.height
        if step < 0:
            return [view for view in self.views if 0 < view.virtual_region.bottom < self.scroll_y - margin]
        edge = self.scroll_y + self.size.height + margin
        return [view for view in self.views if view.virtual_region.y > edge]

    def _reach(self, place: int, step: int) -> int:
        """The index some screenfuls of messages above (-1) or below (1) another, by estimated heights."""
        screen = self.app.size
        rows, most = AROUND * screen.height, WINDOW
        while rows > 0 and most > 0 and (place > 0 if step < 0 else place < len(self._path)):
            place += step
            message = self._path[place if step < 0 else place - 1]
            rows -= 4 + message.text.count("\n") + len(message.text) // max(screen.width, 1)
            rows -= _picture_rows(screen.height) if message.pictures else 0
            most -= 1
        return place

    def _fill(self) -> None:
        """Mount more if the messages are shorter than estimated, as there would be nothing to scroll."""
        if not self._moving and self._start > 0 and self.max_scroll_y < self._near:
            self._begin_extending(-1)

    @property
    def _near(self) -> int:
        """Distance in rows from the window's end at which more messages are mounted."""
        return max(self.size.height, 8)

    async def _settled(self) -> None:
        """Wait until all messages have been laid out."""
        for _ in range(20):
            await self.wait_for_refresh()
            if all(view.size.height for view in self.views):
                break
        self._hold()

    def _hold(self) -> None:
        """Scroll so that the pinned message stays where it was."""
        if self._pin is None or not self._pin[0].is_attached:
            return
        view, offset = self._pin
        self._holding = True
        try:
            self.scroll_to(y=view.virtual_region.y - offset, animate=False, force=True, immediate=True)
        finally:
            self._holding = False

    def _show_earlier_count(self) -> None:
        line = self.query_one("#earlier", Static)
        line.update(f"↑ {self._start:,} earlier message{'s' if self._start != 1 else ''}")
        line.display = self._start > 0


def _picture_rows(height: int) -> int:
    """The approximate height of a message's images, with their captions, on a screen of that height."""
    from minigpt4.tui.widgets.picture import rows_in_message

    return rows_in_message(height) + 2
