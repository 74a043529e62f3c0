"""An Engine in a process of its own, for screens that must never freeze.

    worker = Worker(print)
    worker.load(EngineChoice("mini"))
    worker.reply("1", [WireMessage("user", "What is this?", (Path("photo.jpg"),))])
    ...
    worker.stop()

No method here waits for the model, and none needs a model library or numpy to be imported. Each
model gets a fresh process: whatever an old one is deep in ends at once, and all its memory is free.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from queue import SimpleQueue
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from minigpt4.core.errors import UsageError
from minigpt4.core.worker.event_queue import Deliveries
from minigpt4.core.worker.exit_reason import DETAILS, died, nonsense, not_started
from minigpt4.core.worker.messages import (
    Answer,
    Cancel,
    Command,
    Count,
    Counted,
    CutShortError,
    Died,
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
    read_event,
)

if TYPE_CHECKING:
    from minigpt4.core.types import Sampling

__all__ = [
    "Counted",
    "Died",
    "EngineChoice",
    "Event",
    "Failed",
    "Finished",
    "Loading",
    "Notice",
    "Phase",
    "Ready",
    "Said",
    "WireMessage",
    "Worker",
]

# -P: a file called random.py in the working folder must not become Python's `random`.
COMMAND = (sys.executable, "-P", "-m", "minigpt4.core.worker.client")

NOT_RUNNING = "No model is running; choose one, or restart the one that ended."

LAST_WORDS_S = 0.5
"""Longest wait for the rest of a dead process's stderr, which something it started may still hold."""


class Worker:
    """A model in a child process; `on_event` is called on one thread, with one event at a time.

    Every request of `reply` ends in exactly one Finished or Failed, also where the process dies (then
    before Died) or another model takes its place (cancelled, with the text so far); after `stop`
    nothing is delivered any more. Words that came while `on_event` was busy arrive as one.
    """

    def __init__(self, on_event: Callable[[Event], None], command: Sequence[str] | None = None) -> None:
        """`command` starts the child (see `serving.run`); nothing is started before `load`."""
        self._on_event = on_event
        self._command = tuple(command or COMMAND)
        self._lock = threading.Lock()
        self._deliveries: Deliveries | None = None
        self._child: _Child | None = None
        self._choice: EngineChoice | None = None

    def load(self, choice: EngineChoice) -> None:
        """Start a process that loads this model, in place of any other one; missing files are fetched.

        Tells of it by Loading and Notice, then Ready, Failed (request None) or Died. Requests may
        follow at once and wait for it.
        """
        with self._lock:
            self._choice = choice
            if self._child is not None:
                self._child.end(is_replaced=True)
                self._child = None
            deliveries = self._deliveries = self._deliveries or Deliveries(self._on_event)
            try:
                self._child = _Child(self._command, deliveries)
            except OSError as error:
                deliveries.post(self, not_started(error, self._command[0]))
                return
            self._child.send(Load(choice))

    def restart(self) -> None:
        """Load the same model again, in a new process. Raises UsageError where none was chosen."""
        if self._choice is None:
            raise UsageError("There is no model to restart; choose one first.")
        self.load(self._choice)

    def reply(
        self,
        request: str,
        messages: Sequence[WireMessage],
        sampling: Sampling | SamplingFields | None = None,
        *,
        beams: int = 1,
    ) -> None:
        """Answer the last message, or continue it where it is the assistant's; one after the other.

        Of `sampling`, fields that are None or left out are the bundle's own. Tells of it by Counted,
        Phase and Said, and at the end by Finished or Failed.
        """
        self._ask(Answer(request, tuple(messages), _fields(sampling), beams))

    def count(
        self,
        request: str,
        messages: Sequence[WireMessage],
        sampling: Sampling | SamplingFields | None = None,
    ) -> None:
        """Tell by Counted what the messages take; of counts that wait only the newest is answered."""
        self._ask(Count(request, tuple(messages), _fields(sampling)))

    def cancel(self, request: str) -> None:
        """End an answer, whether begun or waiting: Finished ("cancelled") follows, with what was said.

        It is heeded before the next token, the next part of the prompt or the next picture.
        """
        with self._lock:
            if self._child is not None:
                self._child.send(Cancel(request))

    def stop(self, timeout: float = 0.3) -> None:
        """End the process and everything it started; waits `timeout` seconds at most.

        No event is begun afterwards. `load` and `restart` start anew.
        """
        with self._lock:
            child, self._child = self._child, None
            deliveries, self._deliveries = self._deliveries, None
        if deliveries is not None:
            deliveries.close()
        if child is not None:
            child.end(is_replaced=False)
            child.wait(timeout)

    @property
    def is_alive(self) -> bool:
        """Whether there is a process, loading or ready."""
        child = self._child
        return child is not None and not child.is_over

    def _ask(self, command: Answer | Count) -> None:
        with self._lock:
            if self._child is not None and self._child.send(command):
                return
            self._deliveries = self._deliveries or Deliveries(self._on_event)
            self._deliveries.post(self, Failed(command.request, NOT_RUNNING))


