"""The plain chat: line by line, in any terminal, or fed through a pipe.

Answers go to standard output, everything else to standard error, so that
`minigpt4 chat photo.jpg < questions.txt > answers.txt` holds answers alone.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.language.protocol import ImageEmbedding, Sampling
from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.reply import Reply
from minigpt4.tui.attachments import attachments_in, names_files
from minigpt4.tui.cli.edge import FAILED, INTERRUPTED, printable, say, say_error
from minigpt4.tui.cli.interrupt import stopping_on_interrupt
from minigpt4.tui.ink import Ink

PROMPT = "> "

COMMANDS = {
    "/image": "PATH...   add pictures to your next message (dropping a file on the terminal does it too)",
    "/clear": "          forget the conversation and its pictures",
    "/help": "           show this",
    "/quit": "           leave (Ctrl+D does it too)",
}


class Replying(Protocol):
    """The part of an Engine that a chat needs."""

    def look(self, source: Picture) -> ImageEmbedding:
        """A picture as the language model reads it."""
        ...

    def reply(
        self,
        conversation: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> Reply:
        """The answer to the last message."""
        ...


@dataclass
class PlainChat:
    """One conversation; `conversation` and `pending` (pictures for the next message) are its state."""

    engine: Replying
    sampling: Sampling
    ink: Ink = field(default_factory=Ink)
    conversation: list[Message] = field(default_factory=list)
    pending: list[ImageEmbedding] = field(default_factory=list)
    failures: int = 0
    _dropped: int = 0

    def run(self) -> int:
        """Talk until the person leaves; returns the exit code.

        Through a pipe a line that failed makes the code 1; at a terminal it was seen and said.
        """
        if not _at_terminal():
            for line in sys.stdin:
                if not self.take(line):
                    break
            return FAILED if self.failures else 0
        begin = "Ask about what you added" if self.pending else "Add a picture with /image PATH, or just ask"
        say(self.ink.quiet(f"{begin}. Ctrl+C stops an answer, /quit leaves, /help shows more."))
        interrupts = 0
        while interrupts < 2:
            try:
                if not self.take(self._prompted_line()):
                    return 0
                interrupts = 0
            except KeyboardInterrupt:
                interrupts += 1
                say("" if interrupts == 2 else self.ink.quiet("\nCtrl+C again, or /quit, leaves."))
            except EOFError:
                say("")
                return 0
        return INTERRUPTED

    def take(self, line: str) -> bool:
        """Act on one line that was typed; False once the person wants to leave."""
        line = line.strip()
        if not line:
            return True
        command, _, rest = line.partition(" ")
        try:
            if command in ("/quit", "/exit"):
                return False
            if command == "/image":
                self._attach_line(rest)
            elif command == "/clear":
                self._clear()
            elif command == "/help":
                say("\n".join(f"{name} {what}" for name, what in COMMANDS.items()))
            elif names_files(line):
                self._attach_line(line)
            elif line.startswith("/"):
                self._unknown(command)
            else:
                self._answer(line)
        except Minigpt4Error as error:
            self.failures += 1
            say_error(error)
        return True

    def attach(self, picture: Picture) -> None:
        """Add a picture to the next message, and say which and how large it is."""
        self.pending.append(self.engine.look(picture))
        width, height = picture.image.size
        say(self.ink.quiet(f"Added {printable(picture.name)}, {width} x {height} pixels."))
        for notice in picture.notices:
            say(self.ink.warning(notice))

    def _attach_line(self, line: str) -> None:
        found = attachments_in(line)
        if not found:
            self.failures += 1
            say("minigpt4: /image needs the path of a picture, as in `/image photo.jpg`.")
        for one in found:
            self.attach(one.open())

    def _clear(self) -> None:
        self.conversation.clear()
        self.pending.clear()
        self._dropped = 0
        say(self.ink.quiet("The conversation and its pictures are forgotten."))

    def _unknown(self, command: str) -> None:
        near = difflib.get_close_matches(command, COMMANDS, n=1, cutoff=0.5)
        advice = f"did you mean {near[0]}?" if near else "/help lists what there is."
        self.failures += 1
        say(f"minigpt4: There is no command {printable(command)}; {advice}")

    def _answer(self, question: str) -> None:
        asked = User(question, images=tuple(self.pending))
        with stopping_on_interrupt() as interrupted:
            reply = self.engine.reply([*self.conversation, asked], self.sampling, cancelled=interrupted)
            if reply.dropped_messages > self._dropped:
                say(self.ink.warning(_left_out(reply.dropped_messages)))
            self._dropped = reply.dropped_messages
            for piece in reply:
                print(piece.text, end="", flush=True)
        print(flush=True)
        self.conversation += [asked, Assistant(reply.text)]
        self.pending.clear()
        if reply.finish == "cancelled":
            if not _at_terminal():
                # A script that feeds questions is to end, not to go on with its next line.
                raise KeyboardInterrupt
            say(self.ink.quiet("(Stopped; what was said so far stays in the conversation.)"))
        if reply.finish == "length":
            say(self.ink.warning(cut_short(reply, self.sampling)))

    def _prompted_line(self) -> str:
        if sys.stdout.isatty():
            return input(self.ink.prompt(PROMPT) if _line_editing() else PROMPT)
        # `input` would write its prompt into whatever stdout is redirected to.
        print(PROMPT, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line


def cut_short(reply: Reply, sampling: Sampling) -> str:
    """The notice under an answer that ran to its limit."""
    if reply.answer_tokens < sampling.max_tokens:
        return f"(The answer was cut off after {reply.answer_tokens} tokens: the model's context is full.)"
    return f"(The answer was cut off after {reply.answer_tokens} tokens; --max-tokens allows more.)"


def _left_out(messages: int) -> str:
    count = "oldest message was" if messages == 1 else f"{messages} oldest messages were"
    return f"(The conversation outgrew the model's context: its {count} left out.)"


def _line_editing() -> bool:
    """Give `input` arrow keys and a history of this chat's lines, where Python was built with them."""
    try:
        importlib.import_module("readline")
    except ImportError:
        return False
    return True


def _at_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()
