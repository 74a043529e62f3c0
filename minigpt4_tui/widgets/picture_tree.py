"""A tree of folders and images, read as it is expanded; typed letters are passed on as a filter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from rich.text import Text
from textual import events, on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Tree
from textual.widgets.tree import TreeNode

from minigpt4.tui.images.browse import Listing, listing
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.waiting_keys import WaitingKeys

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

CHOSEN, NOT_CHOSEN = "● ", "  "


@dataclass(frozen=True)
class Entry:
    """The data of a line of the tree; a note cannot be selected."""

    path: Path
    kind: Literal["folder", "picture", "above", "note"]
    label: str


class PictureTree(WaitingKeys, Tree[Entry]):
    """Images are selected with Space or a click on their mark, and accepted with Enter or a double click."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings_of("picker"),
        Binding("right", "open_folder", show=False),
        Binding("left", "close_folder", show=False),
        Binding("backspace", "erase", show=False),
    ]

    @dataclass
    class Typed(Message):
        """Letters for the filter; an empty text deletes the last one."""

        letters: str

    @dataclass
    class Pasted(Message):
        """Text was pasted or a file dropped."""

        text: str

    @dataclass
    class Above(Message):
        """The parent folder should be shown."""

    @dataclass
    class SelectionChanged(Message):
        """An image was selected or deselected."""

    @dataclass
    class Accepted(Message):
        """Enter or a double click on an image: the choice is made."""

        path: Path

    def __init__(self) -> None:
        super().__init__("")
        self.show_root = False
        self.guide_depth = 2
        self.chosen: dict[Path, None] = {}
        self._filled = 0

    def fill(self, folder: Path) -> None:
        """Show a folder."""
        self._begin()
        self.root.add_leaf(Text("↑ .."), Entry(folder.parent, "above", ".."))
        self._read(self.root, folder)

    def fill_with(self, entries: Iterable[Entry], note: str) -> None:
        """Show entries from anywhere, and a note below them."""
        self._begin()
        for entry in entries:
            self._add(self.root, entry)
        if note:
            self._add(self.root, Entry(Path(), "note", note))
        self._to_first_picture()

    @property
    def highlighted_picture(self) -> Path | None:
        """The image under the cursor."""
        entry = self.cursor_node.data if self.cursor_node is not None else None
        return entry.path if entry is not None and entry.kind == "picture" else None

    def action_select_picture(self) -> None:
        """Select or deselect the image under the cursor; expand or collapse a folder."""
        node = self.cursor_node
        if self.waits("select_picture") or node is None or node.data is None:
            return
        if node.data.kind == "folder":
            node.toggle()
        elif node.data.kind == "picture":
            path = node.data.path
            if path in self.chosen:
                del self.chosen[path]
            else:
                self.chosen[path] = None
            node.set_label(self._label(node.data))
            self.post_message(self.SelectionChanged())

    def action_cursor_down(self) -> None:
        """Move down, once the lines are there."""
        if not self.waits("cursor_down"):
            super().action_cursor_down()

    def action_cursor_up(self) -> None:
        """Move up, once the lines are there."""
        if not self.waits("cursor_up"):
            super().action_cursor_up()

    def action_select_cursor(self) -> None:
        """Accept the image, once the lines are there; open a folder."""
        if not self.waits("select_cursor"):
            super().action_select_cursor()

    def action_open_folder(self) -> None:
        """Expand the folder; move down if it is expanded."""
        node = self.cursor_node
        if node is not None and node.allow_expand and not node.is_expanded:
            node.expand()
        else:
            self.action_cursor_down()

    def action_close_folder(self) -> None:
        """Collapse the folder that the cursor is on or in; at the top, show the parent folder."""
        node = self.cursor_node
        if node is not None and node.is_expanded and node.allow_expand:
            node.collapse()
        elif node is None or node.parent is None or node.parent.is_root:
            self.post_message(self.Above())
        else:
            self.move_cursor(node.parent)

    def action_erase(self) -> None:
        """Delete the last letter of the filter, or go to the parent folder."""
        self.post_message(self.Typed(""))

    def on_key(self, event: events.Key) -> None:
        """Pass letters on to the filter, unless they are bound to an action."""
        if event.is_printable and event.character and event.key not in self.screen.active_bindings:
            event.stop()
            self.post_message(self.Typed(event.character))

    def on_resize(self) -> None:
        """Keep the cursor in view when the window loses height."""
        self.call_after_refresh(lambda: self.scroll_to_line(max(self.cursor_line, 0), animate=False))

    def on_paste(self, event: events.Paste) -> None:
        """Pass pasted text on; it may be the path of a dropped file."""
        event.stop()
        self.post_message(self.Pasted(event.text.strip()))

    async def on_click(self, event: events.Click) -> None:
        """Highlight an image, select it (on its mark) or accept it (twice); expand or collapse a folder."""
        event.prevent_default()
        line = event.style.meta.get("line")
        node = self.get_node_at_line(line) if isinstance(line, int) else None
        if node is None or node.data is None:
            return
        self.move_cursor(node)
        if node.data.kind in ("folder", "above"):
            await self.run_action("select_cursor")
        elif node.data.kind == "picture" and event.chain > 1:
            self.post_message(self.Accepted(node.data.path))
        elif event.x <= self._mark_column(node):
            self.action_select_picture()

    @on(Tree.NodeSelected)
    def _selected(self, event: Tree.NodeSelected[Entry]) -> None:
        event.stop()
        match event.node.data:
            case Entry(_, "above", _):
                self.post_message(self.Above())
            case Entry(path, "picture", _):
                self.post_message(self.Accepted(path))

    @on(Tree.NodeExpanded)
    def _expanded(self, event: Tree.NodeExpanded[Entry]) -> None:
        event.stop()
        node = event.node
        if node.data is not None and node.data.kind == "folder" and not node.children:
            self._read(node, node.data.path)

    def _begin(self) -> None:
        self._filled += 1
        self.clear()
        self.root.expand()
        # So that moving the cursor to the same line again counts as a change.
        self.cursor_line = -1
        self.is_awaited = True

    def _read(self, node: TreeNode[Entry], folder: Path) -> None:
        filled = self._filled

        def show(found: Listing) -> None:
            # The tree may show another folder by now.
            if filled == self._filled and not any(
                child.data and child.data.kind != "above" for child in node.children
            ):
                self._put(node, folder, found)

        cast("MiniGPT4App", self.app).in_background(lambda: listing(folder), show)

    def _put(self, node: TreeNode[Entry], folder: Path, found: Listing) -> None:
        for path in found.folders:
            self._add(node, Entry(path, "folder", path.name))
        for path in found.pictures:
            self._add(node, Entry(path, "picture", path.name))
        note = found.problem
        if found.omitted:
            note = f"… {found.omitted:,} more: type a part of the name"
        elif not (note or found.folders or found.pictures):
            note = "no pictures here"
        if note:
            self._add(node, Entry(folder, "note", note))
        if node.is_root:
            self._to_first_picture()

    def _add(self, node: TreeNode[Entry], entry: Entry) -> None:
        if entry.kind == "folder":
            node.add(self._label(entry), entry)
        else:
            node.add_leaf(self._label(entry), entry)

    def _label(self, entry: Entry) -> Text:
        name = sanitize_line(entry.label)
        if entry.kind == "picture":
            return Text((CHOSEN if entry.path in self.chosen else NOT_CHOSEN) + name)
        return Text(name, style="italic dim" if entry.kind == "note" else "bold")

    def _to_first_picture(self) -> None:
        for kind in ("picture", "folder", "above"):
            for child in self.root.children:
                if child.data and child.data.kind == kind:
                    self.call_after_refresh(self._begin_at, child, self._filled)
                    return
        self._begin_at(None, self._filled)

    def _begin_at(self, node: TreeNode[Entry] | None, filled: int) -> None:
        """Put the cursor on the node, and carry out the actions that have waited."""
        if filled != self._filled:
            return
        if node is not None:
            self.move_cursor(node)
        self.release()

    def _mark_column(self, node: TreeNode[Entry]) -> int:
        depth = 0
        while node.parent is not None:
            node, depth = node.parent, depth + 1
        return max(depth - 1, 0) * self.guide_depth + len(CHOSEN) - 1
