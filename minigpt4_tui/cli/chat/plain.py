"""The plain chat: line by line, in any terminal, or fed through a pipe.

Answers go to standard output, everything else to standard error, so that
`minigpt4 chat photo.jpg < questions.txt > answers.txt` holds answers alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt4.core.errors import ImageError, Minigpt4Error, UsageError
from minigpt4.core.pixels import Picture, open_picture
from minigpt4.core.prompt import Assistant, Message, System, User
from minigpt4.core.reply import Reply
from minigpt4.core.types import ImageEmbedding, ResolvedSampling
from minigpt4.tui.cli.chat.line_input import PROMPT, next_line, saying_if_slow
from minigpt4.tui.cli.chat.plain_commands import ACTIONS, run_command
from minigpt4.tui.cli.chat.plain_history import Record
from minigpt4.tui.cli.chat.plain_pictures import Waiting, asked_by_you, attach_line, described_picture
from minigpt4.tui.cli.chat.reply_report import (
    cut_short,
    left_out,
    notice_before,
    reply_stats,
    telling_reasoning,
)
from minigpt4.tui.cli.errors import FAILED, INTERRUPTED, say_error
from minigpt4.tui.cli.signals import stopping_on_interrupt
from minigpt4.tui.conversation.request import varied
from minigpt4.tui.conversation.slash_commands import plain_commands, unknown_command, with_prompt
from minigpt4.tui.history.records import SHOWN_ID, State, StoredMessage, StoredPicture
from minigpt4.tui.images.attachments import Attachment, names_files
from minigpt4.tui.images.question import Question, question_in
from minigpt4.tui.terminal.ansi import AnsiColors
from minigpt4.tui.terminal.messages import printable, say
from minigpt4.tui.terminal.results import print_answer
from minigpt4.tui.terminal.sanitize import sanitize_line

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine
    from minigpt4.tui.cli.chat.plain_model import PlainModel
    from minigpt4.tui.history.store import ConversationInfo
    from minigpt4.tui.settings.settings import Origin

ANSWER = "Answer: "
"""Printed before an answer at a terminal."""

PATIENCE_S = 2.0
"""Seconds after which a terminal shows what is in progress."""


@dataclass
class PlainChat:
    """One conversation; `conversation` and `pending` (pictures for the next message) are its state.

    `system_prompt` precedes it unless empty; `record` saves it; `model` can change the engine.
    """

    engine: Engine
    sampling: ResolvedSampling
    colors: AnsiColors = field(default_factory=AnsiColors)
    record: Record = field(default_factory=Record)
    system_prompt: str = ""
    model: PlainModel | None = None
    conversation: list[Message] = field(default_factory=list)
    pending: list[Waiting] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    """Ids of the conversations in the last list, in the order of their numbers."""
    offered: list[Path] = field(default_factory=list)
    """The pictures of the last listed folder, in the order of their numbers."""
    failures: int = 0
    _dropped: int = 0
    _limit: int | None = None
    """The token limit of answers to the last question, if its named prompt has one."""
    _prefill: str = ""
    """What the next line of input begins with, at a terminal."""

    def run(self) -> int:
        """Chat until the user leaves; returns the exit code.

        In a pipe a failed line makes it 1; at a terminal the user has seen the error.
        """
        if not _at_terminal():
            for line in sys.stdin:
                if not self.take(line):
                    break
            return FAILED if self.failures else 0
        begin = "Ask about what you added" if self.pending else "Add a picture with /image PATH, or just ask"
        say(self.colors.quiet(f"{begin}. Ctrl+C stops an answer, /quit leaves, /help shows more."))
        code = self._talk()
        if self.record.conversation is not None:
            name = self.record.conversation.id[:SHOWN_ID]
            say(self.colors.quiet(f"`minigpt4 chat --resume {name}` continues this conversation."))
        return code

    def _talk(self) -> int:
        interrupts = 0
        while interrupts < 2:
            try:
                if not self.take(self.next_line()):
                    return 0
                interrupts = 0
            except KeyboardInterrupt:
                interrupts += 1
                say("" if interrupts == 2 else self.colors.quiet("\nCtrl+C again, or /quit, leaves."))
            except EOFError:
                say("")
                return 0
        return INTERRUPTED

    def take(self, line: str) -> bool:
        """Act on one line of input; False if it ends the chat."""
        line = line.strip()
        if not line:
            return True
        command, _, rest = line.partition(" ")
        if command in ("/quit", "/exit"):
            return False
        with self.reporting():
            if command in ACTIONS:
                run_command(self, command, rest.strip())
            elif names_files(line):
                attach_line(self, line)
            else:
                self.ask_line(line)
        return True

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Print and count an error of the block."""
        try:
            yield
        except Minigpt4Error as error:
            self.failures += 1
            say_error(error)

    def ask_line(self, line: str) -> None:
        """Attach the pictures that the line names, and ask the rest of it, if any."""
        asked, limit = self._asked(line)
        for source, picture in zip(asked.pictures, asked.open(), strict=True):
            self.attach(picture, source)
        if asked.text:
            self._answer(asked.text, limit)

    def _asked(self, line: str) -> tuple[Question, int | None]:
        """The question in a line, and the token limit of its answer if its named prompt has one."""
        prompted = with_prompt(line)
        asked = question_in(prompted.text, [one.source for one in self.pending])
        if asked.text.startswith("/"):
            raise UsageError(unknown_command(asked.text, plain_commands()))
        return asked, prompted.max_tokens

    def attach(self, picture: Picture, source: Attachment, known: Sequence[ImageEmbedding] = ()) -> None:
        """Add a picture, opened from `source`, to the next message and print its name and size.

        One that is among `known`, the pictures of an edited question, is not added again.
        """
        name = printable(picture.name)
        with self._print_if_slow(f"Looking at {name} ..."):
            seen = self.engine.look(picture)
        if any(seen.key == one.key for one in known):
            say(self.colors.quiet(f"{name} belongs to the question already."))
            return
        described = described_picture(picture.name, *picture.info.size)
        self.pending.append(Waiting(source, seen, self.record.keep(picture, source.name), described))
        say(self.colors.quiet(f"Added {described}."))
        for notice in picture.info.notices:
            say(self.colors.warning(notice))

    def resume(self, title: str, path: Sequence[StoredMessage]) -> None:
        """Continue a saved conversation; a picture whose file is missing is reported and skipped."""
        self.conversation += self._messages_of(path)
        count = "1 message" if len(path) == 1 else f"{len(path)} messages"
        say(self.colors.quiet(f"Continuing '{sanitize_line(title, 80)}', {count}."))
        if _at_terminal():
            for message in path[-2:]:
                who = asked_by_you(message) if message.role == "user" else "The answer was"
                say(self.colors.quiet(f"{who}: {sanitize_line(message.text, 500)}"))

    def _messages_of(self, path: Sequence[StoredMessage]) -> Iterator[Message]:
        for message in path:
            if message.role == "user":
                images = [one for picture in message.pictures for one in self._embedding_of(picture)]
                yield User(message.text, images=tuple(images))
            elif message.text:
                yield Assistant(message.text)

    def _embedding_of(self, picture: StoredPicture) -> Iterator[ImageEmbedding]:
        try:
            yield self.engine.look(open_picture(picture.path))
        except ImageError:
            name = printable(picture.name)
            say(self.colors.warning(f"The kept picture {name} cannot be read any more; it is left out."))

    def clear(self) -> None:
        """Begin a new conversation."""
        self.conversation.clear()
        self.pending.clear()
        self._dropped, self._limit = 0, None
        self.record.new_conversation()
        say(self.colors.quiet("A new conversation begins; the model knows nothing of the one before."))

    def again(self) -> None:
        """Answer the last question once more; the earlier answer stays in the history."""
        place = self._last_question()
        if place is None:
            raise UsageError("There is no question yet to answer once more.")
        sampling = varied(self._limited(self._limit), self.sampling.temperature, self.record.answers)
        reply = self._reply(self.conversation[: place + 1], sampling, self.record.begin_again)
        self.conversation[place + 1 :] = [Assistant(reply.text)]
        self._report(reply)

    def go_on(self) -> None:
        """Continue the last answer, or answer a question that has none."""
        if not self.conversation:
            raise UsageError("There is no answer yet that could go on.")
        last = self.conversation[-1]
        if not isinstance(last, Assistant):
            self.again()
            return
        reply = self._reply(self.conversation, self.sampling, self.record.begin_more, last.text)
        self.conversation[-1] = Assistant(last.text + reply.text)
        self._report(reply)

    def edit(self, text: str) -> None:
        """Ask the last question in other words; without a text, offer it for editing.

        Pending pictures, and those that `text` names, are added to the question's own.
        """
        place = self._last_question()
        before = self.conversation[place] if place is not None else None
        if place is None or not isinstance(before, User):
            raise UsageError("There is no question yet to edit.")
        if not text:
            say(f"The last question: {sanitize_line(before.text, 500)}\n/edit TEXT asks it in other words.")
            self._prefill = f"/edit {sanitize_line(before.text)}"
            return
        question, limit = self._asked(text)
        for source, picture in zip(question.pictures, question.open(), strict=True):
            self.attach(picture, source, known=before.images)
        words = question.text or before.text
        asked = User(words, images=(*before.images, *(one.embedding for one in self.pending)))
        stored = [one.stored for one in self.pending if one.stored is not None]
        earlier = self.conversation[:place]
        reply = self._reply(
            [*earlier, asked], self._limited(limit), lambda: self.record.begin_edited(words, stored)
        )
        self.conversation[place:] = [asked, Assistant(reply.text)]
        self.pending.clear()
        self._report(reply)

    def go_on_from(self, answer: StoredMessage) -> None:
        """Continue the conversation from another saved answer and the messages after it."""
        store, conversation = self.record.store, self.record.conversation
        if store is None or conversation is None:
            return
        store.set_leaf(conversation.id, store.newest_leaf(answer.id))
        self.record = self.record.of(conversation)
        self.conversation[:] = self._messages_of(store.path(conversation.id))

    def open(self, conversation: ConversationInfo) -> None:
        """Continue a saved conversation."""
        store = self.record.store
        if store is None:
            return
        self.record = self.record.of(conversation)
        self.conversation.clear()
        self._dropped, self._limit = 0, None
        self.resume(conversation.title, store.path(conversation.id))
        if store.settings(conversation.id):
            name = conversation.id[:SHOWN_ID]
            say(f"It has settings of its own; `minigpt4 chat --plain --resume {name}` goes on with them.")

    def change(self, values: Mapping[str, Any], origin: Origin) -> None:
        """Use other settings from now on; another model encodes the pictures again."""
        if self.model is None:
            return
        try:
            is_other = self.model.change(values, origin)
        finally:
            self.engine = self.model.engine
        chosen = self.model.chosen
        self.sampling, self.system_prompt = chosen.sampling, chosen.system_prompt
        if is_other:
            self.record.answered_by(chosen.model.bundle_name)
            self.look_again()

    def look_again(self) -> None:
        """Encode the pictures again, with a model that was just loaded."""
        info, store = self.record.conversation, self.record.store
        waiting = [(one.source, one.stored) for one in self.pending if one.stored is not None]
        lost = len(self.pending) - len(waiting)
        self.pending.clear()
        self.conversation.clear()
        if info is not None and store is not None:
            self.conversation += self._messages_of(store.path(info.id))
        for source, stored in waiting:
            self.attach(open_picture(stored.path), source)
        if lost:
            say(self.colors.warning("The pictures that were added are not saved; add them again."))

    def _last_question(self) -> int | None:
        return max((at for at, one in enumerate(self.conversation) if isinstance(one, User)), default=None)

    def _limited(self, max_tokens: int | None) -> ResolvedSampling:
        """The sampling for a question with this token limit, which one on the command line overrides."""
        is_fixed = self.model is not None and self.model.loaded.origins["max_tokens"] == "flag"
        self._limit = None if is_fixed else max_tokens
        return replace(self.sampling, max_tokens=self._limit) if self._limit else self.sampling

    def _answer(self, question: str, limit: int | None) -> None:
        asked = User(question, images=tuple(one.embedding for one in self.pending))
        stored = [one.stored for one in self.pending if one.stored is not None]
        reply = self._reply(
            [*self.conversation, asked],
            self._limited(limit),
            lambda: self.record.begin(question, stored),
            notice=notice_before(self.conversation, asked, by_itself=self.engine.template.by_itself),
        )
        self.conversation += [asked, Assistant(reply.text)]
        self.pending.clear()
        self._report(reply)

    def _reply(
        self,
        messages: Sequence[Message],
        sampling: ResolvedSampling,
        begin: Callable[[], None],
        before: str = "",
        notice: str = "",
    ) -> Reply:
        """Generate, print and save the reply to the messages; `begin` saves that it has begun.

        `before` is the text that it continues, `notice` a sentence printed before it.
        """
        system = [System(self.system_prompt)] if self.system_prompt else []
        with stopping_on_interrupt() as interrupted:
            reply = self.engine.reply([*system, *messages], sampling, cancelled=interrupted)
            if reply.dropped_messages > self._dropped:
                say(self.colors.warning(left_out(reply.dropped_messages)))
            self._dropped = reply.dropped_messages
            if notice:
                say(self.colors.warning(notice))
            begin()
            self._say(reply, before)
        return reply

    def _report(self, reply: Reply) -> None:
        """Say if the answer was stopped or cut off."""
        if reply.finish == "cancelled":
            if not _at_terminal():
                # A script of questions ends, instead of continuing with its next line.
                raise KeyboardInterrupt
            say(self.colors.quiet("(Stopped; what was said so far stays in the conversation.)"))
        if reply.finish == "length":
            say(self.colors.warning(cut_short(reply, self.sampling, "/continue goes on")))
        if reply.finish == "stop" and not reply.text.strip():
            say(self.colors.quiet("(The model had nothing to say.)"))

    def _say(self, reply: Reply, before: str) -> None:
        """Print the answer while it is generated, and save it, however it ends."""
        state: State = "stopped"
        stats: dict[str, float | int | str | None] = {"finish": "cancelled"}
        try:
            pieces = telling_reasoning(reply, self.colors.quiet)
            with self._print_if_slow("Thinking ..."):
                begun = list(islice(pieces, 1))
            if _at_terminal() and sys.stdout.isatty():
                # So that turns can be told apart when a screen reader reads them.
                print(ANSWER, end="", flush=True)
            for piece in chain(begun, pieces):
                print_answer(piece.text)
                self.record.grow(before + reply.text)
            print(flush=True)
            state = "stopped" if reply.finish == "cancelled" else "done"
            stats = reply_stats(reply)
        except Minigpt4Error as error:
            state, stats = "failed", {"problem": str(error)}
            raise
        finally:
            self.record.end(before + reply.text, state, stats)

    def _print_if_slow(self, words: str) -> AbstractContextManager[None]:
        """Print `words` if the block takes long: a screen reader cannot read a bar or spinner."""
        return saying_if_slow(self.colors.quiet(words), PATIENCE_S) if _at_terminal() else nullcontext()

    def next_line(self) -> str:
        """The next line of input; raises EOFError at its end."""
        prefill, self._prefill = self._prefill, ""
        return next_line(self.colors.prompt(PROMPT), prefill)


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
