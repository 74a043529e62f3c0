"""The store's value types: conversations, messages and pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from minigpt4.core.errors import Minigpt4Error

Role = Literal["user", "assistant"]
State = Literal["done", "writing", "stopped", "failed"]

Stats = Mapping[str, float | int | str]
Settings = Mapping[str, Any]

SHOWN_ID = 8
"""Digits of an id that are displayed; any unique prefix is accepted."""

TITLE_LENGTH = 60
"""Characters of a title made from a question: one or two lines of the sidebar."""

HIT, HIT_END = "\x02", "\x03"
"""Marks around each hit in a snippet; `storable` removes them from stored text."""

UNSTORABLE = re.compile(f"[\x00{HIT}{HIT_END}\ud800-\udfff]")


def storable(text: str) -> str:
    """The text with U+FFFD for characters that the database cannot store or that mark a hit.

    Lone surrogates come from file names that are not UTF-8.
    """
    return UNSTORABLE.sub("\ufffd", text)


def one_line(text: str) -> str:
    """The storable text with line breaks and runs of spaces as one space."""
    return " ".join(storable(text).split())


# What the fields of an imported file may hold, for core/storage/dataclass_toml.py.
ID = {"accepts": re.compile("[A-Za-z0-9_-]{1,64}").fullmatch, "expected": "1 to 64 letters, digits, - or _"}
FORMAT = {"accepts": re.compile("[A-Z0-9]{2,12}").fullmatch, "expected": "a picture format such as JPEG"}
TEXT, LINE = {"convert": storable}, {"convert": one_line}
SIDE = {"least": 0, "most": 1_000_000}
TIME = {"least": 0, "most": 253_402_214_400}
"""Until the last day of the year 9999: later times cannot be formatted."""


class StoreError(Minigpt4Error):
    """The history cannot be read or written, or has no such conversation."""


@dataclass(frozen=True)
class StoredPicture:
    """A picture of a message, stored once at `path` however often it is attached.

    `digest` is the file's SHA-256 (hex), `name` its name when it was attached; `width` and `height` are
    those of the upright picture; `format` is Pillow's name (`JPEG`).
    """

    digest: str
    name: str = field(metadata=TEXT)
    width: int = field(metadata=SIDE)
    height: int = field(metadata=SIDE)
    format: str = field(metadata=FORMAT)
    path: Path


@dataclass(frozen=True)
class StoredMessage:
    """One message; `parent` is the one before it, None for the first."""

    id: str = field(metadata=ID)
    parent: str | None
    role: Role
    text: str = field(metadata=TEXT)
    state: State
    pictures: tuple[StoredPicture, ...]
    created: float = field(metadata=TIME)
    stats: Stats


@dataclass(frozen=True)
class ConversationInfo:
    """A conversation's list entry; `messages` counts all branches, times are Unix seconds."""

    id: str = field(metadata=ID)
    title: str = field(metadata=LINE)
    created: float = field(metadata=TIME)
    updated: float = field(metadata=TIME)
    pinned: bool
    messages: int


@dataclass(frozen=True)
class ListedConversation(ConversationInfo):
    """An entry of the list with the names of its pictures, in the order given, each picture once."""

    pictures: tuple[str, ...]


@dataclass(frozen=True)
class WholeConversation:
    """A conversation with all branches, its messages in order of creation.

    `named`: the title comes from the user and not from the first question. `leaf` is the last message
    of the active branch.
    """

    info: ConversationInfo
    named: bool
    settings: Settings
    leaf: str | None
    messages: tuple[StoredMessage, ...]


class Hit(NamedTuple):
    """A search result; `message_id` and `role` are None for a title.

    `conversation` is an id; HIT and HIT_END enclose each match in `snippet`.
    """

    conversation: str
    title: str
    message_id: str | None
    role: Role | None
    created: float
    snippet: str


def title_of(text: str, pictures: Sequence[StoredPicture] = ()) -> str:
    """A conversation's title: its first question, shortened; the picture's name if that is empty."""
    # Split only the beginning of a pasted book.
    line = " ".join(text[: 20 * TITLE_LENGTH].split())
    if not line and pictures:
        line = " ".join(pictures[0].name.split())
    if len(line) <= TITLE_LENGTH:
        return line
    cut = line[: TITLE_LENGTH - 1]
    words = cut.rpartition(" ")[0]
    return (words if len(words) > TITLE_LENGTH // 2 else cut).rstrip(" ,.;:") + "…"
