"""The child's side of an engine in a process of its own: commands in, events out.

One thread reads commands, so that a cancel is heard while the model computes and the process ends
with its parent, however that one went: the pipe closes. The main thread alone touches the engine.
Model libraries are imported there, when the first command needs them.
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
from dataclasses import replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, cast

from minigpt4.core.errors import BackendError, Minigpt4Error
from minigpt4.core.worker.messages import (
    Answer,
    Cancel,
    Command,
    Count,
    Counted,
    EngineChoice,
    Event,
    Failed,
    Finished,
    Load,
    Loading,
    Notice,
    Phase,
    Ready,
    Said,
    SamplingFields,
    WireError,
    WireMessage,
    frame,
    read_command,
)

if TYPE_CHECKING:
    from minigpt4.core.download.fetch import FetchProgress
    from minigpt4.core.engine import Backend, Engine
    from minigpt4.core.prompt import Message
    from minigpt4.core.types import ImageEmbedding, Sampling
    from minigpt4.core.worker.token_counter import Counter

LoadEngine = Callable[[EngineChoice, Callable[["FetchProgress"], None], Callable[[str], None]], "Engine"]
"""Makes the engine of a choice, telling how fetching goes and what else takes its time."""

PROGRESS_S = 0.1
"""Between two reports of one file; more often shows nobody anything."""

PICTURES_REMEMBERED = 64
"""Embeddings kept between answers, up to 0.7 MB each, so that old pictures are not decoded again."""


def run(load_engine: LoadEngine) -> NoReturn:
    """Be an engine's process on standard input and output until the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    _die_before_others()
    serve(*own_pipes(), load_engine)


