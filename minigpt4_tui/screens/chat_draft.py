"""The next question on the chat screen: its pictures are opened in the background, and it waits for them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from textual import on
from textual.css.query import NoMatches
from textual.timer import Timer
from textual.widgets import TextArea

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.conversation.draft import Draft, DraftPicture, HeldQuestion, opened
from minigpt4.tui.conversation.drafts import NEW, Drafts
from minigpt4.tui.conversation.updates import MessageAdded, PathOpened, PhaseChanged, Update
from minigpt4.tui.history.store import StoredPicture, StoreError
from minigpt4.tui.images.attachments import Attachment, attachments_in, is_folder, names_files, names_folder
from minigpt4.tui.screens.chat_view import ChatView
from minigpt4.tui.widgets.chips import Chip
from minigpt4.tui.widgets.composer import Composer, looks_dropped

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App
    from minigpt4.tui.widgets.picture import LargePhoto

OPENED_AT_ONCE = 4
"""Pictures decoded at the same time: each may take 256 MB."""

SAVE_S = 0.4
"""Maximum seconds of typing that a killed process loses."""


class ChatDraft(ChatView):
    """Attaching pictures, and sending the question once all of them are open."""

    def __init__(self, host: MiniGPT4App) -> None:
        super().__init__(host)
        self._opening = threading.BoundedSemaphore(OPENED_AT_ONCE)
        store = host.store
        self._drafts = Drafts(store.file.parent / "drafts", self.history, store.picture_path)
        self._drafted_in = NEW
        self._saving: Timer | None = None
        self._edited = ""
        self._returned_line = ""

    # Pictures

    def attach(
        self, sources: Iterable[Attachment | Path | StoredPicture], *, by_command: bool = False
    ) -> None:
        """Add pictures to the next question, in this order; each has a chip at once, and is opened later.

        A folder opens the picker there. `by_command`: they come from an /image line, restored if one fails.
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
                picture = self.draft.add(one.name, source=one)
                picture.is_by_command = by_command
                self._open(picture, one)
        self.footer.show_draft()
        self._note_draft()
        if folders:
            self.call_after_refresh(self.pick_in, folders[0])
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
        """Choose pictures from a folder, by default the last one."""
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

        self.composer.focus()
        picture = self.draft.add("clipboard")

        def read() -> tuple[StoredPicture, tuple[str, ...]] | str:
            try:
                content = clipboard_image()
            except ClipboardError:
                with suppress(ClipboardError):
                    if text := self.host.clipboard or clipboard_text():
                        return text
                raise
            return self._keep(Attachment(content, "clipboard"), "clipboard")

        def insert(found: tuple[StoredPicture, tuple[str, ...]] | str) -> None:
            if not isinstance(found, str):
                self._opened(picture, *found)
                return
            for held in self.draft.held:
                if picture in held.pictures:
                    # It belongs to the question that was sent after the key was pressed.
                    self.footer.take_back(held)
                    break
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

    def on_large_photo_zoomed(self, event: LargePhoto.Zoomed) -> None:
        """Enlarge the photo of an empty conversation; the draft's others can be reached from it."""
        self._zoom(self.footer.pictures, event.picture)

    def _zoom(self, pictures: Sequence[StoredPicture], first: StoredPicture) -> None:
        from minigpt4.tui.screens.zoom import ZoomScreen

        self.host.push_screen(ZoomScreen(pictures, pictures.index(first)))

    def _open(self, picture: DraftPicture, source: Attachment) -> None:
        self.host.in_background(
            lambda: self._keep(source, picture.name),
            lambda kept: self._opened(picture, *kept),
            lambda error: self._failed(picture, error),
        )

    def _keep(self, source: Attachment, name: str) -> tuple[StoredPicture, tuple[str, ...]]:
        """Read, hash, decode and store an image, each once; call it on a background thread."""
        from minigpt4.tui.images.preview import remember

        with self._opening:
            picture = source.open()
            stored = self.host.store.keep_picture(picture, name)
            settings = self.host.settings
            remember(stored.path, picture, settings.bundle if settings.cache else None)
            return stored, picture.info.notices

    def _opened(self, picture: DraftPicture, stored: StoredPicture, notices: Sequence[str]) -> None:
        picture.stored = stored
        if picture in self.draft.all_pictures:
            for notice in notices:
                self.host.say(f"{picture.name}: {notice}", "warning")
            self._settle()

    def _failed(self, picture: DraftPicture, error: Exception) -> None:
        from minigpt4.tui.terminal.messages import sentence

        picture.problem = sentence(error)
        if picture not in self.draft.all_pictures:
            return
        if not self._holds(picture):
            self.host.say(picture.problem, "error")
            if picture.is_by_command and picture.source is not None:
                self._return_command(picture, picture.source)
        self._settle()

    def _return_command(self, picture: DraftPicture, source: Attachment) -> None:
        """Restore the /image line of a picture that failed; via Up if something was typed since."""
        path = source.label if source.label.isprintable() and " " not in source.label else quote(source.label)
        text = self.composer.text
        if text and text != self._returned_line:
            self.history.keep(f"/image {path}")
        else:
            self.draft.remove(picture)
            self._returned_line = f"{text or '/image'} {path}"
            self.composer.replace_text(self._returned_line)

    def _remove(self, picture: DraftPicture) -> None:
        self.draft.remove(picture)
        self._drafts.remove(picture)
        self._settle()

    def _holds(self, picture: DraftPicture) -> bool:
        return any(picture in one.pictures for one in self.draft.held)

    # The question

    def submit(
        self,
        text: str,
        typed: str,
        pictures: Sequence[Attachment] = (),
        *,
        editing: str | None = None,
        max_tokens: int | None = None,
    ) -> None:
        """Ask a question about the pictures attached so far, then `pictures`, once all of them are open.

        It replaces the question with the id `editing`, whose pictures come before these. It waits for the
        answer that is being written, and for questions that wait already. `typed` is removed from
        the composer. If the question cannot be sent, now or later, it stays above the composer or returns
        there, with its pictures.
        """
        if self.conversation.answering is not None or self.draft.held or self.may_ask():
            self.attach(pictures)
            self.draft.hold(text, editing, max_tokens, typed=typed.strip(), named=len(pictures))
            if not self.footer.leave_editing(typed):
                self.composer.take(typed)
            self._settle()

    def may_ask(self) -> bool:
        """Whether a new answer can be started; shows the reason if not."""
        if self.conversation.answering is not None:
            self.host.say(f"An answer is being written; {self.host.key('stop')} stops it.", "warning")
            return False
        return self.host.ready_engine()

    def action_take_back(self) -> None:
        """Return the last question that waits to the composer."""
        self.footer.take_back()

    def action_send_held(self) -> None:
        """Send the questions that wait because the answer before them failed or was stopped."""
        if self.draft.is_paused and self.may_ask():
            self.draft.is_paused = False
            self._settle()

    @property
    def _conversation_id(self) -> str:
        return self.conversation.info.id if self.conversation.info is not None else NEW

    # The drafts of all conversations

    def show_update(self, update: Update) -> None:
        """Draw an update; with another conversation, show its own draft."""
        if self.is_running and not self.host.is_leaving:
            match update:
                case PathOpened() if self._drafted_in != self._conversation_id:
                    self._change_draft()
                case MessageAdded():
                    self._drafted_in = self._conversation_id
                case PhaseChanged(None):
                    # Later: the conversation first sends further updates about the answer's end.
                    self.call_later(self._answer_ended)
        super().show_update(update)

    def restore_drafts(self, *, is_wanted: bool) -> None:
        """Take over the drafts of instances that have ended; show that of a new chat if it `is_wanted`."""
        try:
            problems = self._drafts.take_over(self.host.store.taken)
        except (OSError, Minigpt4Error) as error:
            self.host.say(f"Unsent questions from before cannot be read: {error}", "warning")
            return
        for problem in problems:
            self.host.say(problem, "warning")
        if is_wanted and self.draft.is_empty and not self.composer.text:
            self._show_draft(self._drafts.take_out(NEW))
            if not self.draft.is_empty:
                self.host.say("The question that you had not sent is back; Ctrl+C puts it aside.")

    def save_drafts(self, *, is_last: bool = False) -> None:
        """Save all drafts now. The last time, pictures without any text are not kept."""
        # After a crash the composer is gone, but the draft has its last text.
        with suppress(NoMatches):
            self.draft.text, self._edited = self.footer.typed
        shown = Draft() if is_last and not self.draft.whole_text.strip() else self.draft
        self._drafts.note(self._drafted_in, shown, self._edited)
        with suppress(OSError):
            self._drafts.close() if is_last else self._drafts.save()

    def _change_draft(self) -> None:
        """Put away the draft of the conversation shown before, and show that of the one opened."""
        self.footer.leave_editing()
        # An edited question becomes a new one.
        self.draft.held = [replace(one, editing=None) for one in self.draft.held]
        while self.footer.take_back():
            pass
        self.draft.text = self.composer.lift()
        self._drafts.put_away(self._drafted_in, self.draft)
        self._drafted_in = self._conversation_id
        self._show_draft(self._drafts.take_out(self._drafted_in))

    def _show_draft(self, draft: Draft) -> None:
        self.draft = self.footer.draft = draft
        self.composer.replace_text(draft.text)
        for picture in draft.pictures:
            if picture.unopened is not None:
                self._open(picture, picture.unopened)
                picture.unopened = None
        self._settle()

    @on(TextArea.Changed, "#composer")
    def _note_draft(self) -> None:
        """Save the drafts soon, at most once in `SAVE_S` seconds."""
        self.draft.text, self._edited = self.footer.typed
        if self._saving is None:
            self._saving = self.set_timer(SAVE_S, self._save_soon)

    def _save_soon(self) -> None:
        self._saving = None
        self._drafts.note(self._drafted_in, self.draft, self._edited)
        self.host.in_background(self._drafts.save, lambda _: None, self._not_saved)

    def _not_saved(self, error: Exception) -> None:
        def fail() -> None:
            raise StoreError(f"What you type cannot be saved until it is sent: {error}")

        self.host.guarded(fail, rarely=True)

    # Sending

    def _answer_ended(self) -> None:
        """Send the next question, unless the answer failed or was stopped."""
        path = self.conversation.path
        if self.draft.held and path and path[-1].state in ("failed", "stopped"):
            self.draft.is_paused = True
        self._settle()

    def _settle(self) -> None:
        """Send the first held question unless something prevents it; return it if a picture failed."""
        draft = self.draft
        held = draft.held[0] if draft.held and not draft.is_paused else None
        if held is not None and not held.opening and self.conversation.answering is None:
            if failed := held.unreported:
                self._hold_back(held, failed)
            elif not self.may_ask():
                draft.is_paused = True
            elif self._ask(held):
                draft.held.remove(held)
            else:
                self.footer.take_back(held)
                draft.is_paused = bool(draft.held)
        self.footer.show_draft()
        self._note_draft()

    def _ask(self, held: HeldQuestion) -> bool:
        from minigpt4.tui.images.question import NO_PICTURE

        pictures = opened(held.pictures)
        asked = self.host.guarded(
            lambda: (
                self.conversation.edit(held.editing, held.text, pictures, held.max_tokens)
                if held.editing is not None
                else self.conversation.ask(held.text, pictures, held.max_tokens)
            )
        )
        question = self.conversation.last("user")
        if asked and question is self.conversation.path[0] and not question.pictures:
            self.host.say(f"{NO_PICTURE}; {self.host.key('pick_picture')} adds one.", "warning")
        return bool(asked)

    def _hold_back(self, held: HeldQuestion, failed: Sequence[DraftPicture]) -> None:
        """Return a question to the composer; as it was typed, if a path or address in it failed."""
        is_named = bool(held.typed) and any(one in held.named for one in failed)
        self.footer.take_back(self.draft.as_typed(held) if is_named else held)
        self.draft.is_paused = bool(self.draft.held)
        for picture in failed:
            picture.is_reported = True
        which = "this picture" if len(failed) == 1 else f"these {len(failed)} pictures"
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        advice = "correct what it names, or leave that out" if is_named else f"Enter sends it without {which}"
        self.host.say(f"{failed[0].problem}{more} The question was not sent; {advice}.", "error")
