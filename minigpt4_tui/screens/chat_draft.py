"""The next question on the chat screen: its pictures are opened in the background, and it waits for them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from textual import on

from minigpt4.tui.conversation.draft import DraftPicture, HeldQuestion, opened
from minigpt4.tui.conversation.updates import PathOpened, Update
from minigpt4.tui.history.store import StoredPicture
from minigpt4.tui.images.attachments import Attachment, attachments_in, is_folder, names_files, names_folder
from minigpt4.tui.screens.chat_view import ChatView
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.composer import Composer, looks_dropped

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App

OPENED_AT_ONCE = 4
"""Pictures decoded at the same time: each may take 256 MB."""


class ChatDraft(ChatView):
    """Attaching pictures, and sending the question once all of them are open."""

    def __init__(self, host: MiniGPT4App) -> None:
        super().__init__(host)
        self._opening = threading.BoundedSemaphore(OPENED_AT_ONCE)

    # Pictures

    def attach(self, sources: Iterable[Attachment | Path | StoredPicture]) -> None:
        """Add pictures to the next question, in this order; each has a chip at once, and is opened behind it.

        A folder opens the picker there.
        """
        folders = []
        for source in sources:
            if isinstance(source, StoredPicture):
                self.draft.add(source.name, source)
                continue
            one = Attachment(source, str(source)) if isinstance(source, Path) else source
            if isinstance(one.source, Path) and is_folder(one.source):
                folders.append(one.source)
            else:
                self._open(self.draft.add(one.name, source=one), one)
        self.footer.show_draft()
        if folders:
            self.pick_in(folders[0])
        if len(folders) > 1:
            self.host.say(
                f"Only '{folders[0]}' is shown; open '{folders[1]}' with /image when you are done.", "warning"
            )

    def attach_text(self, text: str) -> bool:
        """Attach the files that a dropped or pasted text names; False if it names none."""
        if not (looks_dropped(text) and (names_files(text) or names_folder(text))):
            return False
        self.attach(attachments_in(text))
        return True

    def pick_in(self, folder: Path | None = None) -> None:
        """Choose pictures from a folder; without one, from the last."""
        from minigpt4.tui.screens.picker import PickerScreen

        self.host.push_screen(PickerScreen(folder), lambda chosen: self.attach(chosen or []))

    def paste_text(self, text: str) -> None:
        """Attach the files that a pasted text names, or type it into the composer."""
        if not self.attach_text(text):
            self.composer.type(text)

    def action_pick_picture(self) -> None:
        """Choose pictures from a folder."""
        self.pick_in()

    def action_paste(self) -> None:
        """Attach the clipboard's image; if it has none, insert its text."""
        from minigpt4.tui.images.clipboard import ClipboardError, clipboard_image, clipboard_text

        picture = self.draft.add("clipboard")

        def read() -> tuple[StoredPicture, tuple[str, ...]] | str:
            try:
                content = clipboard_image()
            except ClipboardError:
                with suppress(ClipboardError):
                    if text := self.host.clipboard or clipboard_text():
                        return text
                raise
            return self._keep(Attachment(content, "clipboard"))

        def insert(found: tuple[StoredPicture, tuple[str, ...]] | str) -> None:
            if not isinstance(found, str):
                self._opened(picture, *found)
                return
            if self._holds(picture):
                # It belongs to the question that was sent after the key was pressed.
                self.action_take_back()
            self._remove(picture)
            self.paste_text(found)

        def failed(error: Exception) -> None:
            if isinstance(error, ClipboardError) and not self._holds(picture):
                self._remove(picture)
                self.host.say(str(error), "warning")
            else:
                self._failed(picture, error)

        self.host.in_background(read, insert, failed)
        self.footer.show_draft()

    @on(Composer.FilesDropped)
    def _dropped(self, event: Composer.FilesDropped) -> None:
        self.paste_text(event.text)

    @on(Chip.Removed)
    def _chip_removed(self, event: Chip.Removed) -> None:
        self._remove(event.picture)

    @on(Chip.Zoomed)
    def _chip_zoomed(self, event: Chip.Zoomed) -> None:
        if event.picture.stored is not None:
            self._zoom(self.footer.pictures, event.picture.stored)
        elif event.picture.problem:
            self.host.say(event.picture.problem, "error")

    def _zoom(self, pictures: Sequence[StoredPicture], first: StoredPicture) -> None:
        from minigpt4.tui.screens.zoom import ZoomScreen

        self.host.push_screen(ZoomScreen(pictures, pictures.index(first)))

    def _open(self, picture: DraftPicture, source: Attachment) -> None:
        self.host.in_background(
            lambda: self._keep(source),
            lambda kept: self._opened(picture, *kept),
            lambda error: self._failed(picture, error),
        )

    def _keep(self, source: Attachment) -> tuple[StoredPicture, tuple[str, ...]]:
        """On a background thread: read, hash, decode and store an image, each once."""
        from minigpt4.tui.images.preview import remember

        with self._opening:
            picture = source.open()
            stored = self.host.store.keep_picture(picture, source.name)
            remember(stored.path, picture, self.host.settings.bundle)
            return stored, picture.info.notices

    def _opened(self, picture: DraftPicture, stored: StoredPicture, notices: Sequence[str]) -> None:
        if picture in self.draft.all_pictures:
            picture.stored = stored
            for notice in notices:
                self.host.say(notice, "warning")
            self._settle()

    def _failed(self, picture: DraftPicture, error: Exception) -> None:
        from minigpt4.tui.terminal.messages import sentence

        if picture not in self.draft.all_pictures:
            return
        picture.problem = sentence(error)
        if not self._holds(picture):
            self.host.say(picture.problem, "error")
        self._settle()

    def _remove(self, picture: DraftPicture) -> None:
        self.draft.remove(picture)
        self._settle()

    def _holds(self, picture: DraftPicture) -> bool:
        return self.draft.held is not None and picture in self.draft.held.pictures

    # The question

    def submit(self, text: str, typed: str, pictures: Sequence[Attachment] = ()) -> None:
        """Ask a question about the pictures attached so far, then `pictures`, once all of them are open.

        `typed` is removed from the composer. If the question cannot be sent, now or later, its text returns
        there and its pictures stay attached.
        """
        if self.draft.held is not None:
            key = self.host.key("stop")
            self.host.say(f"A question waits for its pictures already; {key} takes it back.", "warning")
        elif self.may_ask():
            self.attach(pictures)
            self.draft.hold(text, self._conversation_id)
            self.composer.take(typed)
            self._settle()

    def may_ask(self) -> bool:
        """Whether a new answer can be started; shows the reason if not."""
        if self.conversation.answering is not None:
            self.host.say(f"An answer is being written; {self.host.key('stop')} stops it.", "warning")
            return False
        return self.host.ready_engine()

    def action_take_back(self) -> None:
        """Return the question that waits for its pictures to the composer."""
        self.footer.take_back()

    def show_update(self, update: Update) -> None:
        """Draw an update; a question that waits in a conversation that is left returns to the composer."""
        held = self.draft.held
        if isinstance(update, PathOpened) and held and held.conversation != self._conversation_id:
            self.action_take_back()
        super().show_update(update)

    @property
    def _conversation_id(self) -> str | None:
        return self.conversation.info.id if self.conversation.info is not None else None

    def _settle(self) -> None:
        """Send the held question if all its pictures are open; if one failed, return it to the composer."""
        held = self.draft.held
        if held is not None and not held.opening:
            if failed := held.unreported:
                self._hold_back(failed)
            elif self.may_ask() and self._ask(held):
                self.draft.held = None
            else:
                self.action_take_back()
        self.footer.show_draft()

    def _ask(self, held: HeldQuestion) -> bool:
        from minigpt4.tui.images.question import NO_PICTURE

        is_first = not self.conversation.path
        asked = self.host.guarded(lambda: self.conversation.ask(held.text, opened(held.pictures)))
        if asked is not None and is_first and not asked.pictures:
            self.host.say(f"{NO_PICTURE}; {self.host.key('pick_picture')} adds one.", "warning")
        return asked is not None

    def _hold_back(self, failed: Sequence[DraftPicture]) -> None:
        self.action_take_back()
        for picture in failed:
            picture.is_reported = True
        which = "this picture" if len(failed) == 1 else f"these {len(failed)} pictures"
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        self.host.say(
            f"{failed[0].problem}{more} The question was not sent; Enter sends it without {which}.", "error"
        )
