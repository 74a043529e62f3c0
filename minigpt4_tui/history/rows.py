"""Queries and conversions between the store's value types and database rows."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from collections.abc import Mapping
from typing import Any

from minigpt4.core.errors import UsageError
from minigpt4.tui.history.pictures import PictureFolder
from minigpt4.tui.history.records import (
    ConversationInfo,
    Settings,
    StoredMessage,
    StoreError,
    WholeConversation,
    storable,
)

INFO = "id, title, created, updated, pinned, messages"

LATEST = "last"
"""The word for the latest conversation, in place of an id; ids are hexadecimal."""

ABOVE = """
seq IN (
    WITH RECURSIVE above (seq, parent) AS (
        SELECT seq, parent FROM messages WHERE id = (SELECT leaf FROM conversations WHERE id = ?)
        UNION ALL
        SELECT m.seq, m.parent FROM above JOIN messages m ON m.id = above.parent
    )
    SELECT seq FROM above
)
"""
"""Condition: a conversation's active branch; a child's `seq` is greater than its parent's."""

VARIANTS = """
conversation = (SELECT conversation FROM messages WHERE id = ?1)
AND parent IS (SELECT parent FROM messages WHERE id = ?1)
"""

CHILDREN = "conversation = (SELECT conversation FROM messages WHERE id = ?1) AND parent = ?1"

BELOW = """
WITH RECURSIVE below (id, depth) AS (
    SELECT id, 0 FROM messages WHERE id = ?1
    UNION ALL
    SELECT (
        SELECT id FROM messages WHERE conversation = ?2 AND parent = below.id ORDER BY seq DESC LIMIT 1
    ), depth + 1 FROM below WHERE below.id IS NOT NULL
)
SELECT id FROM below WHERE id IS NOT NULL ORDER BY depth DESC LIMIT 1
"""


QUESTIONS = """
SELECT m.created, m.text FROM messages m JOIN conversations c ON c.id = m.conversation
WHERE m.role = 'user' AND c.deleted IS NULL ORDER BY m.seq DESC LIMIT ?
"""

TAKEN = """
SELECT EXISTS (SELECT 1 FROM conversations WHERE id = ?1) OR EXISTS (SELECT 1 FROM messages WHERE id = ?1)
"""


def new_id() -> str:
    """A unique id of a conversation or message: 16 hexadecimal digits."""
    return os.urandom(8).hex()


def to_json(settings: Settings) -> str:
    """Settings or stats as stored; numbers that are not finite (0 tokens in 0 seconds) are omitted."""
    stored = {
        storable(key): value
        for key, value in settings.items()
        if not (isinstance(value, float) and not math.isfinite(value))
    }
    return json.dumps(stored, ensure_ascii=True)


def info_of(row: tuple[Any, ...]) -> ConversationInfo:
    """The list entry from a row of the columns INFO."""
    name, title, created, updated, pinned, messages = row
    return ConversationInfo(name, title, created, updated, bool(pinned), messages)


def conversation_row(connection: sqlite3.Connection, conversation: str) -> ConversationInfo:
    """The conversation with that id, deleted or not; raises StoreError if there is none."""
    row = connection.execute(f"SELECT {INFO} FROM conversations WHERE id = ?", (conversation,)).fetchone()
    if row is None:
        raise StoreError(f"The conversation '{conversation}' no longer exists; another window removed it.")
    return info_of(row)


def find_row(connection: sqlite3.Connection, prefix: str, among_deleted: bool) -> ConversationInfo:
    """The conversation with that id prefix, or the latest; raises UsageError unless there is exactly one."""
    what = "deleted conversation" if among_deleted else "conversation"
    found_in, newest = ("IS NOT NULL", "deleted") if among_deleted else ("IS NULL", "updated")
    chosen = f"SELECT {INFO} FROM conversations WHERE deleted {found_in}"
    if prefix == LATEST:
        row = connection.execute(f"{chosen} ORDER BY {newest} DESC LIMIT 1").fetchone()
        if row is None:
            raise UsageError(f"There is no {what} yet, so none is the last.")
        return info_of(row)
    query = f"{chosen} AND substr(id, 1, ?) = ? ORDER BY id"
    found = [info_of(row) for row in connection.execute(query, (len(prefix), prefix))]
    if not found or not prefix:
        way = " --deleted" if among_deleted else ""
        raise UsageError(f"There is no {what} '{prefix}'; `minigpt4 history list{way}` shows them.")
    if len(found) > 1 and found[0].id != prefix:
        raise UsageError(f"{len(found)} conversations begin with '{prefix}'; give more of the id.")
    return found[0]