def own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes from and to the parent; whatever else prints goes to stderr from now on."""
    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return reader, writer


def serve(reader: BinaryIO, writer: BinaryIO, load_engine: LoadEngine) -> NoReturn:
    """Do what `reader` asks and tell `writer`; the process ends when the reader does."""
    service = Service(writer, load_engine)
    threading.Thread(target=_listen, args=(reader, service), daemon=True).start()
    try:
        service.work()
    except BrokenPipeError:
        _leave(0)
    except BaseException:
        # A normal exit would wait for the reading thread, or crash with it.
        traceback.print_exc()
        _leave(1)
    _leave(0)


def engine_of(
    choice: EngineChoice, progress: Callable[[FetchProgress], None], notice: Callable[[str], None]
) -> Engine:
    """The real engine, its missing files fetched first."""
    from minigpt4.core.engine import Engine

    return Engine.load(
        choice.bundle,
        backend=cast("Backend", choice.backend),
        device=choice.device,
        projection=choice.projection,
        threads=choice.threads,
        context=choice.context,
        quant=choice.quant,
        gpu_layers=choice.gpu_layers,
        dtype=choice.dtype,
        offload=choice.offload,
        progress=progress,
        notice=notice,
    )


class Service:
    """An engine and the commands that wait for it."""

    def __init__(self, writer: BinaryIO, load_engine: LoadEngine) -> None:
        self._writer = writer
        self._load_engine = load_engine
        self._engine: Engine | None = None
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._answering: set[str] = set()
        self._cancelled: set[str] = set()
        self._to_count: Count | None = None
        self._looked: OrderedDict[tuple[object, ...], ImageEmbedding] = OrderedDict()
        self._counter: Counter | None = None

    def take(self, command: Command) -> None:
        """Hear a command; called on the reading thread."""
        match command:
            case Cancel(request):
                if request in self._answering:
                    self._cancelled.add(request)
                return
            case Answer(request):
                self._answering.add(request)
            case Count():
                self._to_count = command
        self._commands.put(command)

    def work(self) -> NoReturn:
        """Do one command after the other, for ever."""
        while True:
            match self._commands.get():
                case Load(choice):
                    self._guarded(None, partial(self._load, choice))
                case Answer() as command:
                    self._guarded(command.request, partial(self._answer, command))
                    self._answering.discard(command.request)
                    self._cancelled.discard(command.request)
                case Count():
                    self._count_newest()

    def _tell(self, event: Event) -> None:
        self._writer.write(frame(event))
        self._writer.flush()

    def _guarded(self, request: str | None, action: Callable[[], None]) -> None:
        """Say what went wrong with one request; the next ones are served all the same."""
        try:
            action()
        except Minigpt4Error as error:
            self._tell(Failed(request, str(error)))
        except (ImportError, BrokenPipeError):
            # Without a package nothing will ever work, and the parent reads which it was on stderr.
            raise
        except Exception as error:
            traceback.print_exc()
            self._tell(Failed(request, _sentence(error)))

    def _load(self, choice: EngineChoice) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = self._counter = None
        self._looked.clear()
        begun = reported = time.monotonic()
        file = ""

        def progress(now: FetchProgress) -> None:
            nonlocal begun, reported, file
            begun = time.monotonic()
            if now.file != file or now.done == now.total or begun - reported >= PROGRESS_S:
                file, reported = now.file, begun
                self._tell(Loading(now.file, now.done, now.total))

        engine = self._load_engine(choice, progress, lambda sentence: self._tell(Notice(sentence)))
        self._engine = engine
        self._tell(
            Ready(
                engine.bundle.name,
                type(engine.language).__module__.rpartition(".")[2],
                engine.language.context,
                engine.bundle.projection.image_tokens,
                time.monotonic() - begun,
            )
        )

    def _loaded(self) -> Engine:
        if self._engine is None:
            raise BackendError("No model is loaded; choose one, or mend what kept it from loading.")
        return self._engine

    def _answer(self, command: Answer) -> None:
        request, engine = command.request, self._loaded()
        conversation = self._conversation(engine, command)
        if conversation is None:
            self._tell(Finished(request, "cancelled", ""))
            return
        reply = engine.reply(
            conversation,
            _sampling(command.sampling, engine.bundle.sampling),
            beams=command.beams,
            cancelled=lambda: request in self._cancelled,
        )
        self._tell(Counted(request, reply.prompt_tokens, engine.language.context, reply.dropped_messages))
        self._tell(Phase(request, "thinking"))
        is_writing = False
        for piece in reply:
            if not is_writing:
                self._tell(Phase(request, "writing"))
                is_writing = True
            self._tell(Said(request, piece.text, reply.first_token_s, reply.tokens_per_s))
            self._count_newest()
        self._tell(
            Finished(
                request,
                reply.finish or "stop",
                reply.text,
                reply.prompt_tokens,
                reply.answer_tokens,
                reply.first_token_s,
                reply.tokens_per_s,
            )
        )

    def _conversation(self, engine: Engine, command: Answer) -> list[Message] | None:
        """The messages with their pictures looked at; None where that was cancelled."""
        conversation: list[Message] = []
        is_looking = False
        for message in command.messages:
            images: list[ImageEmbedding] = []
            for path in message.pictures:
                key = _identity(path)
                if key not in self._looked:
                    if not is_looking:
                        self._tell(Phase(command.request, "looking"))
                        is_looking = True
                    self._looked[key] = engine.look(path)
                self._looked.move_to_end(key)
                images.append(self._looked[key])
                if command.request in self._cancelled:
                    return None
            conversation.append(as_message(message, images))
        while len(self._looked) > PICTURES_REMEMBERED:
            self._looked.popitem(last=False)
        return None if command.request in self._cancelled else conversation

    def _count_newest(self) -> None:
        """Count what was asked for last; also between two words of an answer, which it does not disturb."""
        command, self._to_count = self._to_count, None
        if command is not None:
            self._guarded(command.request, partial(self._count, command))

    def _count(self, command: Count) -> None:
        engine = self._loaded()
        counter = self._counter
        if counter is None:
            from minigpt4.core.worker.token_counter import Counter

            counter = self._counter = Counter(engine)
        sampling = _sampling(command.sampling, engine.bundle.sampling)
        conversation = [as_message(one, [counter.picture] * len(one.pictures)) for one in command.messages]
        positions, dropped = counter.count(conversation, sampling.max_tokens)
        self._tell(Counted(command.request, positions, engine.language.context, dropped))


def as_message(message: WireMessage, images: Sequence[ImageEmbedding]) -> Message:
    """A message as the engine reads it; half a surrogate pair, which is no text, becomes U+FFFD."""
    from minigpt4.core.prompt import Assistant, System, User

    text = message.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    match message.role:
        case "system":
            return System(text)
        case "assistant":
            return Assistant(text)
        case _:
            return User(text, images=tuple(images))


def _sampling(fields: SamplingFields | None, own: Sampling) -> Sampling:
    """The bundle's own sampling with the fields over it that somebody chose."""
    chosen: dict[str, Any] = {name: value for name, value in (fields or {}).items() if value is not None}
    return replace(own, **chosen)


def _identity(path: Path) -> tuple[object, ...]:
    """What changes when the file does; a file that is gone is like none that was seen."""
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


def _listen(reader: BinaryIO, service: Service) -> None:
    try:
        while (command := read_command(reader)) is not None:
            service.take(command)
    except WireError as error:
        print(f"minigpt4: the parent's commands cannot be read: {error}", file=sys.stderr, flush=True)
        _leave(1)
    _leave(0)


def _leave(code: int) -> NoReturn:
    """End now, with whatever this process started: the main thread may be deep in native code."""
    if not code and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(code)


def _die_before_others() -> None:
    """Where memory runs out it should be the model that goes, not the screen that shows the conversation."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
