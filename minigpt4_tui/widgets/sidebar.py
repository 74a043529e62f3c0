"""The list of conversations, a page at a time: open, rename, pin, delete and bring back."""

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
"""Conversations read at once: more than the tallest screens show."""

LOOK_S = 2.0
"""How often it is looked whether another instance has changed something."""

NEW = "new-conversation"


class NewName(Input):
    """The line in which a conversation is renamed."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("dialog")]

    def action_close(self) -> None:
        """Leave the name as it was."""
        self.display = False
        self.screen.query_one("#conversations").focus()


class Sidebar(Vertical):
    """Pinned ones first, then the latest; the one that is open has a mark."""

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
        NewName, NewName:focus {
            border: none;
            width: 1fr;
            height: 1;
            padding: 0 1;
            margin: 1 1 0 1;
            background: $panel;
        }
        .hint { padding: 0 3; margin: 1 0; }
    }
    .-flat Sidebar { padding: 0; .heading, .hint { display: none; } NewName { margin: 0; } }
    """

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self._infos: list[ConversationInfo] = []
        self._is_whole = False
        self._deleted: list[str] = []
        self._left = ""
        self._renaming = ""
        self._version = -1

    @property
    def host(self) -> MiniGPT4App:
        """The app."""
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
        yield NewName(id="new-name", placeholder="A new name")
        cells = [Content(f"{key(action)} {about}".ljust(12)) for action, about in keys]
        cells = [action_link(cell, action) for cell, (action, _) in zip(cells, keys, strict=True)]
        hint = Content("\n").join(Content("").join(cells[row : row + 2]) for row in (0, 2))
        yield KeyLine(hint, classes="hint quiet")

    def on_mount(self) -> None:
        """Read the first page, and hear of changes from then on."""
        self.query_one(NewName).display = False
        self.host.conversations_changed.subscribe(self, lambda _: self._read())
        self.host.conversation_opened.subscribe(self, lambda _: self._draw())
        self._read()
        self.set_interval(LOOK_S, self._look)

    # What is shown

    def _look(self) -> None:
        """Another instance may have written; changes of this one are told by signal."""
        if self.display:
            version = self.host.guarded(self.host.store.version)
            if version is not None and version != self._version:
                if self._version >= 0:
                    self.host.conversations_changed.publish("")
                self._version = version

    def _read(self) -> None:
        """Read anew as many as are shown."""
        count = max(len(self._infos), PAGE)
        found = self.host.guarded(lambda: self.host.store.list(count))
        if found is not None:
            self._infos, self._is_whole = found, len(found) < count
            self._draw()

    @on(OptionRows.NearEnd)
    def _read_on(self, event: OptionRows.NearEnd) -> None:
        if self._is_whole or not self._infos or event.count != self.rows.option_count:
            return
        more = self.host.guarded(lambda: self.host.store.list(PAGE, self._infos[-1]))
        if more is not None:
            last = self._group(self._infos[-1])
            self._infos += more
            self._is_whole = len(more) < PAGE
            self.rows.add_options(self._options(more, last))

    def _draw(self) -> None:
        new = Option(Content.assemble(("+ ", "bold"), "New conversation"), id=NEW)
        self.rows.fill([new, *self._options(self._infos, "")], keep=self.rows.chosen)

    def _options(self, infos: list[ConversationInfo], group: str) -> list[Option]:
        """A row each, under the days; `group` is the one whose heading stands above already."""
        current = self.host.talk.conversation
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

    # What keys do

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
        """Type another name."""
        info = self._chosen
        if info is not None:
            line = self.query_one(NewName)
            self._renaming, line.value, line.display = info.id, sanitize_line(info.title), True
            line.focus()

    @on(Input.Submitted)
    def _renamed(self, event: Input.Submitted) -> None:
        event.stop()
        if self._do(lambda: self.host.store.rename(self._renaming, event.value), self._renaming):
            self.query_one(NewName).action_close()

    def action_pin_conversation(self) -> None:
        """To the top, or from there."""
        info = self._chosen
        if info is not None:
            self._do(lambda: self.host.store.pin(info.id, not info.pinned), info.id)

    def action_delete_conversation(self) -> None:
        """Out of the list, as long as nobody wants it back."""
        info = self._chosen
        if info is None:
            return
        below = self._below(info)
        if not self._do(lambda: self.host.store.delete(info.id), info.id):
            return
        self._deleted.append(info.id)
        current = self.host.talk.conversation
        if current is not None and current.id == info.id:
            self._left = info.id
            self.host.new_conversation()
        self._move_to(below)
        back = self.host.key("undelete_conversation")
        self.host.say(f"Deleted '{sanitize_line(info.title, 40)}'. {back} in the list brings it back.")

    def action_undelete_conversation(self) -> None:
        """Bring back what was deleted last, here or before."""
        store = self.host.store
        if not self._deleted:
            self._deleted = [info.id for info in (self.host.guarded(store.deleted) or [])[:1]]
        if not self._deleted:
            self.host.say("Nothing was deleted.", "warning")
            return
        back = self._deleted.pop()
        if self._do(lambda: store.undelete(back), back):
            if back == self._left and not self.host.talk.path:
                # Nothing was begun since in its place.
                self.host.open_conversation(back)
            self._move_to(back)

    def _do(self, work: Callable[[], None], conversation: str) -> bool:
        """Change something and tell everyone; False where it could not be done, which is said."""

        def done() -> bool:
            work()
            return True

        if not self.host.guarded(done):
            return False
        self.host.conversations_changed.publish(conversation)
        return True

    def _below(self, info: ConversationInfo) -> str | None:
        place = self._infos.index(info)
        near = [*self._infos[place + 1 : place + 2], *self._infos[max(0, place - 1) : place]]
        return near[0].id if near else None

    def _move_to(self, conversation: str | None) -> None:
        rows = self.rows
        if conversation is not None and any(info.id == conversation for info in self._infos):
            rows.highlighted = rows.get_option_index(conversation)
        rows.focus()