def conversation_of(connection: sqlite3.Connection, message: str) -> str:
    """The id of a message's conversation; raises StoreError if there is no such message."""
    row = connection.execute("SELECT conversation FROM messages WHERE id = ?", (message,)).fetchone()
    if row is None:
        raise StoreError(f"The message '{message}' no longer exists; another window removed it.")
    return str(row[0])


def check_belongs(connection: sqlite3.Connection, message: str, conversation: str) -> None:
    """Raise StoreError if the message is of another conversation, or does not exist."""
    if conversation_of(connection, message) != conversation:
        raise StoreError(f"The message '{message}' belongs to another conversation than '{conversation}'.")


def message_rows(
    connection: sqlite3.Connection, pictures: PictureFolder, condition: str, *values: str
) -> list[StoredMessage]:
    """The messages that match an SQL condition, in order of creation."""
    rows = connection.execute(
        "SELECT seq, id, parent, role, text, state, created, stats FROM messages "
        f"WHERE {condition} ORDER BY seq",
        values,
    ).fetchall()
    attached = pictures.of_messages(connection, [row[0] for row in rows])
    return [
        StoredMessage(name, parent, role, text, state, attached.get(seq, ()), created, json.loads(stats))
        for seq, name, parent, role, text, state, created, stats in rows
    ]


def insert_message(
    connection: sqlite3.Connection, conversation: str, message: StoredMessage, writer: str | None = None
) -> None:
    """Insert a message, whose fields are named like their columns, and its references to pictures."""
    row = {
        **vars(message),
        "conversation": conversation,
        "picture_names": "\n".join(picture.name for picture in message.pictures),
        "writer": writer,
        "stats": to_json(message.stats),
    }
    del row["pictures"]
    seq = _insert(connection, "messages", row)
    for picture in message.pictures:
        # It exists, except in an import whose picture file was missing when it was exported.
        connection.execute(
            "INSERT OR IGNORE INTO pictures (digest, width, height, format, kept) VALUES (?, ?, ?, ?, ?)",
            (picture.digest, picture.width, picture.height, picture.format, message.created),
        )
    connection.executemany(
        "INSERT INTO message_pictures (message, position, digest, name) VALUES (?, ?, ?, ?)",
        [(seq, position, picture.digest, picture.name) for position, picture in enumerate(message.pictures)],
    )


def load_whole(
    connection: sqlite3.Connection, pictures: PictureFolder, conversation: str
) -> WholeConversation:
    """Load a conversation with all branches."""
    info = conversation_row(connection, conversation)
    named, settings, leaf = connection.execute(
        "SELECT named, settings, leaf FROM conversations WHERE id = ?", (conversation,)
    ).fetchone()
    messages = message_rows(connection, pictures, "conversation = ?", conversation)
    return WholeConversation(info, bool(named), json.loads(settings), leaf, tuple(messages))


def insert_whole(connection: sqlite3.Connection, whole: WholeConversation) -> None:
    """Insert a conversation with all branches, under its own ids."""
    own = {"named": whole.named, "leaf": whole.leaf, "settings": to_json(whole.settings)}
    _insert(connection, "conversations", {**vars(whole.info), **own, "messages": len(whole.messages)})
    for message in whole.messages:
        insert_message(connection, whole.info.id, message)


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int | None:
    """Insert values by column; returns the row id."""
    query = f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})"
    return connection.execute(query, tuple(row.values())).lastrowid


def as_stored(settings: Settings | None) -> dict[str, Any]:
    """Settings or stats as they will be read back."""
    stored: dict[str, Any] = json.loads(to_json(settings or {}))
    return stored
