"""The store's value types: conversations, messages and pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from minigpt4.core.errors import Minigpt4Error

Role = Literal["user", "assistant"]
State = Literal["done", "writing", "stopped", "failed"]
ROLES: tuple[Role, ...] = ("user", "assistant")
STATES: tuple[State, ...] = ("done", "writing", "stopped", "failed")

Stats = Mapping[str, float | int | str]
Settings = Mapping[str, Any]

SHOWN_ID = 8
"""Digits of an id that are displayed; any unique prefix is accepted."""

TITLE_LENGTH = 60
"""Characters of a title made from a question: one or two lines of the sidebar."""

HIT, HIT_END = "\x02", "\x03"
"""Marks around each hit in a snippet; `storable` removes them from stored text."""

UNSTORABLE = re.compile(f"[\x00{HIT}{HIT_END}\ud800-\udfff]")


class StoreError(Minigpt4Error):
    """The history cannot be read or written, or has no such conversation."""


@dataclass(frozen=True)
class StoredPicture:
    """A picture of a message, stored once at `path` however often it is attached.

    `digest` is the file's SHA-256 (hex), `name` its name when it was attached; `width` and `height` are
    those of the upright picture; `format` is Pillow's name (`JPEG`).
    """

    digest: str
    name: str
    width: int
    height: int
    format: str
    path: Path


@dataclass(frozen=True)
class StoredMessage:
    """One message; `parent` is the one before it, None for the first."""

    id: str
    parent: str | None
    role: Role
    text: str
    state: State
    pictures: tuple[StoredPicture, ...]
    created: float
    stats: Stats


@dataclass(frozen=True)
class ConversationInfo:
    """A conversation's list entry; `messages` counts all branches, times are Unix seconds."""

    id: str
    title: str
    created: float
    updated: float
    pinned: bool
    messages: int


@dataclass(frozen=True)
class WholeConversation:
    """A conversation with all branches, its messages in order of creation.

    `named`: the user gave the title, it is not made from the first question. `leaf` is the last message
    of the active branch.
    """

    info: ConversationInfo
    named: bool
    settings: Settings
    leaf: str | None
    messages: tuple[StoredMessage, ...]


@dataclass(frozen=True)
class Hit:
    """A search result; `message_id` and `role` are None for a title.

    `conversation` is an id; HIT and HIT_END enclose each match in `snippet`.
    """

    conversation: str
    title: str
    message_id: str | None
    role: Role | None
    created: float
    snippet: str


def storable(text: str) -> str:
    """The text with U+FFFD for characters that the database cannot store or that mark a hit.

    Lone surrogates come from file names that are not UTF-8.
    """
    return UNSTORABLE.sub("\ufffd", text)


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
