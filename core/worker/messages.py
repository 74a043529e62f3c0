"""The messages between an engine's process and its parent, and how they cross a pipe.

They are pickled: both ends run this code. Texts may contain lone surrogates of odd file names. Nothing here
needs numpy or a model library.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, TypeVar

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.types import FoundObject, Sampling

MAX_MESSAGE_BYTES = 256 * 2**20
"""Four bytes of stray text, read as a length, nearly always exceed this."""


class ProtocolError(Exception):
    """The received bytes are not a message, or a message is too long to send."""


@dataclass(frozen=True)
class ChatMessage:
    """One message of a conversation, with the files of its pictures."""

    role: Literal["system", "user", "assistant"]
    text: str
    pictures: tuple[Path, ...] = ()


class Command:
    """A message from the parent to the engine's process."""


@dataclass(frozen=True)
class Load(Command):
    """Load this model; the first command of a process."""

    options: EngineOptions


@dataclass(frozen=True)
class Generate(Command):
    """Answer the last message, or continue it if it is the assistant's."""

    request: str
    messages: tuple[ChatMessage, ...]
    sampling: Sampling | None = None
    beams: int = 1


@dataclass(frozen=True)
class Prepare(Command):
    """Prefill everything that an answer to the last message needs but its text, which is not typed yet.

    Nothing is sent. A newer Prepare replaces it, and an answer that cannot use it ends it.
    """

    messages: tuple[ChatMessage, ...]
    sampling: Sampling | None = None

    def is_of_use_to(self, messages: tuple[ChatMessage, ...]) -> bool:
        """Whether the prompt of these messages begins with what this command computes."""
        untyped = tuple(replace(one, text="") for one in messages[-1:])
        return (*messages[:-1], *untyped) == self.messages


@dataclass(frozen=True)
class Cancel(Command):
    """End the answer to this request soon; unknown requests are ignored."""

    request: str


@dataclass(frozen=True)
class CountTokens(Command):
    """Count the positions of the context that these messages take."""

    request: str
    messages: tuple[ChatMessage, ...]
    sampling: Sampling | None = None


@dataclass(frozen=True)
class FindObjects(Command):
    """Send the objects of a picture; of several waiting requests only the newest is answered."""

    request: str
    picture: Path


class Event:
    """A message from the engine's process to its parent, or one created by the parent on its behalf."""


@dataclass(frozen=True)
class DownloadProgress(Event):
    """A file of the model is being downloaded: bytes `done` of `total` (None: unknown)."""

    file: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Notice(Event):
    """A sentence about an unusual step, such as quantising on the first start."""

    sentence: str


@dataclass(frozen=True)
class Ready(Event):
    """The model is loaded; `load_s` is the seconds that took, without downloads.

    `choices` are `Engine.choices`.
    """

    bundle: str
    backend: str
    context: int
    image_tokens: int
    load_s: float
    choices: Mapping[str, str] = field(default_factory=dict)
    by_itself: bool = False
    """Whether a question about a picture is read without the turns before it."""


@dataclass(frozen=True)
class Phase(Event):
    """What is being computed for a request: image embeddings, the prompt, or the answer's tokens."""

    request: str
    phase: Literal["encode", "prefill", "decode"]


@dataclass(frozen=True)
class TextDelta(Event):
    """More text of an answer, or of the reasoning before it; never empty, with the timings as in Finished."""

    request: str
    text: str
    first_token_s: float | None = None
    tokens_per_s: float | None = None
    is_reasoning: bool = False


@dataclass(frozen=True)
class ContextUsage(Event):
    """Positions of the context that a conversation takes, and how many of its oldest messages are dropped.

    Sent for every CountTokens, and for every answer before its first token. If `positions` exceeds
    `context`, the last message alone is too long.
    """

    request: str
    positions: int
    context: int
    dropped_messages: int


@dataclass(frozen=True)
class Finished(Event):
    """An answer is complete or cancelled; its text has been sent as TextDelta."""

    request: str
    finish: Literal["stop", "length", "cancelled"]
    prompt_tokens: int = 0
    answer_tokens: int = 0
    first_token_s: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True)
class ObjectsFound(Event):
    """The objects of a picture; empty if the bundle has no detector."""

    request: str
    objects: tuple[FoundObject, ...]


@dataclass(frozen=True)
class Failed(Event):
    """A request, or loading (`request` None), failed; the process keeps running."""

    request: str | None
    sentence: str


@dataclass(frozen=True)
class Exited(Event):
    """The process has ended: what happened, what to do, and the end of its stderr."""

    sentence: str
    advice: str
    details: str = ""


M = TypeVar("M", Command, Event)


def send(connection: Connection, message: Command | Event) -> None:
    """Write one message; raises ProtocolError if it is too long, OSError if the other end has closed."""
    data = pickle.dumps(message)
    if len(data) > MAX_MESSAGE_BYTES:
        raise ProtocolError(f"{len(data)} bytes are more than the {MAX_MESSAGE_BYTES} of one message")
    connection.send_bytes(data)


def receive(connection: Connection, kind: type[M]) -> M | None:
    """The next message; None once the other end has closed, even in the middle of a message.

    Raises ProtocolError for bytes that are not a message of this kind.
    """
    try:
        data = connection.recv_bytes(MAX_MESSAGE_BYTES)
    except EOFError:
        return None
    except OSError as error:
        # A connection closes itself on an impossible length, and stays open if the data ends early.
        if connection.closed:
            raise ProtocolError("an impossible message length") from error
        return None
    try:
        message = _Unpickler(io.BytesIO(data)).load()
    except Exception as error:  # stray bytes can raise nearly anything in a pickle
        raise ProtocolError(f"bytes that are not a message: {error}") from error
    if not isinstance(message, kind):
        raise ProtocolError(f"a {type(message).__name__} instead of a message")
    return message


class _Unpickler(pickle.Unpickler):
    """Creates only messages and the values in them, whatever bytes it reads."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] not in ("minigpt4", "pathlib"):
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a message")
        return super().find_class(module, name)
