"""What an engine's process and its parent say to each other, and how that stands on a pipe.

A frame is a length (4 bytes, the largest first) and that many bytes of JSON in ASCII: an object
whose `kind` names one of the classes here and whose other keys are its fields. Texts keep whatever
they hold, lone surrogates of odd file names included. Nothing here needs numpy or a model library.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

LENGTH = struct.Struct(">I")

LONGEST_FRAME = 256 * 2**20
"""Bytes; four letters of stray text, read as a length, are nearly always more than this."""


class WireError(Exception):
    """What came is no frame, or what is to go is too long for one."""


class CutShortError(WireError):
    """The other end was gone before a frame was whole."""


@dataclass(frozen=True)
class EngineChoice:
    """Which model is to answer and how it runs; the fields are those of `Engine.load`."""

    bundle: str
    backend: str = "auto"
    device: str = "auto"
    projection: Path | None = None
    threads: int | None = None
    quant: str = "auto"
    gpu_layers: int | None = None
    context: int | None = None
    dtype: str | None = None
    offload: bool = False


@dataclass(frozen=True)
class WireMessage:
    """One message of a conversation, with the files of its pictures."""

    role: Literal["system", "user", "assistant"]
    text: str
    pictures: tuple[Path, ...] = ()


SamplingFields = Mapping[str, int | float | None]
"""Fields of a Sampling by name; one that is None or not there is the bundle's own."""


@dataclass(frozen=True)
class Load:
    """Load this model; the first command of a process."""

    choice: EngineChoice


@dataclass(frozen=True)
class Answer:
    """Answer the last message, or continue it where it is the assistant's."""

    request: str
    messages: tuple[WireMessage, ...]
    sampling: SamplingFields | None = None
    beams: int = 1


@dataclass(frozen=True)
class Cancel:
    """End the answer to this request soon; unknown ones are passed over."""

    request: str


@dataclass(frozen=True)
class Count:
    """Tell how many positions of the context these messages take."""

    request: str
    messages: tuple[WireMessage, ...]
    sampling: SamplingFields | None = None


Command = Load | Answer | Cancel | Count


@dataclass(frozen=True)
class Loading:
    """A file of the model is being fetched: bytes `done` of `total` (None: not known)."""

    file: str
    done: int
    total: int | None


@dataclass(frozen=True)
class Notice:
    """A sentence about something unusual that is being done, such as quantising the first time."""

    sentence: str


@dataclass(frozen=True)
class Ready:
    """The model is loaded; `load_s` are the seconds that took, those of fetching not counted."""

    bundle: str
    backend: str
    context: int
    image_tokens: int
    load_s: float


@dataclass(frozen=True)
class Phase:
    """What is being done for a request: pictures, the prompt, or the answer's words."""

    request: str
    phase: Literal["looking", "thinking", "writing"]


@dataclass(frozen=True)
class Said:
    """More of an answer, never empty, and how quick the answer is up to here, as Finished tells it."""

    request: str
    text: str
    first_token_s: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True)
class Counted:
    """What a conversation takes of the context, and how many of its oldest messages are left out.

    Comes for a count, and for every answer before its first word. More `positions` than `context`
    mean that the last message alone is too long.
    """

    request: str
    positions: int
    context: int
    dropped_messages: int


@dataclass(frozen=True)
class Finished:
    """An answer is over; `text` is all of it, also of a cancelled one."""

    request: str
    finish: Literal["stop", "length", "cancelled"]
    text: str
    prompt_tokens: int = 0
    answer_tokens: int = 0
    first_token_s: float | None = None
    tokens_per_s: float | None = None


@dataclass(frozen=True)
class Failed:
    """A request, or loading (`request` None), could not be done; the process lives on."""

    request: str | None
    sentence: str


@dataclass(frozen=True)
class Died:
    """The process is gone: what happened, what to do, and the end of what it wrote on stderr."""

    sentence: str
    advice: str
    details: str = ""


Event = Loading | Notice | Ready | Phase | Said | Counted | Finished | Failed | Died

COMMANDS: tuple[type[Command], ...] = (Load, Answer, Cancel, Count)
EVENTS: tuple[type[Event], ...] = (Loading, Notice, Ready, Phase, Said, Counted, Finished, Failed, Died)


def frame(value: Command | Event) -> bytes:
    """A command or event as it stands on the pipe; raises WireError where it is too long."""
    data = json.dumps({"kind": type(value).__name__, **asdict(value)}, default=str).encode("ascii")
    if len(data) > LONGEST_FRAME:
        raise WireError(f"{len(data)} bytes are more than the {LONGEST_FRAME} of one frame")
    return LENGTH.pack(len(data)) + data


def read_command(reader: BinaryIO) -> Command | None:
    """The next command, or None where the other end has closed; raises WireError."""
    fields = _read_fields(reader)
    if fields is None:
        return None
    try:
        match fields.pop("kind"):
            case "Load":
                return Load(_choice(fields["choice"]))
            case "Answer":
                return Answer(**{**fields, "messages": _messages(fields["messages"])})
            case "Count":
                return Count(**{**fields, "messages": _messages(fields["messages"])})
            case "Cancel":
                return Cancel(**fields)
            case kind:
                raise WireError(f"there is no command {kind!r}")
    except (KeyError, TypeError) as error:
        raise WireError(f"a command's fields are wrong: {error}") from error


def read_event(reader: BinaryIO) -> Event | None:
    """The next event, or None where the other end has closed; raises WireError."""
    fields = _read_fields(reader)
    if fields is None:
        return None
    kind = fields.pop("kind", None)
    for event in EVENTS:
        if event.__name__ == kind:
            try:
                return event(**fields)
            except TypeError as error:
                raise WireError(f"an event's fields are wrong: {error}") from error
    raise WireError(f"there is no event {kind!r}")


def _read_fields(reader: BinaryIO) -> dict[str, Any] | None:
    head = reader.read(LENGTH.size)
    if not head:
        return None
    if len(head) < LENGTH.size:
        raise CutShortError(f"a frame ended after {len(head)} bytes")
    (length,) = LENGTH.unpack(head)
    if not 0 < length <= LONGEST_FRAME:
        raise WireError(f"{head!r} is not the beginning of a frame")
    data = reader.read(length)
    if len(data) < length:
        raise CutShortError(f"a frame of {length} bytes ended after {len(data)}")
    try:
        fields = json.loads(data)
    except ValueError as error:
        raise WireError(f"a frame is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise WireError(f"a frame holds a {type(fields).__name__}, not an object")
    return fields


def _choice(fields: Mapping[str, Any]) -> EngineChoice:
    projection = fields["projection"]
    return EngineChoice(**{**fields, "projection": None if projection is None else Path(projection)})


def _messages(listed: Sequence[Mapping[str, Any]]) -> tuple[WireMessage, ...]:
    return tuple(
        WireMessage(one["role"], one["text"], tuple(Path(path) for path in one["pictures"])) for one in listed
    )
