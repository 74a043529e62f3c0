"""Lossless export and import of conversations, with their pictures, as JSON.

A file has `format`, `version`, `conversations`, each with all branches, and `pictures`: by digest their
size and, in base64, the file's bytes (null if the file was missing). An imported file may come from
strangers: it is validated completely before anything is stored.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from minigpt4.tui.history.records import (
    ROLES,
    STATES,
    ConversationInfo,
    Role,
    State,
    StoredMessage,
    StoredPicture,
    StoreError,
    WholeConversation,
    storable,
)
from minigpt4.tui.history.rows import as_stored, new_id
from minigpt4.tui.history.store import Store

if TYPE_CHECKING:
    from minigpt4.core.pixels import Picture

FORMAT = "minigpt4-conversations"
FORMAT_VERSION = 1

ID = r"[A-Za-z0-9_-]{1,64}"
DIGEST = r"[0-9a-f]{64}"
KIND = r"[A-Z0-9]{2,12}"

LATEST = 253_402_214_400.0
"""The last day of the year 9999: later times cannot be formatted."""

LARGEST_SIDE = 1_000_000


@dataclass(frozen=True)
class Imported:
    """The result of an import: new conversations, and those that already existed, identical."""

    added: tuple[ConversationInfo, ...]
    known: tuple[ConversationInfo, ...]


def to_json(store: Store, conversations: Sequence[str]) -> str:
    """The conversations with those ids, with all branches and pictures, as one JSON text."""
    wholes = [store.whole(conversation) for conversation in conversations]
    pictures = {
        picture.digest: picture for whole in wholes for one in whole.messages for picture in one.pictures
    }
    document = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "conversations": [_conversation(whole) for whole in wholes],
        "pictures": {digest: _picture(pictures[digest]) for digest in sorted(pictures)},
    }
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def from_json(store: Store, text: str | bytes) -> Imported:
    """Import an exported file's conversations: all of them or, if the file is invalid, none.

    An identical existing conversation is left alone (and restored if it was deleted); one whose id is
    taken by another is added under new ids. Raises StoreError or ImageError.
    """
    document = _parsed(text)
    pictures: dict[str, StoredPicture] = {}
    opened: list[Picture] = []
    for digest, item in document.child("pictures").children_by_name():
        pictures[digest], picture = _read_picture(store, digest, item)
        if picture is not None:
            opened.append(picture)
    wholes = [_read_conversation(item, pictures) for item in document.children("conversations")]
    for picture in opened:
        pictures[picture.digest] = store.keep_picture(picture, picture.name)
    added: list[WholeConversation] = []
    known: list[ConversationInfo] = []
    taken = store.taken({one for whole in wholes for one in _ids(whole)})
    for whole in (_with_pictures(whole, pictures) for whole in wholes):
        if whole.info.id in taken and _exists(store, whole):
            store.undelete(whole.info.id)
            known.append(whole.info)
            continue
        added.append(_with_new_ids(whole) if taken & set(_ids(whole)) else whole)
        taken |= set(_ids(whole))
    store.add_whole(added)
    return Imported(tuple(whole.info for whole in added), tuple(known))


def _conversation(whole: WholeConversation) -> dict[str, Any]:
    return {
        "id": whole.info.id,
        "title": whole.info.title,
        "named": whole.named,
        "created": whole.info.created,
        "updated": whole.info.updated,
        "pinned": whole.info.pinned,
        "settings": dict(whole.settings),
        "leaf": whole.leaf,
        "messages": [
            {
                "id": message.id,
                "parent": message.parent,
                "role": message.role,
                "text": message.text,
                "state": message.state,
                "created": message.created,
                "stats": dict(message.stats),
                "pictures": [{"digest": one.digest, "name": one.name} for one in message.pictures],
            }
            for message in whole.messages
        ],
    }


def _picture(picture: StoredPicture) -> dict[str, Any]:
    try:
        data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    except OSError:
        data = None
    return {"format": picture.format, "width": picture.width, "height": picture.height, "data": data}


class _Object:
    """One object of the file; `where` names it in error messages."""

    def __init__(self, value: object, where: str) -> None:
        if not isinstance(value, dict):
            raise StoreError(
                f"{where} of the exported conversations is not an object; the file was not imported."
            )
        self.value: dict[str, Any] = value
        self.where = where

    def error(self, key: str, expected: str) -> StoreError:
        shown = repr(self.value.get(key))[:60]
        return StoreError(f"{key} of {self.where} is {shown}, not {expected}; the file was not imported.")

    def text(self, key: str, pattern: str | None = None) -> str:
        value = self.value.get(key)
        if not isinstance(value, str) or (pattern is not None and re.fullmatch(pattern, value) is None):
            raise self.error(key, "a string" if pattern is None else "a valid name")
        return storable(value)

    def name_or_none(self, key: str) -> str | None:
        return None if self.value.get(key) is None else self.text(key, ID)

    def flag(self, key: str) -> bool:
        value = self.value.get(key)
        if not isinstance(value, bool):
            raise self.error(key, "true or false")
        return value

    def number(self, key: str, most: float) -> float:
        value = self.value.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise self.error(key, f"a number from 0 to {most:.0f}")
        return value

    def child(self, key: str) -> _Object:
        return _Object(self.value.get(key), f"{key} of {self.where}")

    def children(self, key: str) -> list[_Object]:
        value = self.value.get(key)
        if not isinstance(value, list):
            raise self.error(key, "a list")
        return [_Object(one, f"{key}[{number}] of {self.where}") for number, one in enumerate(value)]

    def children_by_name(self) -> list[tuple[str, _Object]]:
        return [(name, _Object(one, f"{name[:64]} of {self.where}")) for name, one in self.value.items()]


def _parsed(text: str | bytes) -> _Object:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"This is not a file of exported conversations: {str(error)[:100]}.") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StoreError(
            "This is not a file of exported conversations; `minigpt4 history export` makes them."
        )
    item = _Object(document, "the file")
    if item.number("version", math.inf) > FORMAT_VERSION:
        raise StoreError("These conversations were exported by a newer minigpt4; update this one.")
    return item


def _read_picture(store: Store, digest: str, item: _Object) -> tuple[StoredPicture, Picture | None]:
    if re.fullmatch(DIGEST, digest) is None:
        raise StoreError(f"{item.where} is not a SHA-256 digest; the file was not imported.")
    kind = item.text("format", KIND)
    width, height = (int(item.number(key, LARGEST_SIDE)) for key in ("width", "height"))
    picture = StoredPicture(digest, "", width, height, kind, store.picture_path(digest, kind))
    if item.value.get("data") is None:
        return picture, None
    try:
        content = base64.b64decode(item.text("data"), validate=True)
    except (binascii.Error, ValueError) as error:
        raise item.error("data", "base64") from error
    # Imported late: text alone need neither numpy nor Pillow.
    from minigpt4.core.pixels import open_picture

    opened = open_picture(content, f"Picture {digest[:12]}")
    if opened.digest != digest:
        raise StoreError(f"The bytes of {item.where} do not match that digest; the file was not imported.")
    return picture, opened


def _read_conversation(item: _Object, pictures: dict[str, StoredPicture]) -> WholeConversation:
    messages: dict[str, StoredMessage] = {}
    for described in item.children("messages"):
        message = _read_message(described, pictures)
        if message.id in messages:
            raise described.error("id", "one that no other message has")
        if message.parent is not None and message.parent not in messages:
            # This also rules out cycles.
            raise described.error("parent", "an earlier message")
        messages[message.id] = message
    leaf = item.name_or_none("leaf")
    if leaf is not None and leaf not in messages:
        raise item.error("leaf", "one of its messages")
    info = ConversationInfo(
        item.text("id", ID),
        " ".join(item.text("title").split()),
        float(item.number("created", LATEST)),
        float(item.number("updated", LATEST)),
        item.flag("pinned"),
        len(messages),
    )
    settings = as_stored(item.child("settings").value)
    return WholeConversation(info, item.flag("named"), settings, leaf, tuple(messages.values()))


def _read_message(item: _Object, pictures: dict[str, StoredPicture]) -> StoredMessage:
    role: Role | None = next((one for one in ROLES if one == item.value.get("role")), None)
    state: State | None = next((one for one in STATES if one == item.value.get("state")), None)
    if role is None:
        raise item.error("role", " or ".join(ROLES))
    if state is None:
        raise item.error("state", " or ".join(STATES))
    shown = []
    for one in item.children("pictures"):
        digest = one.text("digest", DIGEST)
        if digest not in pictures:
            raise one.error("digest", "one of the file's pictures")
        shown.append(replace(pictures[digest], name=one.text("name")))
    stats = item.child("stats")
    for key, value in stats.value.items():
        if not isinstance(value, str | int | float):
            raise stats.error(key, "a string or a number")
    return StoredMessage(
        item.text("id", ID),
        item.name_or_none("parent"),
        role,
        item.text("text"),
        # The instance that was writing it when it was exported does not write it here.
        "stopped" if state == "writing" else state,
        tuple(shown),
        float(item.number("created", LATEST)),
        as_stored(stats.value),
    )


def _with_pictures(whole: WholeConversation, pictures: dict[str, StoredPicture]) -> WholeConversation:
    """The conversation with its pictures as they are stored."""
    messages = tuple(
        replace(one, pictures=tuple(replace(pictures[old.digest], name=old.name) for old in one.pictures))
        for one in whole.messages
    )
    return replace(whole, messages=messages)


def _ids(whole: WholeConversation) -> list[str]:
    return [whole.info.id, *(message.id for message in whole.messages)]


def _exists(store: Store, whole: WholeConversation) -> bool:
    try:
        return store.whole(whole.info.id) == whole
    except StoreError:
        # The id belongs to a message.
        return False


def _with_new_ids(whole: WholeConversation) -> WholeConversation:
    """The same conversation under new ids."""
    fresh = {name: new_id() for name in _ids(whole)}
    return replace(
        whole,
        info=replace(whole.info, id=new_id()),
        leaf=None if whole.leaf is None else fresh[whole.leaf],
        messages=tuple(
            replace(one, id=fresh[one.id], parent=None if one.parent is None else fresh[one.parent])
            for one in whole.messages
        ),
    )