class _Child:
    """One process, the threads at its pipes, and the requests that it owes an end."""

    def __init__(self, command: Sequence[str], deliveries: Deliveries) -> None:
        """Start it; raises OSError."""
        self.is_over = False
        self._deliveries = deliveries
        self._lock = threading.Lock()
        self._owed: dict[str, list[str]] = {}
        self._commands: SimpleQueue[Command | None] = SimpleQueue()
        self._stderr: deque[bytes] = deque()
        # A session of its own: Ctrl+C at the terminal is the screen's, and all of it can be killed at once.
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        stdin, stdout, stderr = (
            cast("IO[bytes]", pipe)
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr)
        )
        self._stderr_reader = _thread("stderr", self._keep_stderr, stderr)
        _thread("commands", self._write, stdin)
        _thread("pipe", self._read, stdout)

    def send(self, command: Command) -> bool:
        """Hand over a command without waiting for the pipe; False where the process is gone."""
        with self._lock:
            if self.is_over:
                return False
            if isinstance(command, Answer):
                self._owed[command.request] = []
            self._commands.put(command)
            return True

    def end(self, *, is_replaced: bool) -> None:
        """Kill it without a word of its death; where it is replaced its requests end as cancelled."""
        with self._lock:
            if not self.is_over:
                self.is_over = True
                self._kill()
                if is_replaced:
                    for request, texts in self._owed.items():
                        self._deliveries.post(self, Finished(request, "cancelled", "".join(texts)))
            self._owed.clear()
            self._commands.put(None)
        if is_replaced:
            self._deliveries.withdraw(self)

    def wait(self, timeout: float) -> None:
        """Wait until the system has taken the process back, `timeout` seconds at most."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)

    def _kill(self) -> None:
        # A process that was taken back has given its number to somebody else.
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _write(self, pipe: IO[bytes]) -> None:
        with suppress(OSError), pipe:
            while (command := self._commands.get()) is not None:
                try:
                    pipe.write(frame(command))
                    pipe.flush()
                except WireError as error:
                    if isinstance(command, Answer | Count):
                        self._hear(Failed(command.request, f"The conversation is too long: {error}."))

    def _read(self, pipe: IO[bytes]) -> None:
        fault = None
        try:
            with pipe:
                while (event := read_event(cast("BinaryIO", pipe))) is not None:
                    self._hear(event)
        except CutShortError:
            # What killed the process in the middle of a word is told below.
            pass
        except (WireError, OSError) as error:
            fault = str(error)
            self._kill()
        self._mourn(fault)

    def _hear(self, event: Event) -> None:
        with self._lock:
            if self.is_over:
                return
            match event:
                case Said(request, text) if request in self._owed:
                    self._owed[request].append(text)
                case Finished(request) | Failed(str(request)):
                    self._owed.pop(request, None)
            self._deliveries.post(self, event)

    def _mourn(self, fault: str | None) -> None:
        """Take the process back and, where nobody ended it, tell how it went."""
        # Until it is taken back its number is nobody else's, so that the whole group can be killed safely.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            self._kill()
        code = self._process.wait()
        self._stderr_reader.join(LAST_WORDS_S)
        said = b"".join(tuple(self._stderr))[-DETAILS:].decode(errors="replace").strip()
        death = died(code, said) if fault is None else nonsense(fault, said)
        with self._lock:
            if self.is_over:
                return
            self.is_over = True
            for request in self._owed:
                self._deliveries.post(self, Failed(request, death.sentence))
            self._owed.clear()
            self._commands.put(None)
            self._deliveries.post(self, death)

    def _keep_stderr(self, pipe: IO[bytes]) -> None:
        held = 0
        with suppress(OSError), pipe:
            while data := os.read(pipe.fileno(), DETAILS):
                self._stderr.append(data)
                held += len(data)
                while held - len(self._stderr[0]) >= DETAILS:
                    held -= len(self._stderr.popleft())


def _fields(sampling: Sampling | SamplingFields | None) -> SamplingFields | None:
    return sampling if sampling is None or isinstance(sampling, Mapping) else asdict(sampling)


def _thread(name: str, target: Callable[[IO[bytes]], None], pipe: IO[bytes]) -> threading.Thread:
    thread = threading.Thread(target=target, args=(pipe,), name=f"minigpt4-{name}", daemon=True)
    thread.start()
    return thread


def main() -> None:
    """The child: an engine on standard input and output."""
    from minigpt4.core.worker.server import engine_of, run

    run(engine_of)


if __name__ == "__main__":
    main()
