"""The chat screen: the actions of a conversation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual import on
from textual.binding import BindingType
from textual.widgets import TextArea

from minigpt4.tui.conversation.draft import opened
from minigpt4.tui.history.store import StoredMessage
from minigpt4.tui.images.attachments import Attachment, attachments_in
from minigpt4.tui.screens.chat_draft import ChatDraft
from minigpt4.tui.settings.bindings import bindings_of
from minigpt4.tui.terminal.sanitize import sanitize
from minigpt4.tui.widgets.composer import MAX_CHARACTERS, Composer
from minigpt4.tui.widgets.footer import ChatFooter
from minigpt4.tui.widgets.key_line import KeyLine
from minigpt4.tui.widgets.message import MessageView

if TYPE_CHECKING:
    from minigpt4.tui.app.app import MiniGPT4App
    from minigpt4.tui.conversation.engine_status import EngineStatus
    from minigpt4.tui.widgets.answer import CodeBlock
    from minigpt4.tui.widgets.picture_row import Thumbnail

PHOTO_FIRST_S = 0.3
"""Maximum seconds for which everything else waits for the photo that the app was started with."""

TWICE_S = 2.0
"""Seconds within which a second Ctrl+C quits."""


class ChatScreen(ChatDraft):
    """Every action of the scope "chat": ask, regenerate, edit, copy and others."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("chat")]
    ADDED = "Added to your next question."
    """Shown when pictures are dropped on a screen over this one."""

    def __init__(self, host: MiniGPT4App, pictures: Sequence[Attachment | Path], *, is_empty: bool) -> None:
        """The app was started with `pictures`, and with an empty conversation or one to be opened."""
        super().__init__(host)
        self._first_pictures = pictures
        previews = (one.early for one in pictures if isinstance(one, Attachment))
        self._early = next(filter(None, previews), None) if is_empty else None
        self._copied = ("", -1)
        self._interrupted_at = 0.0
        self._prepared: tuple[object, ...] | None = None

    # The start

    def on_mount(self) -> None:
        """Give the photo that the app was started with its place in the first frame."""
        if self._early is not None:
            self.call_next(self.attach_first)

    async def attach_first(self) -> None:
        """Attach the pictures that the app was started with, once."""
        pictures, self._first_pictures = self._first_pictures, ()
        self.attach(pictures)
        await self.draw_photo()

    def after_photo(self, work: Callable[[], object]) -> None:
        """Run `work` in the app, but not before the photo, which has the processor until then, is shown."""
        if (early := self._early) is None:
            self.host.call_next(work)
        else:
            self.host.in_background(
                lambda: early.was_shown.wait(PHOTO_FIRST_S), lambda _: self.host.call_next(work)
            )

    # Pictures

    def on_thumbnail_zoomed(self, event: Thumbnail.Zoomed) -> None:
        """Enlarge an image of a message; the others of the message can be reached from it."""
        for view in self.transcript.views:
            if event.picture in view.message.pictures:
                self._zoom(view.message.pictures, event.picture)
                return

    # Asking

    def show_engine(self, engine: EngineStatus) -> None:
        """Show the engine's state; once it is ready, it prepares the question being typed."""
        super().show_engine(engine)
        self._prepare()

    @on(TextArea.Changed, "#composer")
    @on(ChatFooter.DraftShown)
    def _prepare(self) -> None:
        """Once a question is begun, have its pictures encoded and everything before its text computed."""
        if self.host.engine.state != "ready" or self.conversation.answering or self.draft.held:
            self._prepared = None
            return
        text, pictures = self.composer.text, self.draft.pictures
        is_begun = bool(pictures) or (bool(text.strip()) and not text.startswith("/"))
        if not is_begun or any(one.is_opening for one in pictures):
            return
        edited = self.conversation.message(self.footer.editing or "")
        if edited is not None and edited.role == "assistant":
            return
        last, stored = self.conversation.path[-1:], opened(pictures)
        question = [one.id for one in (*last, edited) if one is not None], [one.path for one in stored]
        if question != self._prepared:
            self._prepared = question
            self.conversation.prepare(stored, edited.id if edited is not None else None)

    @on(Composer.Submitted)
    def _submitted(self, event: Composer.Submitted) -> None:
        from minigpt4.tui.conversation.slash_commands import command_in, unknown_command, with_prompt
        from minigpt4.tui.images.question import question_in
        from minigpt4.tui.prompts.prompts import PromptError

        command = command_in(event.text)
        edited = self.conversation.message(self.footer.editing or "")
        try:
            prompted = with_prompt(event.text)
            asked = question_in(prompted.text, self.draft.sources)
        except PromptError as error:
            self.host.say(str(error), "error")
            return
        if command is not None and command.action == "attach_path":
            self._attach_line(event)
        elif command is not None and command.action == "save_page":
            self.composer.take(event.typed)
            self.call_later(self.action_save_page, event.text.partition(" ")[2].strip())
        elif command is not None:
            self.composer.take(event.typed)
            if event.text != command.name:
                # The text after the command would be lost otherwise.
                self.history.keep(event.text)
            self.call_later(self._act, command.action)
        elif self.attach_text(event.text):
            self.composer.take(event.typed)
        elif asked.text.startswith("/") and "\n" not in asked.text:
            self.host.say(unknown_command(asked.text), "warning")
        elif edited is not None and edited.role == "assistant":
            if self.host.guarded(lambda: self.conversation.edit(edited.id, event.text)):
                self.footer.leave_editing(event.typed)
        elif asked.text:
            editing = edited.id if edited is not None else None
            is_fixed = self.host.loaded.origins["max_tokens"] == "flag"
            limit = None if is_fixed else prompted.max_tokens
            self.submit(asked.text, event.typed, asked.pictures, editing=editing, max_tokens=limit)
        else:
            self.attach(asked.pictures)
            self.composer.take(event.typed)

    async def _act(self, action: str) -> None:
        is_ours = "." in action or hasattr(self, f"action_{action}")
        await self.run_action(action if is_ours else f"app.{action}")

    def _attach_line(self, event: Composer.Submitted) -> None:
        found = attachments_in(event.text.partition(" ")[2])
        if found:
            self.composer.take(event.typed)
            self.attach(found, by_command=True)
        else:
            self.host.say("/image needs the path of a picture, as in `/image photo.jpg`.", "warning")

    @on(Composer.MovedUp)
    def _moved_up(self) -> None:
        if views := self.transcript.views:
            views[-1].focus()

    @on(KeyLine.Clicked)
    async def _link_clicked(self, event: KeyLine.Clicked) -> None:
        await self._act(event.action)

    # What keys do

    def action_stop(self) -> None:
        """Clear the filter or the completions, take back a question, stop the answer, focus, or stop editing.

        Each press does the first of these that applies.
        """
        if any(one.has_focus_within and one.clear_filter() for one in self._sidebars):
            return
        if self.composer.close_choices():
            return
        if self.footer.take_back() or self.host.guarded(self.conversation.stop):
            return
        if not self.composer.has_focus:
            self.composer.focus()
        else:
            self.footer.leave_editing()

    def action_interrupt(self) -> None:
        """Ctrl+C: take back a waiting question, stop the answer or clear the composer; twice, quit."""
        if self.footer.take_back() or self.host.guarded(self.conversation.stop):
            return
        now = time.monotonic()
        leave = f"Ctrl+C again, or {self.host.key('quit')}, leaves."
        if self.composer.text:
            self.composer.put_aside()
            self.host.say(f"{self.host.key('earlier_question')} brings the text back. {leave}")
        elif now - self._interrupted_at < TWICE_S:
            self.call_later(self.host.run_action, "app.quit")
        else:
            self.host.say(leave)
        self._interrupted_at = now

    def action_regenerate(self) -> None:
        """Generate another answer to the question of the focused message, or to the last one."""
        view = self.focused if isinstance(self.focused, MessageView) else None
        chosen = view.message.id if view is not None else None
        if self.may_ask() and self.host.guarded(lambda: self.conversation.regenerate(chosen)) is False:
            self.host.say("There is no question yet to answer once more.", "warning")

    def action_continue_answer(self) -> None:
        """Continue the last answer."""
        if self.may_ask() and self.host.guarded(self.conversation.continue_answer) is False:
            self.host.say("There is no answer yet that could go on.", "warning")

    def action_restart_engine(self) -> None:
        """Load the model again."""
        self.host.restart_engine()

    def action_edit_last(self) -> None:
        """Edit the last question in the composer, or take back one that waits."""
        if self.footer.take_back():
            return
        message = self.conversation.last("user")
        if message is None:
            self.host.say("There is no question yet to edit.", "warning")
        else:
            self.footer.begin_editing(message)

    def action_copy_last(self) -> None:
        """Copy the last answer."""
        self._copy(self.conversation.last("assistant"))

    def action_copy_last_code(self) -> None:
        """Copy the last code block."""
        view = next((view for view in reversed(self.transcript.views) if view.code_blocks), None)
        self._copy_code(view)

    def action_page_up(self) -> None:
        """Scroll up by a page; in a list, move its cursor."""
        self._page(-1)

    def action_page_down(self) -> None:
        """Scroll down by a page; in a list, move its cursor."""
        self._page(1)

    def _page(self, step: int) -> None:
        from minigpt4.tui.widgets.option_rows import OptionRows

        if isinstance(self.focused, OptionRows):
            self.focused.page(step)
        else:
            scroll = self.transcript.scroll_page_up if step < 0 else self.transcript.scroll_page_down
            scroll(animate=not self.host.settings.reduced_motion)

    def action_follow_end(self) -> None:
        """Scroll to the end and follow it."""
        self.beside(self.transcript.to_end())

    def action_offer_commands(self) -> None:
        """List the commands, as if a slash were typed."""
        self.composer.focus()
        self.composer.put_aside()
        self.composer.replace_text("/")

    def action_open_editor(self) -> None:
        """Write the question, or the message being edited, in the user's own editor."""
        from minigpt4.tui.terminal.editor import edit

        self.save_drafts()
        with self.host.lent_terminal() as is_lent:
            text = self.host.guarded(lambda: edit(self.composer.text, MAX_CHARACTERS)) if is_lent else None
        if text is not None and text != self.composer.text:
            self.composer.replace_text(sanitize(text))
        self.composer.focus()

    def action_export(self) -> None:
        """Save the conversation as a file."""
        if self.conversation.info is None:
            self.host.say("There is nothing to save yet.", "warning")
        else:
            from minigpt4.tui.screens.export import ExportScreen

            self.host.push_screen(ExportScreen(self.conversation.info.id))

    def action_save_page(self, path: str = "") -> None:
        """Save the web page of the focused answer, or else of the last one that holds a page."""
        from minigpt4.tui.conversation.html_page import NO_PAGE, page_in

        answers = [one for one in reversed(self.conversation.path) if one.role == "assistant"]
        if isinstance(self.focused, MessageView):
            focused = self.focused.message.id
            answers.sort(key=lambda one: one.id != focused)
        if page := page_in(self.conversation.with_current_text(one).text for one in answers):
            from minigpt4.tui.screens.save_page import SavePageScreen

            self.host.push_screen(SavePageScreen(page, path))
        else:
            self.host.say(NO_PAGE, "warning")

    def action_next_conversation(self) -> None:
        """Open the conversation below in the list."""
        self.host.guarded(lambda: self._open_neighbour(1))

    def action_previous_conversation(self) -> None:
        """Open the conversation above in the list."""
        self.host.guarded(lambda: self._open_neighbour(-1))

    def _open_neighbour(self, step: int) -> None:
        listed = [info.id for info in self.host.store.conversations(1000)]
        current = self.conversation.info
        place = listed.index(current.id) + step if current is not None and current.id in listed else 0
        if 0 <= place < len(listed):
            self.host.open_conversation(listed[place])

    @on(MessageView.ActionRequested)
    def _message_action(self, event: MessageView.ActionRequested) -> None:
        view, message = event.view, event.view.message
        match event.action:
            case "next_message" | "previous_message":
                # Not awaited here: this screen lays out the messages that are mounted.
                self.beside(self._go(view, 1 if event.action == "next_message" else -1))
            case "next_variant" | "previous_variant":
                step = 1 if event.action == "next_variant" else -1
                self.host.guarded(lambda: self.conversation.show_variant(message.id, step))
            case "edit_message":
                self.footer.begin_editing(message)
            case "copy_message":
                self._copy(message)
            case "copy_code":
                self._copy_code(view)
            case "zoom_picture" if message.pictures:
                self._zoom(message.pictures, message.pictures[0])

    async def _go(self, view: MessageView, step: int) -> None:
        found = await self.transcript.neighbour(view, step)
        if found is not None:
            found.focus()
        elif step > 0:
            self.composer.focus()

    def _copy(self, message: StoredMessage | None) -> None:
        if message is None:
            self.host.say("There is no answer yet to copy.", "warning")
        else:
            self.host.copy_to_clipboard(self.conversation.with_current_text(message).text)
            self.host.say("Copied the message.")

    def on_code_block_copy_requested(self, event: CodeBlock.CopyRequested) -> None:
        """Copy the code of a clicked link."""
        self.host.copy_to_clipboard(event.code)
        self.host.say("Copied the block of code.")

    def _copy_code(self, view: MessageView | None) -> None:
        blocks = view.code_blocks if view is not None else []
        if view is None or not blocks:
            self.host.say("There is no block of code here.", "warning")
            return
        before, place = self._copied
        place = (place + 1) % len(blocks) if before == view.message.id else 0
        self._copied = (view.message.id, place)
        self.host.copy_to_clipboard(blocks[place])
        which = f" {place + 1} of {len(blocks)}" if len(blocks) > 1 else ""
        self.host.say(f"Copied the block of code{which}.")
