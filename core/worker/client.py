"""An Engine in a separate process, for user interfaces that must never freeze.

    worker = Worker(print)
    worker.load(EngineOptions("mini"))
    worker.reply("1", [ChatMessage("user", "What is this?", (Path("photo.jpg"),))])
    ...
    worker.stop()

No method here waits for the model, and none imports a model library or numpy. Each model gets a
fresh process: killing the old one interrupts whatever it computes and frees all its memory.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, cast

from minigpt4.core.storage.working_folder import has_working_folder
from minigpt4.core.worker.exit_reason import STDERR_BYTES, exited, garbled, not_started
from minigpt4.core.worker.messages import (
    Cancel,
    ChatMessage,
    Command,
    CountTokens,
    Event,
    Failed,
    FindObjects,
    Finished,
    Generate,
    Load,
    Prepare,
    ProtocolError,
    receive,
    send,
)

if TYPE_CHECKING:
    from pathlib import Path

    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.types import Sampling

log = logging.getLogger(__name__)

# -P: a file called random.py in the working folder must not become Python's `random`.
COMMAND = (sys.executable, "-P", "-m", "minigpt4.core.worker.server")

NOT_RUNNING = "No model is running; choose one, or restart the one that ended."

STDERR_WAIT_S = 0.5
"""Longest wait for the rest of an exited process's stderr, which a child of it may keep open."""


class Worker:
    """A model in a child process.

    `on_event` gets one event at a time, mostly on the thread that reads the pipe, and must return at
    once: no more is read until then. Every request of `reply` ends in exactly one Finished or Failed,
    also if the process exits (before Exited) or another model replaces it (cancelled). After `stop`
    there are no more events.
    """

    def __init__(self, on_event: Callable[[Event], None], command: Sequence[str] | None = None) -> None:
        """`command` starts the child (see `server.run`); nothing is started before `load`."""
        self._on_event = on_event
        self._command = tuple(command or COMMAND)
        # Reentrant, and the same for the child: `on_event` may call `stop`.
        self._lock = threading.RLock()
        self._child: _Child | None = None

    def load(self, options: EngineOptions) -> None:
        """Start a process that loads this model, replacing any other; missing files are downloaded.

        Sends DownloadProgress and Notice, then Ready, Failed (request None) or Exited. Requests may
        follow at once and wait for it.
        """
        with self._lock:
            if self._child is not None:
                for request in self._child.kill():
                    self._emit(Finished(request, "cancelled"))
                self._child = None
            try:
                self._child = _Child(self._command, self._emit, self._lock)
            except OSError as error:
                self._emit(not_started(error, self._command[0]))
                return
            self._child.send(Load(options))

    def reply(
        self,
        request: str,
        messages: Sequence[ChatMessage],
        sampling: Sampling | None = None,
        *,
        beams: int = 1,
    ) -> None:
        """Answer the last message, or continue it if it is the assistant's; requests queue up.

        Fields of `sampling` that are None take the bundle's values. Sends ContextUsage, Phase and
        TextDelta, and at the end Finished or Failed.
        """
        self._request(Generate(request, tuple(messages), sampling, beams))

    def prepare(self, messages: Sequence[ChatMessage], sampling: Sampling | None = None) -> None:
        """Prefill everything but the text that an answer to the last message needs; nothing is sent.

        It stops for an answer that cannot use it. Ignored if there is no process.
        """
        with self._lock:
            if self._child is not None:
                self._child.send(Prepare(tuple(messages), sampling))

    def count(
        self,
        request: str,
        messages: Sequence[ChatMessage],
        sampling: Sampling | None = None,
    ) -> None:
        """Send the ContextUsage of the messages; of several waiting counts only the newest is answered."""
        self._request(CountTokens(request, tuple(messages), sampling))

    def find_objects(self, request: str, picture: Path) -> None:
        """Send the ObjectsFound of a picture, or Failed; of several waiting requests only the newest is
        answered, and none if the process ends before it.
        """
        self._request(FindObjects(request, picture))

    def cancel(self, request: str) -> None:
        """End an answer, begun or waiting; Finished ("cancelled") follows.

        Checked before each token, each chunk of the prompt and each picture.
        """
        with self._lock:
            if self._child is not None:
                self._child.send(Cancel(request))

    def stop(self, timeout: float = 0.3) -> None:
        """Kill the process and everything it started; waits `timeout` seconds at most.

        No event follows. `load` starts anew.
        """
        with self._lock:
            child, self._child = self._child, None
            if child is not None:
                child.kill()
        if child is not None:
            child.wait(timeout)

    @property
    def is_alive(self) -> bool:
        """Whether there is a process, loading or ready."""
        child = self._child
        return child is not None and not child.has_ended

    def _request(self, command: Generate | CountTokens | FindObjects) -> None:
        with self._lock:
            if self._child is None or not self._child.send(command):
                self._emit(Failed(command.request, NOT_RUNNING))

    def _emit(self, event: Event) -> None:
        """Call `on_event`; called with the lock."""
        try:
            self._on_event(event)
        except Exception:
            # An error in a closing screen must not end the reading thread.
            log.exception("The callback failed for an event of the model's process: %s", type(event).__name__)


