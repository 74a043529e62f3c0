"""What the store hands out: plain values of a conversation, its messages and pictures."""

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
"""Digits of an id that people are shown; any beginning that only one id has is understood."""

TITLE_LENGTH = 60
"""Letters of a title made from a question: what a sidebar shows in one or two lines."""

HIT, HIT_END = "\x02", "\x03"
"""Marks around each hit in a snippet. No kept text holds them: `storable` takes them out."""

UNSTORABLE = re.compile(f"[\x00{HIT}{HIT_END}\ud800-\udfff]")


class StoreError(Minigpt4Error):
    """Kept conversations cannot be read or written, or there is none of that name."""


@dataclass(frozen=True)
class StoredPicture:
    """A picture of a message. Its bytes lie once at `path`, whoever else attached the same ones.

    `digest` is the SHA-256 (hex) of the file; `name` what the file was called when it was attached;
    `width` and `height` are those of the upright picture; `format` is Pillow's name of it (`JPEG`).
    """

    digest: str
    name: str
    width: int
    height: int
    format: str
    path: Path


@dataclass(frozen=True)
class StoredMessage:
    """One message; `parent` is the one that it answers or follows, None at the beginning."""

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
    """A conversation as a list shows it; `messages` counts those of every branch, times are Unix seconds."""

    id: str
    title: str
    created: float
    updated: float
    pinned: bool
    messages: int


@dataclass(frozen=True)
class WholeConversation:
    """A conversation with every branch, its messages in the order in which they were made.

    `named` tells a title that a person gave from one made of the first question; `leaf` is the
    message at which the shown path ends.
    """

    info: ConversationInfo
    named: bool
    settings: Settings
    leaf: str | None
    messages: tuple[StoredMessage, ...]


@dataclass(frozen=True)
class Hit:
    """A place where a search found something; `message_id` and `role` are None where it is the title.

    `conversation` is the conversation's id; in `snippet` HIT and HIT_END stand around what was found.
    """

    conversation: str
    title: str
    message_id: str | None
    role: Role | None
    created: float
    snippet: str


def storable(text: str) -> str:
    """The text with U+FFFD for what a database text cannot hold or what marks a hit.

    Half surrogates come from file names that are not UTF-8.
    """
    return UNSTORABLE.sub("\ufffd", text)


def title_of(text: str, pictures: Sequence[StoredPicture] = ()) -> str:
    """A conversation's title: its first question shortened, or its picture's name where nothing was asked."""
    # A pasted book needs only its beginning looked at.
    line = " ".join(text[: 20 * TITLE_LENGTH].split())
    if not line and pictures:
        line = " ".join(pictures[0].name.split())
    if len(line) <= TITLE_LENGTH:
        return line
    cut = line[: TITLE_LENGTH - 1]
    words = cut.rpartition(" ")[0]
    return (words if len(words) > TITLE_LENGTH // 2 else cut).rstrip(" ,.;:") + "…"
