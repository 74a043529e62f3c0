"""The list of conversations: its pages, and its filter by words in titles and names of pictures."""

from __future__ import annotations

import re
import sqlite3
import unicodedata

from minigpt4.tui.history.records import ConversationInfo, ListedConversation
from minigpt4.tui.history.rows import INFO, info_of

_ACCENTS = "[\u0300-\u036f]+"
"""The combining marks of Latin, Greek and Cyrillic letters."""


def listed_rows(
    connection: sqlite3.Connection, limit: int, before: ConversationInfo | None, matching: str
) -> list[ListedConversation]:
    """See `Store.conversations`."""
    query = f"SELECT picture_names, {INFO} FROM conversations WHERE deleted IS NULL"
    query += _condition(connection, matching)
    values: tuple[object, ...] = ()
    if before is not None:
        query += " AND (pinned, updated, id) < (?, ?, ?)"
        values = (int(before.pinned), before.updated, before.id)
    query += " ORDER BY pinned DESC, updated DESC, id DESC LIMIT ?"
    return [_listed(row) for row in connection.execute(query, (*values, limit))]


def count_rows(connection: sqlite3.Connection, matching: str) -> int:
    """See `Store.count`."""
    query = "SELECT count(*) FROM conversations WHERE deleted IS NULL" + _condition(connection, matching)
    return int(connection.execute(query).fetchone()[0])


def _listed(row: tuple[object, ...]) -> ListedConversation:
    names, *info = row
    return ListedConversation(**vars(info_of(tuple(info))), pictures=tuple(str(names).split("\n")[:-1]))


def _condition(connection: sqlite3.Connection, matching: str) -> str:
    """A condition on the title and the names of pictures; SQLite's LIKE ignores case only in ASCII."""
    words = _folded(matching).split()
    if not words:
        return ""

    def holds(text: str) -> bool:
        folded = _folded(text)
        return all(word in folded for word in words)

    connection.create_function("holds", 1, holds)
    return " AND holds(title || char(10) || picture_names)"


def _folded(text: str) -> str:
    """The text without case and accents: file names from a Mac store letter and accent separately."""
    if text.isascii():
        return text.lower()
    return re.sub(_ACCENTS, "", unicodedata.normalize("NFKD", text.casefold()))
