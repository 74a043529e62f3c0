"""Lossless export and import of conversations, with their pictures, as JSON.

A file has `format`, `version`, `conversations`, each with all branches, and `pictures`, by digest: their
format, size and the file's bytes in base64 (null if the file was missing). An imported file may come from
strangers: it is validated completely before anything is stored.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt4.core.storage.dataclass_toml import InvalidValueError, as_written, read
from minigpt4.tui.history.records import (
    ConversationInfo,
    State,
    StoredMessage,
    StoredPicture,
    StoreError,
    WholeConversation,
)
from minigpt4.tui.history.rows import as_stored, new_id
from minigpt4.tui.history.store import Store

if TYPE_CHECKING:
    from minigpt4.core.pixels import Picture

FORMAT = "minigpt4-conversations"
FORMAT_VERSION = 1

DIGEST = r"[0-9a-f]{64}"


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
    try:
        for digest in _object(document, "pictures"):
            pictures[digest], picture = _read_picture(store, digest, document["pictures"])
            if picture is not None:
                opened.append(picture)
        wholes = [
            _read_conversation(table, prefix, pictures)
            for prefix, table in _objects(document, "conversations")
        ]
    except InvalidValueError as error:
        raise StoreError(f"{error} The file was not imported.") from None
    for picture in opened:
        store.keep_picture(picture, picture.name)
    added: list[WholeConversation] = []
    known: list[ConversationInfo] = []
    taken = store.taken({one for whole in wholes for one in _ids(whole)})
    for whole in wholes:
        if whole.info.id in taken and _exists(store, whole):
            store.undelete(whole.info.id)
            known.append(whole.info)
            continue
        added.append(_with_new_ids(whole) if taken & set(_ids(whole)) else whole)
        taken |= set(_ids(whole))
    store.add_whole(added)
    return Imported(tuple(whole.info for whole in added), tuple(known))


def _conversation(whole: WholeConversation) -> dict[str, Any]:
    info = whole.info
    return {
        "id": info.id,
        "title": info.title,
        "named": whole.named,
        "created": info.created,
        "updated": info.updated,
        "pinned": info.pinned,
        "settings": whole.settings,
        "leaf": whole.leaf,
        "messages": [_message(message) for message in whole.messages],
    }


def _message(message: StoredMessage) -> dict[str, Any]:
    pictures = [{"digest": kept.digest, "name": kept.name} for kept in message.pictures]
    fields = {name: value for name, value in vars(message).items() if name != "pictures"}
    return {**fields, "pictures": pictures}


def _picture(picture: StoredPicture) -> dict[str, Any]:
    try:
        data = base64.b64encode(picture.path.read_bytes()).decode("ascii")
    except OSError:
        data = None
    return {"format": picture.format, "width": picture.width, "height": picture.height, "data": data}


def _parsed(text: str | bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"This is not a file of exported conversations: {str(error)[:100]}.") from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise StoreError(
            "This is not a file of exported conversations; `minigpt4 history export` writes such files."
        )
    if document.get("version") != FORMAT_VERSION:
        raise StoreError("These conversations were exported by a newer minigpt4; update this one.")
    return document


def _object(table: Mapping[str, Any], key: str, prefix: str = "") -> dict[str, Any]:
    """The JSON object of a key; `prefix` begins the key's name in messages."""
    value = table.get(key)
    if not isinstance(value, dict):
        raise InvalidValueError(f"{prefix}{key}", f"is {as_written(value)}; it must be an object")
    return value


def _objects(table: Mapping[str, Any], key: str, prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a list, each with the prefix of its keys."""
    items = table.get(key)
    if not isinstance(items, list) or not all(isinstance(one, dict) for one in items):
        raise InvalidValueError(f"{prefix}{key}", f"is {as_written(items)}; it must be a list of objects")
    for place, one in enumerate(items):
        yield f"{prefix}{key}[{place}].", one


def _read_picture(
    store: Store, digest: str, tables: Mapping[str, Any]
) -> tuple[StoredPicture, Picture | None]:
    name = f"pictures.{digest[:64]}"
    if re.fullmatch(DIGEST, digest) is None:
        raise InvalidValueError(name, "is not a SHA-256 digest")
    table = _object(tables, digest, "pictures.")
    picture = read(StoredPicture, table, f"{name}.", strict=False, digest=digest, name="", path=Path())
    picture = replace(picture, path=store.picture_path(digest, picture.format))
    if table.get("data") is None:
        return picture, None
    try:
        content = base64.b64decode(table["data"], validate=True)
    except (TypeError, ValueError):
        raise InvalidValueError(f"{name}.data", f"is {as_written(table['data'])}, not base64") from None
    # Imported late: text alone needs neither numpy nor Pillow.
    from minigpt4.core.pixels import open_picture

    opened = open_picture(content, f"Picture {digest[:12]}")
    if opened.digest != digest:
        raise InvalidValueError(name, "has the bytes of another picture")
    # The file may describe it wrongly.
    (width, height), kind = opened.info.size, opened.info.format
    return StoredPicture(digest, "", width, height, kind, store.picture_path(digest, kind)), opened


def _read_conversation(
    table: Mapping[str, Any], prefix: str, pictures: Mapping[str, StoredPicture]
) -> WholeConversation:
    messages: dict[str, StoredMessage] = {}
    for own_prefix, described in _objects(table, "messages", prefix):
        message = _read_message(described, own_prefix, pictures)
        if message.id in messages:
            raise InvalidValueError(f"{own_prefix}id", "is another message's, too")
        if message.parent is not None and message.parent not in messages:
            # This also rules out cycles.
            raise InvalidValueError(f"{own_prefix}parent", "is not an earlier message")
        messages[message.id] = message
    whole = read(
        WholeConversation,
        table,
        prefix,
        strict=False,
        info=read(ConversationInfo, table, prefix, strict=False, messages=len(messages)),
        settings=as_stored(_object(table, "settings", prefix)),
        messages=tuple(messages.values()),
    )
    if whole.leaf is not None and whole.leaf not in messages:
        raise InvalidValueError(f"{prefix}leaf", "is not one of the messages")
    return whole


def _read_message(
    table: Mapping[str, Any], prefix: str, pictures: Mapping[str, StoredPicture]
) -> StoredMessage:
    attached = []
    for own_prefix, described in _objects(table, "pictures", prefix):
        digest = described.get("digest")
        if not isinstance(digest, str) or digest not in pictures:
            problem = f"is {as_written(digest)}, not one of the file's pictures"
            raise InvalidValueError(f"{own_prefix}digest", problem)
        known = {key: value for key, value in vars(pictures[digest]).items() if key != "name"}
        attached.append(read(StoredPicture, described, own_prefix, strict=False, **known))
    message = read(StoredMessage, table, prefix, strict=False, pictures=tuple(attached))
    # The instance that was writing it when it was exported does not write it here.
    state: State = "stopped" if message.state == "writing" else message.state
    return replace(message, state=state, stats=as_stored(message.stats))


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
    fresh: dict[str | None, str] = {one.id: new_id() for one in whole.messages}
    messages = tuple(replace(one, id=fresh[one.id], parent=fresh.get(one.parent)) for one in whole.messages)
    return replace(
        whole, info=replace(whole.info, id=new_id()), leaf=fresh.get(whole.leaf), messages=messages
    )