class _Child:
    """One process, the threads at its pipes, and its unfinished requests."""

    def __init__(self, command: Sequence[str], emit: Callable[[Event], None], lock: threading.RLock) -> None:
        """Start it; raises OSError."""
        self.has_ended = False
        self._emit = emit
        self._lock = lock
        self._unfinished: list[str] = []
        self._commands: SimpleQueue[Command | None] = SimpleQueue()
        self._stderr = b""
        # A separate session: Ctrl+C at the terminal does not reach it, and the whole group can be killed.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            # torch cannot load its libraries in a folder that was deleted meanwhile.
            cwd=None if has_working_folder() else "/",
        )
        stdin, stdout, stderr = (
            cast("IO[bytes]", pipe)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        self._stderr_reader = _thread("stderr", self._read_stderr, stderr)
        _thread("commands", self._write, _connection(stdin, writable=True))
        _thread("events", self._read, _connection(stdout, writable=False))

    def send(self, command: Command) -> bool:
        """Queue a command without waiting for the pipe; False if the process has ended."""
        with self._lock:
            if self.has_ended:
                return False
            if isinstance(command, Generate):
                self._unfinished.append(command.request)
            self._commands.put(command)
            return True

    def kill(self) -> list[str]:
        """Kill it; it emits no more events. Returns the unfinished requests."""
        with self._lock:
            if self.has_ended:
                return []
            self._kill_group()
            return self._end()

    def wait(self, timeout: float) -> None:
        """Wait until the process has been reaped, `timeout` seconds at most."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def _end(self) -> list[str]:
        self.has_ended = True
        self._commands.put(None)
        unfinished, self._unfinished = self._unfinished, []
        return unfinished

    def _kill_group(self) -> None:
        # Once the process is reaped, its pid may be reused.
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _write(self, connection: Connection) -> None:
        with suppress(OSError), connection:
            while (command := self._commands.get()) is not None:
                try:
                    send(connection, command)
                except ProtocolError as error:
                    if isinstance(command, Generate | CountTokens):
                        self._handle(Failed(command.request, f"The conversation is too long: {error}."))

    def _read(self, connection: Connection) -> None:
        error = ""
        try:
            with connection:
                while (event := receive(connection, Event)) is not None:
                    self._handle(event)
        except ProtocolError as problem:
            error = str(problem)
            self._kill_group()
        self._reap(error)

    def _handle(self, event: Event) -> None:
        with self._lock:
            if self.has_ended:
                return
            if isinstance(event, Finished | Failed) and event.request in self._unfinished:
                self._unfinished.remove(event.request)
            self._emit(event)

    def _reap(self, protocol_error: str) -> None:
        """Reap the process and, unless `kill` ended it, emit how it exited."""
        # Until the process is reaped its pid is not reused, so that the whole group can be killed safely.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self._kill_group()
        code = self._process.wait()
        self._stderr_reader.join(STDERR_WAIT_S)
        stderr = self._stderr.decode(errors="replace").strip()
        event = garbled(protocol_error, stderr) if protocol_error else exited(code, stderr)
        with self._lock:
            if self.has_ended:
                return
            for request in self._end():
                self._emit(Failed(request, event.sentence))
            self._emit(event)

    def _read_stderr(self, pipe: IO[bytes]) -> None:
        with suppress(OSError), pipe:
            while data := os.read(pipe.fileno(), STDERR_BYTES):
                self._stderr = (self._stderr + data)[-STDERR_BYTES:]


def _connection(pipe: IO[bytes], *, writable: bool) -> Connection:
    """The pipe's own descriptor, duplicated: the file object would close it once more when collected."""
    with pipe:
        return Connection(os.dup(pipe.fileno()), readable=not writable, writable=writable)


def _thread(name: str, target: Callable[..., None], pipe: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=(pipe,), name=f"minigpt4-{name}", daemon=True)
    thread.start()
    return thread
