"""An image on the whole screen, and the model's input made from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from minigpt4.tui.history.records import StoredPicture
from minigpt4.tui.images.drawing import View
from minigpt4.tui.screens.dialog import Overlay, hints
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line
from minigpt4.tui.widgets.key_line import KeyLine, action_link
from minigpt4.tui.widgets.picture import PictureArea, size_of


class ZoomScreen(Overlay[None]):
    """The left and right keys go through all images, starting with the one at `index`."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("zoom")]
    DEFAULT_CSS = """
    ZoomScreen {
        background: $background;

        #room { height: 1fr; width: 100%; align: center middle; padding: 1 2; }
        #error { width: auto; max-width: 60; padding: 1 3; background: $surface; color: $text-error; }
        #error { display: none; }
        #caption { width: 100%; height: auto; text-align: center; padding: 0 2; }
        #keys { width: 100%; height: 1; text-align: center; color: $text-muted; text-wrap: nowrap;
                text-overflow: ellipsis; }
    }
    """

    def __init__(self, pictures: Sequence[StoredPicture], index: int = 0) -> None:
        super().__init__()
        self.pictures = list(pictures)
        self.index = max(0, min(index, len(self.pictures) - 1))
        self.is_model_view = False

    def compose(self) -> ComposeResult:
        with Container(id="room"):
            yield PictureArea()
            yield Static(id="error", markup=False)
        yield Static(id="caption", markup=False)
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Show the first one."""
        self._draw()

    def action_model_view(self) -> None:
        """Switch between the image and the model's input."""
        self.is_model_view = not self.is_model_view
        self._draw()

    def action_next_picture(self) -> None:
        """Go to the next image."""
        self._go(self.index + 1)

    def action_previous_picture(self) -> None:
        """Go to the previous image."""
        self._go(self.index - 1)

    def _go(self, index: int) -> None:
        if 0 <= index < len(self.pictures):
            self.index = index
            self._draw()

    def _draw(self) -> None:
        if not self.pictures:
            return
        picture = self.pictures[self.index]
        area = self.query_one(PictureArea)
        area.display = True
        self.query_one("#error").display = False
        if self.is_model_view:
            area.show(View(picture.path, self.host.settings.bundle))
        else:
            area.show(View(picture.path), (picture.width, picture.height))
        if self.host.settings.images == "off":
            self._show_error("Pictures are not drawn: the setting images is off.")
        self._caption(size_of(picture))
        self._keys()

    def _caption(self, about: str) -> None:
        picture = self.pictures[self.index]
        place = f"{self.index + 1} of {len(self.pictures)}   " if len(self.pictures) > 1 else ""
        # Beside it: the padding, and the spaces before what is said about it.
        name = sanitize_line(picture.name, max(10, self.app.size.width - len(place) - len(about) - 7))
        self.query_one("#caption", Static).update(Content.assemble(place, (name, "bold"), "   ", about))

    def _keys(self) -> None:
        key = self.host.key
        other = "the picture" if self.is_model_view else "what the model sees"
        parts = [action_link(f"{key('model_view')} shows {other}", "model_view")]
        if len(self.pictures) > 1:
            parts.append(action_link(f"{key('previous_picture')} goes back", "previous_picture"))
            parts.append(action_link(f"{key('next_picture')} goes on", "next_picture"))
        leave = action_link(f"{key('close')} closes", "close")
        self.query_one("#keys", Static).update(hints(*parts, leave))

    def _show_error(self, sentence: str) -> None:
        self.query_one(PictureArea).display = False
        error = self.query_one("#error", Static)
        error.update(sanitize(sentence))
        error.display = True

    @on(PictureArea.Opened)
    def _opened(self, event: PictureArea.Opened) -> None:
        if self.is_model_view:
            wide, high = event.pixels
            bundle = sanitize_line(self.host.settings.bundle, 30)
            self._caption(f"as {bundle} sees it: squashed to {wide} × {high}")

    @on(PictureArea.Failed)
    def _failed(self, event: PictureArea.Failed) -> None:
        path = self.pictures[self.index].path
        self._show_error(event.sentence if path.exists() else "The picture's file is gone from the disk.")
