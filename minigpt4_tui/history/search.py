"""Search over every kept message, picture name and given title, with the hits marked.

What a person types is never a query language: words are found by their beginnings and all of them must be
there; words in quotes are found as they stand, one after the other.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from dataclasses import dataclass
from typing import cast

from minigpt4.tui.history.records import HIT, HIT_END, Hit, Role, storable

MAX_QUERY = 1000
"""Letters of a query that are looked at, and MAX_PIECES its words: somebody pasted a page."""
MAX_PIECES = 32

AROUND = 60
"""Letters shown before and after the first hit."""

LONG = 20_000
"""Letters from which a text is marked here and not by SQLite, which cuts all of it into words again."""

PIECE = re.compile(r'"([^"]*)"?|([^\s"]+)')
QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})

# Thai to Burmese, Khmer, kana and Han are written without spaces, so the index holds whole
# sentences of them as one word.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Piece:
    """A word of the query, or a phrase: several that stand in quotes."""

    text: str
    is_phrase: bool


def search(connection: sqlite3.Connection, query: str, limit: int) -> list[Hit]:
    """Titles first, then messages, newest first; deleted conversations are left out."""
    pieces = pieces_of(query)
    if not pieces or limit < 1:
        return []
    if any(UNSPACED.search(piece.text) for piece in pieces) or not any(map(_is_indexed, pieces)):
        return _containing(connection, pieces, limit)
    match = " ".join(_matched(piece) for piece in pieces if _is_indexed(piece))
    rows = connection.execute(_TITLES, (match, limit)).fetchall()
    rows += connection.execute(_MESSAGES, (match, limit - len(rows))).fetchall()
    return [_hit(row, pieces) for row in rows]


def pieces_of(query: str) -> list[Piece]:
    """The words and phrases of what was typed; an unclosed quote holds to the end."""
    line = storable(query[:MAX_QUERY]).translate(QUOTES)
    found = [
        Piece(phrase.strip(), True) if word is None else Piece(word, False)
        for phrase, word in (match.group(1, 2) for match in PIECE.finditer(line))
    ]
    return [piece for piece in found if piece.text][:MAX_PIECES]


_TITLES = f"""
SELECT c.id, c.title, NULL, NULL, c.created, highlight(titles_found, 0, '{HIT}', '{HIT_END}'), ''
FROM titles_found CROSS JOIN conversations c ON c.seq = titles_found.rowid
WHERE titles_found MATCH ? AND c.deleted IS NULL ORDER BY titles_found.rowid DESC LIMIT ?
"""

# By age and not by rank: the index is read from its end and left once the page is full. Not by
# SQLite's `snippet`: its time grows with the square of the hits, to minutes for a pasted book.
_MESSAGES = f"""
SELECT c.id, c.title, m.id, m.role, m.created,
    CASE WHEN length(m.text) < {LONG} THEN highlight(messages_found, 0, '{HIT}', '{HIT_END}') ELSE m.text END,
    CASE WHEN length(m.text) < {LONG} THEN highlight(messages_found, 1, '{HIT}', '{HIT_END}')
        ELSE m.picture_names END
FROM messages_found CROSS JOIN messages m ON m.seq = messages_found.rowid
CROSS JOIN conversations c ON c.id = m.conversation
WHERE messages_found MATCH ? AND c.deleted IS NULL ORDER BY messages_found.rowid DESC LIMIT ?
"""


def _hit(row: tuple[str, str, str | None, str | None, float, str, str], pieces: list[Piece]) -> Hit:
    conversation, title, message, role, created, *texts = row
    if not any(HIT in text for text in texts):
        texts = [_marked(text, pieces) for text in texts]
    # Neither has a mark where only the index takes some letters for the same (é and e).
    best = next((text for text in texts if HIT in text), texts[0])
    return Hit(conversation, title, message, cast("Role | None", role), created, _cut(best))


def _marked(text: str, pieces: list[Piece]) -> str:
    """The text with its first hit marked, and those in sight of it."""
    pattern = re.compile("|".join(re.escape(piece.text) for piece in pieces), re.IGNORECASE)
    first = pattern.search(text)
    if first is None:
        return text
    near = first.end() + 2 * AROUND
    marked = pattern.sub(lambda hit: f"{HIT}{hit.group()}{HIT_END}", text[first.start() : near])
    return text[: first.start()] + marked + text[near:]


def _cut(text: str) -> str:
    """One line around the first mark."""
    place = max(0, text.find(HIT))
    start = max(0, place - AROUND)
    end = max(place + AROUND, text.find(HIT_END, place, place + 4 * AROUND) + 1)
    part = text[start:end]
    if part.count(HIT) > part.count(HIT_END):
        part += HIT_END
    part = " ".join(part.replace(HIT + HIT_END, "").split())
    return ("…" if start else "") + part + ("…" if end < len(text) else "")


def _is_indexed(piece: Piece) -> bool:
    """Whether the index knows any part of it: letters and digits."""
    return any(unicodedata.category(letter)[0] in "LN" for letter in piece.text)


def _matched(piece: Piece) -> str:
    # A double quote cannot be in it: quotes end pieces.
    return f'"{piece.text}"' if piece.is_phrase else f'"{piece.text}"*'


def _containing(connection: sqlite3.Connection, pieces: list[Piece], limit: int) -> list[Hit]:
    """Every text is read: for what has no words to index, such as Chinese or `???`."""
    patterns = ["%" + re.sub(r"([\\%_])", r"\\\1", piece.text) + "%" for piece in pieces]

    def asked(text: str) -> str:
        return " AND ".join([f"({text}) LIKE ? ESCAPE '\\'"] * len(patterns))

    titles = (
        "SELECT id, title, NULL, NULL, created, title, '' FROM conversations "
        f"WHERE named AND deleted IS NULL AND {asked('title')} ORDER BY seq DESC LIMIT ?"
    )
    messages = (
        "SELECT c.id, c.title, m.id, m.role, m.created, m.text, m.picture_names "
        "FROM messages m CROSS JOIN conversations c ON c.id = m.conversation "
        "WHERE c.deleted IS NULL AND m.state <> 'writing' "
        f"AND {asked('m.text || char(10) || m.picture_names')} ORDER BY m.seq DESC LIMIT ?"
    )
    rows = connection.execute(titles, (*patterns, limit)).fetchall()
    rows += connection.execute(messages, (*patterns, limit - len(rows))).fetchall()
    return [_hit(row, pieces) for row in rows]
