"""The image picker: a tree of folders and images, a filter, and a preview."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.content import Content
from textual.timer import Timer
from textual.widgets import Static, Tree

from minigpt4.core.storage.working_folder import working_folder
from minigpt4.tui.images.attachments import attachments_in, complete_path, names_files
from minigpt4.tui.images.browse import Found, search_below
from minigpt4.tui.images.drawing import View
from minigpt4.tui.screens.dialog import Overlay, hints
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.key_line import KeyLine, action_link
from minigpt4.tui.widgets.picture import PictureArea
from minigpt4.tui.widgets.picture_tree import Entry, PictureTree

PREVIEW_DELAY_S = 0.1
"""Seconds for which the cursor must stay on an image before it is opened."""

NAME_COLUMNS = 78
"""Columns of the previewed image's name: three lines beside the tree."""

MAX_FILTER = 200
MAX_NAMED = 3


class PickerScreen(Overlay[list[Path]]):
    """Returns the chosen files, in the order in which they were chosen; none if it is canceled."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("tab", "complete", show=False)]
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (70, "-wide"), (110, "-broad")]  # noqa: RUF012 (declared so by Textual)
    AUTO_FOCUS = "PictureTree"
    DEFAULT_CSS = """
    PickerScreen {
        align: center middle;
        background: $background 60%;

        #box { width: 90%; max-width: 100; height: 90%; max-height: 34; background: $surface; padding: 1 2; }
        #folder { height: 1; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }
        #filter { height: 1; margin: 1 0; padding: 0 1; background: $panel; text-wrap: nowrap; }
        #both { height: 1fr; }
        PictureTree {
            width: 1fr;
            height: 100%;
            margin-left: 1;
            background: $surface;
            scrollbar-size-horizontal: 0;
        }
        PictureTree:focus { background-tint: $foreground 0%; }
        #look { width: 26; height: 100%; margin-left: 2; }
        #frame { height: 1fr; width: 100%; }
        #about { height: auto; width: 100%; color: $foreground 70%; margin-bottom: 1; }
        #chosen { height: 1; padding: 0 1; margin-top: 1; text-wrap: nowrap; text-overflow: ellipsis; }
        #hint {
            height: 1;
            padding: 0 1;
            margin-top: 1;
            color: $text-muted;
            text-wrap: nowrap;
            text-overflow: ellipsis;
        }

        &.-broad #look { width: 44; }
        &.-narrow #look { display: none; }
        &.-narrow #box { width: 100%; height: 100%; padding: 0 1; }
    }
    """

    start: ClassVar[Path | None] = None
    """The last folder: the next image is often in it too."""

    def __init__(self, folder: Path | None = None) -> None:
        super().__init__()
        self.folder = folder or self._remembered()
        self.letters = ""
        self._search = 0
        self._preview_timer: Timer | None = None

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static(id="folder", markup=False)
            yield Static(id="filter", markup=False)
            with Horizontal(id="both"):
                yield PictureTree()
                with Vertical(id="look"):
                    yield Static(id="about", markup=False)
                    with Container(id="frame"):
                        yield PictureArea()
            yield Static(id="chosen", markup=False)
            yield KeyLine(id="hint")

    def on_mount(self) -> None:
        """Show the folder."""
        self._go(self.folder)
        self._write_chosen()

    @property
    def tree_of_pictures(self) -> PictureTree:
        """The tree."""
        return self.query_one(PictureTree)

    def action_close(self) -> None:
        """Clear the filter; without one, close and choose nothing."""
        if self.letters:
            self._filter("")
        else:
            self._finish([])

    def action_complete(self) -> None:
        """Complete the name of a folder or image to the common prefix of all matches; enter a folder."""
        head = str(self.folder).rstrip("/") + "/"
        whole = os.path.commonprefix(complete_path(head + self.letters))  # noqa: RUF071 (letters are meant)
        if len(whole) > len(head + self.letters):
            self._filter(whole.removeprefix(head))

    @on(PictureTree.Typed)
    def _typed(self, event: PictureTree.Typed) -> None:
        if event.letters:
            self._filter((self.letters + event.letters)[:MAX_FILTER])
        elif self.letters:
            self._filter(self.letters[:-1])
        else:
            self._go(self.folder.parent)

    @on(PictureTree.Pasted)
    def _pasted(self, event: PictureTree.Pasted) -> None:
        if names_files(event.text):
            self._finish([one.source for one in attachments_in(event.text) if isinstance(one.source, Path)])
        elif _folder_in(self.folder, event.text + "/") is not None:
            self._filter(event.text + "/")
        else:
            self._filter((self.letters + event.text)[:MAX_FILTER])

    @on(PictureTree.Above)
    def _above(self) -> None:
        if not self.letters:
            self._go(self.folder.parent)

    @on(PictureTree.Accepted)
    def _accepted(self, event: PictureTree.Accepted) -> None:
        self._finish(list(self.tree_of_pictures.chosen) or [event.path])

    @on(Tree.NodeHighlighted)
    def _highlighted(self) -> None:
        if self._preview_timer is not None:
            self._preview_timer.stop()
        self._preview_timer = self.set_timer(PREVIEW_DELAY_S, self._preview)

    @on(PictureArea.Opened)
    def _opened(self, event: PictureArea.Opened) -> None:
        wide, high = event.pixels
        self._write_about(f"{wide} × {high}")

    @on(PictureArea.Failed)
    def _failed(self) -> None:
        self._write_about("cannot be opened")

    def _go(self, folder: Path) -> None:
        self.folder = PickerScreen.start = folder
        self.letters = ""
        self._search += 1
        self.query_one("#folder", Static).update(
            Content.assemble(
                ("Choose pictures", "bold $text-primary"), "   ", sanitize_line(_with_tilde(folder), 200)
            )
        )
        self._write_filter()
        self.tree_of_pictures.fill(folder)

    def _filter(self, letters: str) -> None:
        folder = _folder_in(self.folder, letters) if letters else self.folder
        if folder is not None:
            self._go(folder)
            return
        self.letters = letters
        self._write_filter()
        self._search += 1
        search, folder = self._search, self.folder
        self.tree_of_pictures.is_awaited = True
        self.host.in_background(
            lambda: search_below(folder, letters, lambda: search != self._search),
            lambda found: self._found(search, found),
        )

    def _found(self, search: int, found: Found) -> None:
        if search != self._search or not self.is_attached:
            return
        note = "" if found.is_all else "… and maybe more: type on"
        if not found.pictures:
            note = "no picture is called that" if found.is_all else "none found among the first thousands"
        entries = [Entry(path, "picture", str(path.relative_to(self.folder))) for path in found.pictures]
        self.tree_of_pictures.fill_with(entries, note)

    def _preview(self) -> None:
        path = self.tree_of_pictures.highlighted_picture
        self.query_one(PictureArea).show(View(path) if path and not self.has_class("-narrow") else None)
        self._write_about("…")

    def _write_about(self, size: str) -> None:
        path = self.tree_of_pictures.highlighted_picture
        text = f"{sanitize_line(path.name, NAME_COLUMNS)}\n{size}" if path else ""
        self.query_one("#about", Static).update(text)

    def _write_filter(self) -> None:
        text = [(sanitize_line(self.letters, 60), "bold"), ("▏", "$primary")]
        if not self.letters:
            text = [("type a part of a name, or a path; Tab completes it", "$foreground 60%")]
        self.query_one("#filter", Static).update(Content.assemble("Find: ", *text))

    @on(PictureTree.SelectionChanged)
    def _write_chosen(self) -> None:
        chosen = list(self.tree_of_pictures.chosen)
        line = self.query_one("#chosen", Static)
        names = ", ".join(sanitize_line(path.name, 30) for path in chosen[:MAX_NAMED])
        more = f" and {len(chosen) - MAX_NAMED} more" if len(chosen) > MAX_NAMED else ""
        line.update(f"{len(chosen)} chosen: {names}{more}" if chosen else "")
        key = self.host.key
        parts = (f"Enter attaches {len(chosen) or ''}".rstrip(), f"{key('select_picture')} marks several")
        leave = action_link(f"{key('close')} closes", "close")
        self.query_one("#hint", Static).update(hints(*parts, "Backspace up", leave))

    def _finish(self, chosen: list[Path]) -> None:
        self._search += 1
        self.dismiss(chosen)

    @classmethod
    def _remembered(cls) -> Path:
        if cls.start is not None and cls.start.is_dir():
            return cls.start
        return working_folder()


def _with_tilde(folder: Path) -> str:
    """The path with ~ for the home folder."""
    try:
        return str(Path("~") / folder.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(folder)


def _folder_in(folder: Path, letters: str) -> Path | None:
    """The folder that a filter ending in a slash names, relative to `folder`; None if there is none."""
    try:
        path = (folder / Path(letters).expanduser()).resolve()
        return path if letters.endswith("/") and path.is_dir() else None
    except (OSError, RuntimeError, ValueError):
        return None
