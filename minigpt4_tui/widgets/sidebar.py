"""The list of conversations, loaded page by page: open, rename, pin, delete and restore."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, Static
from textual.widgets.option_list import Option

from minigpt4.tui.history.store import ConversationInfo
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.key_line import KeyLine, action_link
from minigpt4.tui.widgets.option_rows import OptionRows

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

PAGE = 100
"""Conversations per page: more than the tallest screens show."""

POLL_S = 2.0
"""Seconds between checks for changes by another instance."""

NEW = "new-conversation"


class RenameInput(Input):
    """The input in which a conversation is renamed."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("dialog")]

    def action_close(self) -> None:
        """Cancel."""
        self.display = False
        self.screen.query_one("#conversations").focus()


class Sidebar(Vertical):
    """Pinned conversations first, then the latest; the open one is marked."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("sidebar")]
    DEFAULT_CSS = """
    Sidebar {
        padding-top: 1;

        .heading { text-style: bold; color: $text-primary; padding: 0 3; margin-bottom: 1; }
        OptionRows:blur > .option-list--option-highlighted {
            color: $foreground;
            background: transparent;
            text-style: none;
        }
        RenameInput, RenameInput:focus {
            border: none;
            width: 1fr;
            height: 1;
            padding: 0 1;
            margin: 1 1 0 1;
            background: $panel;
        }
        .hint { padding: 0 3; margin: 1 0; }
    }
    .-flat Sidebar { padding: 0; .heading, .hint { display: none; } RenameInput { margin: 0; } }
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self._infos: list[ConversationInfo] = []
        self._is_complete = False
        self._deleted: list[str] = []
        self._left_open = ""
        self._renaming = ""
        self._version = -1

    @property
    def host(self) -> MiniGPT4App:
        """The app, typed."""
        return cast("MiniGPT4App", self.app)

    @property
    def rows(self) -> OptionRows:
        """The list."""
        return self.query_one(OptionRows)

    def compose(self) -> ComposeResult:
        key = self.host.key
        keys = [("rename_conversation", "rename"), ("pin_conversation", "pin")]
        keys += [("delete_conversation", "delete"), ("undelete_conversation", "undo")]
        yield Static("Conversations", classes="heading", markup=False)
        yield OptionRows(id="conversations")
        yield RenameInput(id="new-name", placeholder="A new name")
        cells = [Content(f"{key(action)} {about}".ljust(12)) for action, about in keys]
        cells = [action_link(cell, action) for cell, (action, _) in zip(cells, keys, strict=True)]
        hint = Content("\n").join(Content("").join(cells[row : row + 2]) for row in (0, 2))
        yield KeyLine(hint, classes="hint quiet")

    def on_mount(self) -> None:
        """Read the first page, and follow changes."""
        self.query_one(RenameInput).display = False
        self.host.conversations_changed.subscribe(self, lambda _: self._read())
        self.host.conversation_opened.subscribe(self, lambda _: self._draw())
        self._read()
        self.set_interval(POLL_S, self._poll)

    # Contents

    def _poll(self) -> None:
        """Detect changes by another instance; this one's are published as signals."""
        if self.display:
            version = self.host.guarded(self.host.store.version)
            if version is not None and version != self._version:
                if self._version >= 0:
                    self.host.conversations_changed.publish("")
                self._version = version

    def _read(self) -> None:
        """Read as many again as are listed."""
        count = max(len(self._infos), PAGE)
        found = self.host.guarded(lambda: self.host.store.conversations(count))
        if found is not None:
            self._infos, self._is_complete = found, len(found) < count
            self._draw()

    @on(OptionRows.NearEnd)
    def _read_more(self, event: OptionRows.NearEnd) -> None:
        if self._is_complete or not self._infos or event.count != self.rows.option_count:
            return
        more = self.host.guarded(lambda: self.host.store.conversations(PAGE, self._infos[-1]))
        if more is not None:
            last = self._group(self._infos[-1])
            self._infos += more
            self._is_complete = len(more) < PAGE
            self.rows.add_options(self._options(more, last))

    def _draw(self) -> None:
        new = Option(Content.assemble(("+ ", "bold"), "New conversation"), id=NEW)
        self.rows.fill([new, *self._options(self._infos, "")], keep=self.rows.chosen)

    def _options(self, infos: list[ConversationInfo], group: str) -> list[Option]:
        """A row each, under group headings; `group` is the heading that is already above."""
        current = self.host.conversation.info
        rows = []
        for info in infos:
            if self._group(info) != group:
                group = self._group(info)
                rows.append(Option(Content.assemble("\n  ", (group, "bold")), disabled=True))
            is_open = current is not None and info.id == current.id
            title = sanitize_line(info.title, 80) or "New conversation"
            mark = ("● ", "$primary") if is_open else "  "
            rows.append(Option(Content.assemble(mark, (title, "bold" if is_open else "")), id=info.id))
        return rows

    def _group(self, info: ConversationInfo) -> str:
        if info.pinned:
            return "Pinned"
        day = datetime.date.fromtimestamp(info.updated)
        age = (datetime.date.today() - day).days
        if age <= 1:
            return "Yesterday" if age == 1 else "Today"
        return "Last seven days" if age < 7 else day.strftime("%B %Y")

    @property
    def _chosen(self) -> ConversationInfo | None:
        return next((info for info in self._infos if info.id == self.rows.chosen), None)

    # Actions

    @on(KeyLine.Clicked)
    async def _link_clicked(self, event: KeyLine.Clicked) -> None:
        event.stop()
        await self.run_action(event.action)

    @on(OptionRows.OptionSelected)
    async def _open(self, event: OptionRows.OptionSelected) -> None:
        event.stop()
        if event.option_id == NEW:
            self.host.new_conversation()
        elif event.option_id is not None:
            self.host.open_conversation(event.option_id)
        if self.screen.has_class("-narrow") or self.screen.has_class("-tiny"):
            await self.screen.run_action("toggle_sidebar")

    def action_rename_conversation(self) -> None:
        """Type a new name."""
        info = self._chosen
        if info is not None:
            line = self.query_one(RenameInput)
            self._renaming, line.value, line.display = info.id, sanitize_line(info.title), True
            line.focus()

    @on(Input.Submitted)
    def _renamed(self, event: Input.Submitted) -> None:
        event.stop()
        if self._do(lambda: self.host.store.rename(self._renaming, event.value), self._renaming):
            self.query_one(RenameInput).action_close()

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
        """Restore the last deleted conversation, of this session or before."""
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

    def _neighbor(self, info: ConversationInfo) -> str | None:
        place = self._infos.index(info)
        near = [*self._infos[place + 1 : place + 2], *self._infos[max(0, place - 1) : place]]
        return near[0].id if near else None

    def _move_to(self, conversation: str | None) -> None:
        rows = self.rows
        if conversation is not None and any(info.id == conversation for info in self._infos):
            rows.highlighted = rows.get_option_index(conversation)
        rows.focus()
