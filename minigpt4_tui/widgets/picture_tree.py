"""A tree of folders and pictures, read as it is opened; typing in it asks for a filter."""

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

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

CHOSEN, NOT_CHOSEN = "● ", "  "


@dataclass(frozen=True)
class Entry:
    """What a line of the tree stands for; a note is only there to be read."""

    path: Path
    kind: Literal["folder", "picture", "above", "note"]
    label: str


class PictureTree(Tree[Entry]):
    """Lines are chosen with space or a click on their mark; what Enter means the screen decides."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings_of("picker"),
        Binding("right", "open_folder", show=False),
        Binding("left", "close_folder", show=False),
        Binding("backspace", "erase", show=False),
    ]

    @dataclass
    class Typed(Message):
        """Letters for the filter; none: take the last one away."""

        letters: str

    @dataclass
    class Pasted(Message):
        """Text was pasted, or a file dropped."""

        text: str

    @dataclass
    class Above(Message):
        """The folder above is wanted."""

    @dataclass
    class Chose(Message):
        """A picture was chosen, or is no more."""

        path: Path

    @dataclass
    class Taken(Message):
        """Enter, or a double click, on a picture: the person is done."""

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
    def highlighted(self) -> Entry | None:
        """What the cursor is on."""
        return self.cursor_node.data if self.cursor_node is not None else None

    def action_select_picture(self) -> None:
        """Choose the picture under the cursor, or let it go; open or close a folder."""
        node = self.cursor_node
        if node is None or node.data is None:
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
            self.post_message(self.Chose(path))

    def action_open_folder(self) -> None:
        """Open the folder, or go into an open one."""
        node = self.cursor_node
        if node is not None and node.allow_expand and not node.is_expanded:
            node.expand()
        else:
            self.action_cursor_down()

    def action_close_folder(self) -> None:
        """Close the folder that the cursor is on or in; at the top, show the folder above."""
        node = self.cursor_node
        if node is None or node.parent is None:
            self.post_message(self.Above())
        elif node.is_expanded and node.allow_expand:
            node.collapse()
        elif node.parent.is_root:
            self.post_message(self.Above())
        else:
            self.move_cursor(node.parent)

    def action_erase(self) -> None:
        """Take the last letter of the filter away, or go to the folder above."""
        self.post_message(self.Typed(""))

    def on_key(self, event: events.Key) -> None:
        """Letters are for the filter, unless they were made keys of something else."""
        if event.is_printable and event.character and event.key not in self.screen.active_bindings:
            event.stop()
            self.post_message(self.Typed(event.character))

    def on_paste(self, event: events.Paste) -> None:
        """What is dropped here may be the picture itself."""
        event.stop()
        self.post_message(self.Pasted(event.text.strip()))

    async def on_click(self, event: events.Click) -> None:
        """A click shows the picture, on its mark chooses it, twice takes it; folders open and close."""
        event.prevent_default()
        line = event.style.meta.get("line")
        node = self.get_node_at_line(line) if isinstance(line, int) else None
        if node is None or node.data is None:
            return
        self.move_cursor(node)
        if node.data.kind in ("folder", "above"):
            await self.run_action("select_cursor")
        elif node.data.kind == "picture" and event.chain > 1:
            self.post_message(self.Taken(node.data.path))
        elif event.x <= self._mark_column(node):
            self.action_select_picture()

    @on(Tree.NodeSelected)
    def _selected(self, event: Tree.NodeSelected[Entry]) -> None:
        event.stop()
        match event.node.data:
            case Entry(_, "above", _):
                self.post_message(self.Above())
            case Entry(path, "picture", _):
                self.post_message(self.Taken(path))

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
        # So that the cursor's next place is another one, and is told, even on the same line.
        self.cursor_line = -1

    def _read(self, node: TreeNode[Entry], folder: Path) -> None:
        filled = self._filled

        def then(found: Listing) -> None:
            # The tree may show another folder by now.
            if filled == self._filled and not any(
                child.data and child.data.kind != "above" for child in node.children
            ):
                self._put(node, folder, found)

        cast("MiniGPT4App", self.app).in_background(lambda: listing(folder), then)

    def _put(self, node: TreeNode[Entry], folder: Path, found: Listing) -> None:
        for path in found.folders:
            self._add(node, Entry(path, "folder", path.name))
        for path in found.pictures:
            self._add(node, Entry(path, "picture", path.name))
        note = found.problem
        if found.left_out:
            note = f"… {found.left_out:,} more: type a part of the name"
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
        children = [child for child in self.root.children if child.data is not None]
        kinds = ("picture", "folder", "above")
        for kind in kinds:
            first = next((child for child in children if child.data and child.data.kind == kind), None)
            if first is not None:
                self.call_after_refresh(self.move_cursor, first)
                return

    def _mark_column(self, node: TreeNode[Entry]) -> int:
        depth = 0
        while node.parent is not None:
            node, depth = node.parent, depth + 1
        return max(depth - 1, 0) * self.guide_depth + len(CHOSEN) - 1
