"""The child's side of an engine in a separate process: commands in, events out.

One thread reads commands, so that a cancel arrives while the model computes, and the process ends
with its parent, however that exits: the pipe closes. Only the main thread uses the engine. Model
libraries are imported there, when the first command needs them.
"""

from __future__ import annotations

import errno
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NoReturn

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, Minigpt4Error
from minigpt4.core.types import Sampling
from minigpt4.core.worker.messages import (
    Cancel,
    ChatMessage,
    Command,
    ContextUsage,
    CountTokens,
    DownloadProgress,
    Event,
    Failed,
    FindObjects,
    Finished,
    Generate,
    Load,
    Notice,
    ObjectsFound,
    Phase,
    Prepare,
    ProtocolError,
    Ready,
    TextDelta,
    receive,
    send,
)

if TYPE_CHECKING:
    from minigpt4.core.download.fetch import FetchProgress
    from minigpt4.core.engine import Engine
    from minigpt4.core.prompt import Message
    from minigpt4.core.types import ImageEmbedding
    from minigpt4.core.worker.token_counter import TokenCounter

LoadEngine = Callable[[EngineOptions, Callable[["FetchProgress"], None], Callable[[str], None]], "Engine"]
"""Creates an engine from options, with callbacks for the progress of downloads and for notices."""

PROGRESS_S = 0.1
"""Seconds between two reports on a file; more would not be visible."""

CACHED_EMBEDDINGS = 64
"""Kept between answers, up to 0.7 MB each, so that old pictures are not read again."""


def load_engine(
    options: EngineOptions, progress: Callable[[FetchProgress], None], notice: Callable[[str], None]
) -> Engine:
    """Load the real engine; missing files are downloaded first, unless they need the user's consent."""
    from minigpt4.core.download.fetch import refuse_large
    from minigpt4.core.engine import Engine

    return Engine.from_options(options, progress=progress, notice=notice, begin=refuse_large)


