"""The rows of the list of conversations: title and time, and below them the pictures it is about."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.css.styles import RulesMap
from textual.message import Message
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widgets.option_list import Option

from minigpt4.tui.history.records import ListedConversation
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows

NEW = "new-conversation"
"""The id of the row above all conversations."""

MARK = "● "
"""Precedes the title of the open conversation; the others are indented by its width."""


class ConversationRow(Visual):
    """A conversation on one or two lines, laid out for whatever width the list has."""

    def __init__(self, info: ListedConversation, when: str, *, is_open: bool) -> None:
        self.title = sanitize_line(info.title, 200) or "New conversation"
        self.when = when
        self._pictures = [sanitize_line(name, 200) for name in info.pictures[:1]]
        self._more = f" +{len(info.pictures) - 1}" if len(info.pictures) > 1 else ""
        self._is_open = is_open

    def __str__(self) -> str:
        return self.title

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """The whole width of the container."""
        return container_width

    def get_height(self, rules: RulesMap, width: int) -> int:
        """One line, and one for the pictures."""
        return 1 + len(self._pictures)

    def render_strips(
        self, width: int, height: int | None, style: Style, options: RenderOptions
    ) -> list[Strip]:
        """The lines of the row."""
        return [
            strip for line in self._lines(width) for strip in line.render_strips(width, 1, style, options)
        ]

    def _lines(self, width: int) -> list[Content]:
        mark = Content.styled(MARK, "$primary") if self._is_open else Content(" " * len(MARK))
        when = Content.styled(f" {self.when}", "dim")
        space = max(width - len(MARK) - when.cell_length, 1)
        title = Content.styled(self.title, "bold" if self._is_open else "")
        lines = [mark + title.truncate(space, ellipsis=True, pad=True) + when]
        for name in self._pictures:
            shown = Content(name).truncate(max(width - len(MARK) - len(self._more), 1), ellipsis=True)
            lines.append(Content.styled(f"{' ' * len(MARK)}{shown.plain}{self._more}", "dim"))
        return lines


class ConversationList(OptionRows):
    """Conversations under the headings of their days; typed letters are passed on as a filter."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("backspace", "erase", show=False)]

    @dataclass
    class Typed(Message):
        """Letters for the filter; an empty text deletes the last one."""

        letters: str

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        self._heading = ""

    def show(
        self, infos: Iterable[ListedConversation], current: str, *, offers_new: bool, keep: str | None = None
    ) -> None:
        """Replace the rows; `current` is the open conversation, `keep` the one for the cursor."""
        self._heading = ""
        new = [Option(Content.assemble(("+ ", "bold"), "New conversation"), id=NEW)] if offers_new else []
        self.fill([*new, *self._rows(infos, current, is_first=not new)], keep=keep or self.chosen)

    def extend(self, infos: Iterable[ListedConversation], current: str) -> None:
        """Add rows at the end."""
        self.add_options(self._rows(infos, current, is_first=False))

    def action_erase(self) -> None:
        """Delete the last letter of the filter."""
        self.post_message(self.Typed(""))

    def on_key(self, event: events.Key) -> None:
        """Pass letters on to the filter, unless they are bound to an action."""
        if event.is_printable and event.character and event.key not in self.screen.active_bindings:
            event.stop()
            self.post_message(self.Typed(event.character))

    def on_resize(self) -> None:
        """Keep the cursor visible: the keys below take lines from the list when it gets the focus."""
        self.call_after_refresh(self.scroll_to_highlight)

    def line_of(self, conversation: str) -> int | None:
        """The first line of a conversation's row, from the top of the visible part; None if not listed."""
        if not self.lists(conversation):
            return None
        # A list that was shown a moment ago is not laid out yet.
        line = self._index_to_line.get(self.get_option_index(conversation))
        return None if line is None else line - round(self.scroll_y)

    def lists(self, conversation: str) -> bool:
        """Whether the conversation has a row."""
        return conversation in self._id_to_option

    def _rows(self, infos: Iterable[ListedConversation], current: str, *, is_first: bool) -> list[Option]:
        rows: list[Option] = []
        for info in infos:
            heading, when = heading_and_time(info)
            if heading != self._heading:
                above = "" if is_first and not rows else "\n"
                rows.append(Option(Content.assemble(f"{above}  ", (heading, "bold")), disabled=True))
                self._heading = heading
            rows.append(Option(ConversationRow(info, when, is_open=info.id == current), id=info.id))
        return rows


def heading_and_time(info: ListedConversation) -> tuple[str, str]:
    """The heading of a conversation's group, and when it was last changed.

    The time is as short as the heading allows: the time of day, or the day, or the day with its year.
    """
    moment = time.localtime(info.updated)
    day, today = datetime.date.fromtimestamp(info.updated), datetime.date.today()
    age = (today - day).days
    clock = time.strftime("%H:%M", moment)
    date = f"{day.day} {day:%b}" if day.year == today.year else f"{day.day} {day:%b %Y}"
    if info.pinned:
        return "Pinned", clock if age <= 0 else "yesterday" if age == 1 else date
    if age <= 1:
        return "Yesterday" if age == 1 else "Today", clock
    if age < 7:
        return "Last seven days", date
    return day.strftime("%B %Y"), f"{day.day} {day:%b}"
