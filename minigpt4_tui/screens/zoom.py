"""An image on the whole screen, and the model's input made from it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Container
from textual.content import Content
from textual.widgets import Static

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.history.records import StoredPicture
from minigpt4.tui.images.boxes import object_list
from minigpt4.tui.images.drawing import View
from minigpt4.tui.screens.dialog import Overlay, hints
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize, sanitize_line
from minigpt4.tui.widgets.key_line import KeyLine, action_link
from minigpt4.tui.widgets.picture import PictureArea, size_of

if TYPE_CHECKING:
    from minigpt4.core.types import FoundObject
    from minigpt4.core.worker.messages import Failed, ObjectsFound


class ZoomScreen(Overlay[None]):
    """The left and right keys go through all images, starting with the one at `index`."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("zoom")]
    DEFAULT_CSS = """
    ZoomScreen {
        background: $background;

        #room { height: 1fr; width: 100%; align: center middle; padding: 1 2; }
        #error { width: auto; max-width: 60; padding: 1 3; background: $surface; color: $text-error; }
        #error { display: none; }
        #caption, #objects { width: 100%; height: auto; text-align: center; padding: 0 2; }
        #objects { display: none; }
        #keys { width: 100%; height: 1; text-align: center; color: $text-muted; text-wrap: nowrap;
                text-overflow: ellipsis; }
    }
    """

    def __init__(self, pictures: Sequence[StoredPicture], index: int = 0) -> None:
        super().__init__()
        self.pictures = list(pictures)
        self.index = max(0, min(index, len(self.pictures) - 1))
        self.is_model_view = False
        self._found: dict[int, tuple[FoundObject, ...]] = {}
        """The objects found so far, by the index of their picture."""
        self._request = ""
        self._model_pixels: tuple[int, int] | None = None

    def compose(self) -> ComposeResult:
        with Container(id="room"):
            yield PictureArea()
            yield Static(id="error", markup=False)
        yield Static(id="caption", markup=False)
        yield Static(id="objects", markup=False)
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Show the image at the start index."""
        self.host.objects_found.subscribe(self, self._objects_found)
        self.host.engine_changed.subscribe(self, self._engine_changed)
        self._draw()

    def on_resize(self) -> None:
        """Fit the list of objects into its lines again."""
        if self.index in self._found:
            self._look_for_objects()

    def _engine_changed(self, _: object) -> None:
        self._found.clear()  # the new engine may have another detector
        self._look_for_objects()

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
            objects = self._found.get(self.index, ())
            area.show(View(picture.path, self.host.settings.bundle, objects), self._model_pixels)
        else:
            area.show(View(picture.path), (picture.width, picture.height))
        if self.host.settings.images == "off":
            self._show_error("Pictures are not drawn: the setting images is off.")
        self._caption(size_of(picture))
        self._look_for_objects()
        self._keys()

    def _look_for_objects(self) -> None:
        """Show the list of the picture's objects, or request it from the engine if there is a detector."""
        self._request = ""
        line = self.query_one("#objects", Static)
        line.display = self.is_model_view and bool(self.pictures) and self._has_detector()
        if not line.display:
            return
        found, engine = self._found.get(self.index), self.host.engine
        bundle = sanitize_line(self.host.settings.bundle, 30)
        if found is not None:
            none = f"{bundle}'s detector finds no object that it knows."
            line.update(object_list(found, self.app.size.width - 4) or none)
        elif engine.state == "dead":
            key = self.host.key("restart_engine")
            line.update(f"Its objects are unknown: no model is running; {key} in the chat starts it.")
        elif engine.options is None or engine.options.bundle != self.host.settings.bundle:
            line.update(f"Its objects are shown once {bundle} is loaded, which your next question does.")
        elif engine.state != "ready":
            line.update("Its objects are shown once the model is loaded.")
        else:
            line.update("Looking for objects…")
            self._request = uuid.uuid4().hex
            self.host.worker.find_objects(self._request, self.pictures[self.index].path)

    def _has_detector(self) -> bool:
        from minigpt4.core.bundles.bundle import load_bundle

        try:
            return load_bundle(self.host.settings.bundle).objects is not None
        except Minigpt4Error:
            return False  # drawing the picture reports what is wrong with it

    def _objects_found(self, event: ObjectsFound | Failed) -> None:
        from minigpt4.core.worker.messages import Failed

        if event.request != self._request:
            return
        if isinstance(event, Failed):
            self.query_one("#objects", Static).update(sanitize(event.sentence))
            return
        self._found[self.index] = event.objects
        self._look_for_objects()
        if event.objects and self.query_one(PictureArea).display:
            view = View(self.pictures[self.index].path, self.host.settings.bundle, event.objects)
            self.query_one(PictureArea).show(view, self._model_pixels, keeps_drawing=True)

    def _caption(self, about: str) -> None:
        picture = self.pictures[self.index]
        place = f"{self.index + 1} of {len(self.pictures)}   " if len(self.pictures) > 1 else ""
        # 7 columns: the padding, and the spaces before `about`.
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
            wide, high = self._model_pixels = event.pixels
            bundle = sanitize_line(self.host.settings.bundle, 30)
            self._caption(f"as {bundle} sees it: {self._fit()} to {wide} × {high}")

    def _fit(self) -> str:
        """How a picture is fitted to the input of the bundle's vision tower."""
        from minigpt4.core.bundles.bundle import load_bundle

        with suppress(Minigpt4Error):
            return load_bundle(self.host.settings.bundle).vision.fit
        return "scaled"

    @on(PictureArea.Failed)
    def _failed(self, event: PictureArea.Failed) -> None:
        self.query_one("#objects").display = False
        path = self.pictures[self.index].path
        self._show_error(event.sentence if path.exists() else "The picture's file is gone from the disk.")