def run(load_engine: LoadEngine) -> NoReturn:
    """Serve standard input until the parent closes it, then end this process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    _be_killed_first()
    commands, events = claim_pipes()
    server = Server(events, load_engine)
    threading.Thread(target=_read_commands, args=(commands, server), daemon=True).start()
    try:
        server.serve()
    except BrokenPipeError:
        _exit(0)
    except BaseException:
        # A normal exit would wait for the reading thread, or crash with it.
        traceback.print_exc()
        _exit(1)


def claim_pipes() -> tuple[Connection, Connection]:
    """Commands from and events to the parent; whatever else prints goes to stderr from now on."""
    commands = Connection(os.dup(0), writable=False)
    events = Connection(os.dup(1), readable=False)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return commands, events


class Server:
    """An engine and the commands that wait for it."""

    def __init__(self, events: Connection, load_engine: LoadEngine) -> None:
        self._events = events
        self._load_engine = load_engine
        self._engine: Engine | None = None
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._requests: set[str] = set()
        self._cancelled: set[str] = set()
        self._newest_prepare: Prepare | None = None
        self._newest_count: CountTokens | None = None
        self._newest_find: FindObjects | None = None
        self._embeddings: OrderedDict[tuple[object, ...], ImageEmbedding] = OrderedDict()
        self._counter: TokenCounter | None = None

    def receive(self, command: Command) -> None:
        """Queue a command, or cancel an answer at once; called on the reading thread."""
        match command:
            case Cancel(request):
                if request in self._requests:
                    self._cancelled.add(request)
                    self._newest_prepare = None
                return
            case Generate(request, messages):
                self._requests.add(request)
                prepare = self._newest_prepare
                if prepare is not None and not prepare.is_of_use_to(messages):
                    self._newest_prepare = None
            case Prepare():
                self._newest_prepare = command
            case CountTokens():
                self._newest_count = command
            case FindObjects():
                self._newest_find = command
        self._commands.put(command)

    def serve(self) -> NoReturn:
        """Run one command after another, forever."""
        while True:
            match self._commands.get():
                case Load(options):
                    self._report_errors(None, partial(self._load, options))
                case Generate() as command:
                    self._report_errors(command.request, partial(self._generate, command))
                    self._requests.discard(command.request)
                    self._cancelled.discard(command.request)
                case Prepare() as command:
                    self._prepare(command)
                case CountTokens() | FindObjects():
                    self._answer_newest()

    def _send(self, event: Event) -> None:
        send(self._events, event)

    def _report_errors(self, request: str | None, action: Callable[[], None]) -> None:
        """Send the error of a request; the next ones are still served."""
        try:
            action()
        except Minigpt4Error as error:
            self._send(Failed(request, str(error)))
        except (ImportError, BrokenPipeError):
            # Without the package no request can succeed; the parent reads its name from stderr.
            raise
        except Exception as error:
            traceback.print_exc()
            self._send(Failed(request, _sentence(error)))

    def _load(self, options: EngineOptions) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = self._counter = None
        self._embeddings.clear()
        # Loading is timed from the end of the last download.
        started = reported = time.monotonic()
        file = ""

        def progress(now: FetchProgress) -> None:
            nonlocal started, reported, file
            started = time.monotonic()
            if now.file != file or now.done == now.total or started - reported >= PROGRESS_S:
                file, reported = now.file, started
                self._send(DownloadProgress(now.file, now.done, now.total))

        engine = self._load_engine(options, progress, lambda sentence: self._send(Notice(sentence)))
        self._engine = engine
        self._send(
            Ready(
                engine.bundle.name,
                engine.language.backend,
                engine.language.context,
                engine.bundle.image_tokens,
                time.monotonic() - started,
                engine.choices,
                engine.template.by_itself,
            )
        )

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise BackendError("No model is loaded; choose one, or fix what kept it from loading.")
        return self._engine

    def _generate(self, command: Generate) -> None:
        request, engine = command.request, self._loaded()

        def is_cancelled() -> bool:
            return request in self._cancelled

        conversation = self._conversation(
            engine, command.messages, is_cancelled, lambda: self._send(Phase(request, "encode"))
        )
        if conversation is None:
            self._send(Finished(request, "cancelled"))
            return
        reply = engine.reply(conversation, command.sampling, beams=command.beams, cancelled=is_cancelled)
        self._send(
            ContextUsage(request, reply.prompt_tokens, engine.language.context, reply.dropped_messages)
        )
        self._send(Phase(request, "prefill"))
        is_decoding = False
        for piece in reply:
            if not is_decoding:
                self._send(Phase(request, "decode"))
                is_decoding = True
            timings = reply.first_token_s, reply.tokens_per_s
            self._send(TextDelta(request, piece.text, *timings, piece.is_reasoning))
            self._answer_newest()
        self._send(
            Finished(
                request,
                reply.finish or "stop",
                reply.prompt_tokens,
                reply.answer_tokens,
                reply.first_token_s,
                reply.tokens_per_s,
            )
        )

    def _conversation(
        self,
        engine: Engine,
        messages: Sequence[ChatMessage],
        is_cancelled: Callable[[], bool],
        on_encode: Callable[[], None] = lambda: None,
    ) -> list[Message] | None:
        """The messages with their image embeddings; None if that was cancelled.

        `on_encode` is called before the first picture is encoded.
        """
        conversation: list[Message] = []
        is_encoding = False
        # If only the newest pictures are read, an older file may even be gone.
        shown = [place for place, message in enumerate(messages) if message.pictures]
        first = shown[-1] if shown and engine.template.by_itself else 0
        for place, message in enumerate(messages):
            images: list[ImageEmbedding] = []
            for path in message.pictures if place >= first else ():
                key = _file_identity(path)
                if key not in self._embeddings:
                    if not is_encoding:
                        on_encode()
                        is_encoding = True
                    self._embeddings[key] = engine.look(path)
                self._embeddings.move_to_end(key)
                images.append(self._embeddings[key])
                if is_cancelled():
                    return None
            conversation.append(_prompt_message(message, images))
        while len(self._embeddings) > CACHED_EMBEDDINGS:
            self._embeddings.popitem(last=False)
        return None if is_cancelled() else conversation

    def _prepare(self, command: Prepare) -> None:
        """Prefill until interrupted by a request of the parent other than an answer that can use it."""

        def is_interrupted() -> bool:
            waiting = self._newest_count, self._newest_find
            return command is not self._newest_prepare or any(one is not None for one in waiting)

        while command is self._newest_prepare:
            self._answer_newest()
            try:
                engine = self._loaded()
                conversation = self._conversation(engine, command.messages, is_interrupted)
                if conversation is None:
                    continue
                if engine.prepare(conversation, command.sampling, cancelled=is_interrupted):
                    return
            except Exception as error:  # the question itself will fail in the same way, and report it
                if not isinstance(error, Minigpt4Error):
                    traceback.print_exc()
                return

    def _answer_newest(self) -> None:
        """Answer the newest count and the newest search for objects, also between two tokens of an answer,
        which they do not disturb.
        """
        count, self._newest_count = self._newest_count, None
        if count is not None:
            self._report_errors(count.request, partial(self._count, count))
        find, self._newest_find = self._newest_find, None
        if find is not None:
            self._report_errors(find.request, partial(self._find, find))

    def _find(self, command: FindObjects) -> None:
        found = self._loaded().objects(command.picture)
        self._send(ObjectsFound(command.request, tuple(found)))

    def _count(self, command: CountTokens) -> None:
        engine = self._loaded()
        counter = self._counter
        if counter is None:
            from minigpt4.core.worker.token_counter import TokenCounter

            counter = self._counter = TokenCounter(engine)
        sampling = (command.sampling or Sampling()).over(engine.bundle.sampling)
        conversation = [
            _prompt_message(
                one,
                [self._embeddings.get(_file_identity(path), counter.placeholder) for path in one.pictures],
            )
            for one in command.messages
        ]
        positions, dropped = counter.count(conversation, sampling.max_tokens)
        self._send(ContextUsage(command.request, positions, engine.language.context, dropped))


def _prompt_message(message: ChatMessage, images: Sequence[ImageEmbedding]) -> Message:
    """The message for the engine; lone surrogates, which are not valid text, become U+FFFD."""
    from minigpt4.core.prompt import Assistant, System, User

    text = message.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    match message.role:
        case "system":
            return System(text)
        case "assistant":
            return Assistant(text)
        case _:
            return User(text, images=tuple(images))


def _file_identity(path: Path) -> tuple[object, ...]:
    """A key that changes with the file; a missing file's key is never cached."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return (path,)
    return (path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text:
        return (
            "There is not enough memory for this; close other programs, or choose a smaller "
            "quantisation, a shorter context or the bundle 'mini'."
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full; free some space and try again."
    return f"This is a bug in minigpt4 ({type(error).__name__}: {text or 'no message'}); try again."


def _read_commands(commands: Connection, server: Server) -> None:
    try:
        while (command := receive(commands, Command)) is not None:
            server.receive(command)
    except ProtocolError as error:
        print(f"minigpt4: the parent's commands cannot be read: {error}", file=sys.stderr, flush=True)
        _exit(1)
    _exit(0)


def _exit(code: int) -> NoReturn:
    """End now, with all processes that this one started: the main thread may be deep in native code."""
    if not code and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(code)


def _be_killed_first() -> None:
    """If memory runs out, the kernel should kill the model, not the app that shows the conversation."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


if __name__ == "__main__":
    run(load_engine)
