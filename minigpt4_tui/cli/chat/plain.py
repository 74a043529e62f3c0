"""The plain chat: line by line, in any terminal, or fed through a pipe.

Answers go to standard output, everything else to standard error, so that
`minigpt4 chat photo.jpg < questions.txt > answers.txt` holds answers alone.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TYPE_CHECKING

from minigpt4.core.errors import ImageError, Minigpt4Error
from minigpt4.core.pixels import Picture, open_picture
from minigpt4.core.prompt import Assistant, Message, System, User
from minigpt4.core.reply import Reply
from minigpt4.core.text import nearest
from minigpt4.core.types import ImageEmbedding, ResolvedSampling
from minigpt4.tui.cli.chat.plain_history import Record
from minigpt4.tui.cli.errors import FAILED, INTERRUPTED, say_error
from minigpt4.tui.cli.signals import stopping_on_interrupt
from minigpt4.tui.conversation.slash_commands import with_prompt
from minigpt4.tui.history.records import SHOWN_ID, State, StoredMessage, StoredPicture
from minigpt4.tui.images.attachments import attachments_in, names_files
from minigpt4.tui.images.question import NO_PICTURE, missing_file_sentence, question_in
from minigpt4.tui.terminal.ansi import AnsiColors
from minigpt4.tui.terminal.messages import printable, say
from minigpt4.tui.terminal.sanitize import sanitize_line

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine

PROMPT = "> "

PATIENCE_S = 2.0
"""Seconds after which a terminal shows what is in progress."""

COMMANDS = {
    "/image": "PATH...   add pictures to your next message (dropping a file on the terminal does it too)",
    "/clear": "          begin a new conversation",
    "/help": "           show this",
    "/quit": "           leave (Ctrl+D does it too)",
}


@dataclass(frozen=True)
class Waiting:
    """A picture for the next message: its embedding, and its copy in the history (None: not saved)."""

    digest: str
    embedding: ImageEmbedding
    stored: StoredPicture | None


@dataclass
class PlainChat:
    """One conversation; `conversation` and `pending` (pictures for the next message) are its state.

    `system_prompt` precedes it unless empty; `record` saves it.
    """

    engine: Engine
    sampling: ResolvedSampling
    colors: AnsiColors = field(default_factory=AnsiColors)
    record: Record = field(default_factory=Record)
    system_prompt: str = ""
    conversation: list[Message] = field(default_factory=list)
    pending: list[Waiting] = field(default_factory=list)
    failures: int = 0
    _dropped: int = 0

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
                if not self.take(self._prompted_line()):
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
        try:
            if command in ("/quit", "/exit"):
                return False
            if command == "/image":
                self._attach_line(rest)
            elif command in ("/clear", "/new"):
                self._clear()
            elif command == "/help":
                say("\n".join(f"{name} {what}" for name, what in COMMANDS.items()))
            elif names_files(line):
                self._attach_line(line)
            else:
                self._take_question(line)
        except Minigpt4Error as error:
            self.failures += 1
            say_error(error)
        return True

    def _take_question(self, line: str) -> None:
        """Attach the pictures that the line names, and ask the rest of it, if there is more."""
        asked = question_in(with_prompt(line))
        if asked.text.startswith("/"):
            self._unknown(asked.text)
            return
        waiting = {one.digest for one in self.pending}
        for source, picture in zip(asked.pictures, asked.open(), strict=True):
            if picture.digest not in waiting:
                self.attach(picture, source.name)
        if asked.text:
            self._answer(asked.text)

    def attach(self, picture: Picture, name: str) -> None:
        """Add a picture to the next message and print its name and size."""
        with self._print_if_slow(f"Looking at {printable(picture.name)} ..."):
            seen = self.engine.look(picture)
        self.pending.append(Waiting(picture.digest, seen, self.record.keep(picture, name)))
        width, height = picture.info.size
        say(self.colors.quiet(f"Added {printable(picture.name)}, {width} x {height} pixels."))
        for notice in picture.info.notices:
            say(self.colors.warning(notice))

    def resume(self, title: str, path: Sequence[StoredMessage]) -> None:
        """Continue a saved conversation; a picture whose file is missing is reported and skipped."""
        for message in path:
            if message.role == "user":
                images = [one for picture in message.pictures for one in self._embedding_of(picture)]
                self.conversation.append(User(message.text, images=tuple(images)))
            elif message.text:
                self.conversation.append(Assistant(message.text))
        count = "1 message" if len(path) == 1 else f"{len(path)} messages"
        say(self.colors.quiet(f"Going on with '{sanitize_line(title, 80)}', {count}."))
        if _at_terminal():
            for message in path[-2:]:
                who = "You asked" if message.role == "user" else "The answer was"
                say(self.colors.quiet(f"{who}: {sanitize_line(message.text, 500)}"))

    def _embedding_of(self, picture: StoredPicture) -> Iterator[ImageEmbedding]:
        try:
            yield self.engine.look(open_picture(picture.path))
        except ImageError:
            name = printable(picture.name)
            say(self.colors.warning(f"The kept picture {name} cannot be read any more; it is left out."))

    def _attach_line(self, line: str) -> None:
        found = attachments_in(line)
        if not found:
            self.failures += 1
            say("minigpt4: /image needs the path of a picture, as in `/image photo.jpg`.")
        for one in found:
            self.attach(one.open(), one.name)

    def _clear(self) -> None:
        self.conversation.clear()
        self.pending.clear()
        self._dropped = 0
        self.record.new_conversation()
        say(self.colors.quiet("A new conversation begins; the model knows nothing of the one before."))

    def _unknown(self, line: str) -> None:
        self.failures += 1
        if sentence := missing_file_sentence(line):
            say(f"minigpt4: {sentence}")
            return
        command = line.split(maxsplit=1)[0]
        near = nearest(command, COMMANDS)
        advice = f"did you mean {near}?" if near else "/help lists what there is."
        say(f"minigpt4: There is no command {printable(command)}; {advice}")

    def _answer(self, question: str) -> None:
        asked = User(question, images=tuple(one.embedding for one in self.pending))
        system = [System(self.system_prompt)] if self.system_prompt else []
        with stopping_on_interrupt() as interrupted:
            messages = [*system, *self.conversation, asked]
            reply = self.engine.reply(messages, self.sampling, cancelled=interrupted)
            if reply.dropped_messages > self._dropped:
                say(self.colors.warning(_left_out(reply.dropped_messages)))
            self._dropped = reply.dropped_messages
            if not (self.conversation or self.pending):
                say(self.colors.warning(f"({NO_PICTURE}; /image PATH adds one.)"))
            self.record.begin(question, [one.stored for one in self.pending if one.stored is not None])
            self._say(reply)
        self.conversation += [asked, Assistant(reply.text)]
        self.pending.clear()
        if reply.finish == "cancelled":
            if not _at_terminal():
                # A script of questions ends, instead of continuing with its next line.
                raise KeyboardInterrupt
            say(self.colors.quiet("(Stopped; what was said so far stays in the conversation.)"))
        if reply.finish == "length":
            say(self.colors.warning(cut_short(reply, self.sampling)))

    def _say(self, reply: Reply) -> None:
        """Print the answer while it is generated, and save it, however it ends."""
        state: State = "stopped"
        stats: dict[str, float | int | str | None] = {"finish": "cancelled"}
        try:
            pieces = iter(reply)
            with self._print_if_slow("Thinking ..."):
                begun = list(islice(pieces, 1))
            for piece in chain(begun, pieces):
                print(piece.text, end="", flush=True)
                self.record.grow(reply.text)
            print(flush=True)
            state = "stopped" if reply.finish == "cancelled" else "done"
            stats = _stats(reply)
        except Minigpt4Error as error:
            state, stats = "failed", {"problem": str(error)}
            raise
        finally:
            self.record.end(reply.text, state, stats)

    @contextmanager
    def _print_if_slow(self, words: str) -> Iterator[None]:
        """Print `words` if the block takes long: a screen reader cannot read a bar or spinner."""
        if not _at_terminal():
            yield
            return
        timer = threading.Timer(PATIENCE_S, say, [self.colors.quiet(words)])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _prompted_line(self) -> str:
        if sys.stdout.isatty():
            return input(self.colors.prompt(PROMPT) if _line_editing() else PROMPT)
        # `input` would write its prompt into whatever stdout is redirected to.
        print(PROMPT, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line


def cut_short(reply: Reply, sampling: ResolvedSampling) -> str:
    """The notice under an answer that ran to its limit."""
    if reply.answer_tokens < sampling.max_tokens:
        return f"(The answer was cut off after {reply.answer_tokens} tokens: the model's context is full.)"
    return f"(The answer was cut off after {reply.answer_tokens} tokens; --max-tokens allows more.)"


def _stats(reply: Reply) -> dict[str, float | int | str | None]:
    return {
        "finish": reply.finish,
        "answer_tokens": reply.answer_tokens,
        "prompt_tokens": reply.prompt_tokens,
        "tokens_per_s": reply.tokens_per_s,
        "first_token_s": reply.first_token_s,
    }


def _left_out(messages: int) -> str:
    count = "oldest message was" if messages == 1 else f"{messages} oldest messages were"
    return f"(The conversation outgrew the model's context: its {count} left out.)"


def _line_editing() -> bool:
    """Give `input` arrow keys and a line history, if Python was built with readline."""
    try:
        importlib.import_module("readline")
    except ImportError:
        return False
    return True


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
