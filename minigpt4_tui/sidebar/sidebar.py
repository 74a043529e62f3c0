"""The list of conversations and its keys: filter, open, rename, pin, delete and restore."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.content import Content
from textual.widgets import Input

from minigpt4.tui.history.store import ListedConversation
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.sidebar.conversation_list import NEW
from minigpt4.tui.sidebar.listing import Listing
from minigpt4.tui.sidebar.rename import RenameInput
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.key_line import KeyLine, action_link, flow
from minigpt4.tui.widgets.option_rows import OptionRows

ROW_KEYS = (("rename_conversation", "rename"), ("pin_conversation", "pin"), ("delete_conversation", "delete"))
"""Actions on the conversation under the cursor."""


class Sidebar(Listing):
    """Pinned conversations first, then the latest; the open one is marked. Letters typed are a filter."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("sidebar")]
    DEFAULT_CSS = """
    Sidebar {
        padding-top: 1;
        layers: default above;

        .heading {
            height: 1;
            padding: 0 3;
            margin-bottom: 1;
            text-style: bold;
            color: $text-primary;
            text-wrap: nowrap;
            text-overflow: ellipsis;
        }
        OptionRows:blur > .option-list--option-highlighted {
            color: $foreground;
            background: transparent;
            text-style: none;
        }
        .hint { display: none; padding: 0 0 0 3; margin: 1 0; text-wrap: nowrap; text-overflow: ellipsis; }
        &.-in-use .hint { display: block; }
    }
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self._deleted: list[str] = []
        self._left_open = ""
        self._renaming = ""

    def compose(self) -> ComposeResult:
        yield from super().compose()
        yield RenameInput(id="new-name", placeholder="A new title")
        yield KeyLine(classes="hint quiet")

    def on_mount(self) -> None:
        """Follow the settings and the scroll position, for the keys and the title being edited."""
        self.host.settings_changed.subscribe(self, lambda _: self._draw_hint())
        self.watch(self.rows, "scroll_y", self._place_rename, init=False)

    def on_descendant_focus(self) -> None:
        """Show the keys while they work."""
        self.set_class(self.has_focus_within, "-in-use")

    def on_descendant_blur(self) -> None:
        """Hide the keys, unless the focus stays in the list."""
        self.set_class(self.has_focus_within, "-in-use")

    def on_resize(self) -> None:
        """Lay out the keys anew; the title being edited stays over its row."""
        self._draw_hint()
        self._place_rename()

    def _draw(self, *, keep: str | None = None) -> None:
        super()._draw(keep=keep)
        self._draw_hint()
        self.call_after_refresh(self._place_rename)

    def _draw_hint(self) -> None:
        """The keys that do something now; the lines are shown while the list has the focus."""
        if self.query_one(RenameInput).display:
            keys = [("", "Enter keeps it"), ("close", "leaves it")]
        elif self.letters:
            keys = [("stop", "clears"), ("search", "searches texts")]
        else:
            keys = [("", "type to filter")]
        if not self.query_one(RenameInput).display:
            keys += ROW_KEYS if self._chosen is not None else ()
            keys += [("undelete_conversation", "undo")]
        cells = [
            action_link(f"{self.host.key(action)} {about}", action) if action else Content(about)
            for action, about in keys
            if not action or self.host.keys_of(action)
        ]
        line = self.query_one(".hint", KeyLine)
        # While it is hidden, its height does not matter.
        line.update(
            flow(cells, self.size.width - line.styles.padding.width), layout=self.has_class("-in-use")
        )

    # Actions

    @on(KeyLine.Clicked)
    async def _link_clicked(self, event: KeyLine.Clicked) -> None:
        event.stop()
        if event.action == "focus_list":
            self.focus_list()
        elif event.action == "stop":
            self.clear_filter()
        elif event.action == "close":
            self.query_one(RenameInput).action_close()
        elif event.action == "search":
            self.host.action_search()
        else:
            await self.run_action(event.action)

    @on(OptionRows.OptionHighlighted)
    def _highlighted(self) -> None:
        self._draw_hint()

    @on(OptionRows.OptionSelected)
    async def _open(self, event: OptionRows.OptionSelected) -> None:
        event.stop()
        if self._is_behind:
            self._opens_first = True
            return
        if event.option_id == NEW:
            self.host.new_conversation()
        elif event.option_id is not None:
            self.host.open_conversation(event.option_id)
        self._filter("", keep=event.option_id)
        if self.display and (self.screen.has_class("-narrow") or self.screen.has_class("-tiny")):
            await self.screen.run_action("toggle_sidebar")

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Disable the actions on conversations while a title is edited."""
        return not (action.endswith("_conversation") and self.query_one(RenameInput).display)

    def action_rename_conversation(self) -> None:
        """Edit the title where it stands."""
        info = self._chosen
        if info is not None:
            self._renaming = info.id
            self.rows.scroll_to_highlight()
            self.query_one(RenameInput).begin(sanitize_line(info.title))
            self._place_rename()
            self._draw_hint()

    def _place_rename(self) -> None:
        """Lay the input over the row of the conversation, wherever it is now; close it if there is no row."""
        line = self.query_one(RenameInput)
        if not line.display:
            return
        rows = self.rows
        place = rows.line_of(self._renaming)
        if place is None:
            line.action_close()
        else:
            region = rows.region
            line.styles.width = region.width
            line.styles.offset = (0, region.y - self.content_region.y + place)

    @on(Input.Submitted)
    def _renamed(self, event: Input.Submitted) -> None:
        event.stop()
        if self._do(lambda: self.host.store.rename(self._renaming, event.value), self._renaming):
            self._end_rename()
            self.rows.focus()

    @on(RenameInput.Left)
    def _rename_left(self, event: RenameInput.Left) -> None:
        event.stop()
        if event.has_focus:
            self.rows.focus()
        self._end_rename()

    def _end_rename(self) -> None:
        self.query_one(RenameInput).display = False
        self._draw_hint()

    def action_pin_conversation(self) -> None:
        """Pin or unpin."""
        info = self._chosen
        if info is not None:
            self._do(lambda: self.host.store.pin(info.id, not info.pinned), info.id)

    def action_delete_conversation(self) -> None:
        """Delete; it can be restored."""
        info = self._chosen
        if info is None:
            return
        neighbor = self._neighbor(info)
        if not self._do(lambda: self.host.store.delete(info.id), info.id):
            return
        self._deleted.append(info.id)
        current = self.host.conversation.info
        if current is not None and current.id == info.id:
            self._left_open = info.id
            self.host.new_conversation()
        self._move_to(neighbor)
        restore = self.host.key("undelete_conversation")
        self.host.say(f"Deleted '{sanitize_line(info.title, 40)}'. {restore} in the list restores it.")

    def action_undelete_conversation(self) -> None:
        """Restore the last conversation deleted, in this session or before it."""
        store = self.host.store
        if not self._deleted:
            self._deleted = [info.id for info in (self.host.guarded(store.deleted) or [])[:1]]
        if not self._deleted:
            self.host.say("Nothing was deleted.", "warning")
            return
        conversation = self._deleted.pop()
        if self._do(lambda: store.undelete(conversation), conversation):
            if conversation == self._left_open and not self.host.conversation.path:
                # No other conversation was started since.
                self.host.open_conversation(conversation)
            self._move_to(conversation)

    def _do(self, work: Callable[[], None], conversation: str) -> bool:
        """Change something and publish it; False if it failed, after showing the error."""

        def done() -> bool:
            work()
            return True

        if not self.host.guarded(done):
            return False
        self.host.conversations_changed.publish(conversation)
        return True

    def _neighbor(self, info: ListedConversation) -> str | None:
        place = self._infos.index(info)
        near = [*self._infos[place + 1 : place + 2], *self._infos[max(0, place - 1) : place]]
        return near[0].id if near else None

    def _move_to(self, conversation: str | None) -> None:
        rows = self.rows
        if conversation is not None and any(info.id == conversation for info in self._infos):
            rows.highlighted = rows.get_option_index(conversation)
        rows.focus()
