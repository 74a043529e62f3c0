"""The messages of a conversation, of which only those near the view are widgets.

A conversation may have thousands of messages, and a screen lays out all widgets that it has. So a
window of them is kept, which moves when the person comes near one of its ends.
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
"""Screenfuls of messages above and below the view that are widgets: all are laid out for each new word."""

WINDOW = 40
"""Most messages that are made widgets at once, however little room they take."""

PICTURE_ROWS = 12
"""Of a picture in a message with what stands under it, about."""


class Transcript(VerticalScroll, can_focus=False):
    """Follows its end until the person scrolls away, and again once they are back."""

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
        """No messages yet, so none above them."""
        self._tell_earlier()

    @property
    def views(self) -> list[MessageView]:
        """The messages that are widgets, in order."""
        return [child for child in self.children if isinstance(child, MessageView) and not child._pruning]

    @property
    def shows_end(self) -> bool:
        """Whether the last message is one of them."""
        return self._end >= len(self._path)

    def view(self, message_id: str) -> MessageView | None:
        """The widget of the message, where it has one now."""
        return next((view for view in reversed(self.views) if view.message.id == message_id), None)

    async def show(self, path: Sequence[StoredMessage], landing: str | None = None) -> None:
        """Another path; the view goes to the message `landing`, or to the end."""
        async with self._lock:
            self._path = path
            place = next((at for at, one in enumerate(path) if one.id == landing), None)
            self._end = len(path) if place is None else self._reach(place, 1)
            self._start = self._reach(self._end if place is None else place, -1)
            with self.app.batch_update():
                await self.remove_children(MessageView)
                await self.mount_all([self._make(one) for one in path[self._start : self._end]])
                self._tell_earlier()
        view = self.view(landing) if landing else None
        if view is None or self.shows_end and place == len(path) - 1:
            self.anchor()
        else:
            self.anchor(self.shows_end)
            self.release_anchor()
            self.call_after_refresh(self.scroll_to_widget, view, animate=False, top=True)
        self.call_after_refresh(self._fill)

    async def add(self, path: Sequence[StoredMessage]) -> None:
        """Take in what has come to the path's end, which comes into view."""
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
                    await self._drop(far)
                    self._start += len(far)
                    self._tell_earlier()
        self.anchor()

    @property
    def follows(self) -> bool:
        """Whether new text at the end moves the view along."""
        return self.is_anchored and not self._anchor_released

    async def to_end(self) -> None:
        """Go to the last message, and follow what comes."""
        if not self.shows_end:
            await self.show(self._path)
        self.anchor()

    async def neighbour(self, view: MessageView, step: int) -> MessageView | None:
        """The message before (-1) or after (1) one, made a widget where it is none yet."""
        views = self.views
        place = views.index(view) + step if view in views else -1
        if not 0 <= place < len(views):
            await self._extend(step)
            views = self.views
            place = views.index(view) + step if view in views else -1
        return views[place] if 0 <= place < len(views) else None

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        """Move the window before its end is seen."""
        super().watch_scroll_y(old_value, new_value)
        if self._pin is not None and not self._holding:
            # The person scrolls on while messages come: what they see then is held.
            view, offset = self._pin
            self._pin = (view, offset + old_value - new_value)
        if not self._moving:
            if new_value < old_value and new_value < self._near and self._start > 0:
                self._begin_extending(-1)
            elif new_value > old_value and new_value > self.max_scroll_y - self._near and not self.shows_end:
                self._begin_extending(1)

    def set_reactive(self, reactive: Reactive[ReactiveType], value: ReactiveType) -> None:
        """As the layout sets it; a conversation that leaves room stands at the top, not at the bottom.

        Where the end is followed, Textual's layout scrolls by less than nothing to bring it to the bottom.
        """
        if reactive in (Widget.scroll_y, Widget.scroll_target_y) and isinstance(value, int | float):
            super().set_reactive(reactive, max(value, 0))
        else:
            super().set_reactive(reactive, value)

    def watch_virtual_size(self, _old: Size, _new: Size) -> None:
        """Keep what is seen where it is while messages above it come and go."""
        self._hold()

    def _begin_extending(self, step: int) -> None:
        self._moving = True
        self.run_worker(self._extend(step), exclusive=False)

    async def _extend(self, step: int) -> None:
        """Move the window by a step; first what comes, then what goes, so that each can be made up for."""
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
                await self._take_in(views, step)
                await self._settled()
                await self._let_go_of(step)
                await self._settled()
                if followed:
                    # Nobody scrolled: it was only seen that there is room for more.
                    self.anchor()
                elif self.shows_end:
                    # Set without going there, as `anchor` would.
                    self._anchored, self._anchor_released = True, True
        finally:
            self._pin = None
            self._moving = False
        self.call_after_refresh(self._fill)

    async def _take_in(self, views: list[MessageView], step: int) -> None:
        if step < 0:
            start = self._reach(self._start, -1)
            fresh = [self._make(one) for one in self._path[start : self._start]]
            self._start = start
            with self.app.batch_update():
                await self.mount_all(fresh, before=views[0])
                self._tell_earlier()
        else:
            fresh = [self._make(one) for one in self._path[self._end : self._reach(self._end, 1)]]
            self._end += len(fresh)
            with self.app.batch_update():
                await self.mount_all(fresh)

    async def _let_go_of(self, step: int) -> None:
        """Of the side that the view moves away from."""
        far = self._far(-step)
        if not far:
            return
        with self.app.batch_update():
            if step < 0:
                self._end -= len(far)
                await self._drop(far)
            else:
                self._start += len(far)
                await self._drop(far)
                self._tell_earlier()

    def _far(self, step: int) -> list[MessageView]:
        """The messages above (-1) or below (1) the view that are further from it than they need be."""
        room = AROUND * self.size.height
        if step < 0:
            return [view for view in self.views if 0 < view.virtual_region.bottom < self.scroll_y - room]
        edge = self.scroll_y + self.size.height + room
        return [view for view in self.views if view.virtual_region.y > edge]

    def _reach(self, place: int, step: int) -> int:
        """How far some screenfuls of messages go from a place, up (-1) or down (1), as far as can be told."""
        screen = self.app.size
        rows, most = AROUND * screen.height, WINDOW
        while rows > 0 and most > 0 and (place > 0 if step < 0 else place < len(self._path)):
            place += step
            message = self._path[place if step < 0 else place - 1]
            rows -= 4 + message.text.count("\n") + len(message.text) // max(screen.width, 1)
            rows -= PICTURE_ROWS if message.pictures else 0
            most -= 1
        return place

    def _fill(self) -> None:
        """Messages may take less room than was thought; then nothing could be scrolled to bring more."""
        if not self._moving and self._start > 0 and self.max_scroll_y < self._near:
            self._begin_extending(-1)

    @property
    def _near(self) -> int:
        """Rows before the end of what are widgets at which more are made so."""
        return max(self.size.height, 8)

    async def _settled(self) -> None:
        """Wait until all messages have been laid out."""
        for _ in range(20):
            await self.wait_for_refresh()
            if all(view.size.height for view in self.views):
                break
        self._hold()

    async def _drop(self, views: Sequence[MessageView]) -> None:
        for view in views:
            await view.remove()

    def _hold(self) -> None:
        """Scroll so that the pinned message is where it was."""
        if self._pin is None or not self._pin[0].is_attached:
            return
        view, offset = self._pin
        self._holding = True
        try:
            self.scroll_to(y=view.virtual_region.y - offset, animate=False, force=True, immediate=True)
        finally:
            self._holding = False

    def _tell_earlier(self) -> None:
        line = self.query_one("#earlier", Static)
        line.update(f"↑ {self._start:,} earlier message{'s' if self._start != 1 else ''}")
        line.display = self._start > 0
