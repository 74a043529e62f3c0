"""Full-text search over messages, picture names and titles that the user gave, with the hits marked.

A query has no syntax except quotes: every word must match the beginning of a word, and quoted words must
match exactly and in order.
"""

from __future__ import annotations

import re
import sqlite3
import unicodedata
from dataclasses import dataclass
from typing import cast

from minigpt4.tui.history.records import HIT, HIT_END, Hit, Role, storable

MAX_QUERY = 1000
"""Characters of a query that are used, and MAX_TERMS its words: a page may be pasted."""
MAX_TERMS = 32

CONTEXT = 60
"""Characters shown before and after the first hit."""

LONG = 20_000
"""Texts from this length on are marked here: SQLite would tokenize the whole text again."""

TERM = re.compile(r'"([^"]*)"?|([^\s"]+)')
QUOTES = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"'})

# Thai to Burmese, Khmer, kana and Han are written without spaces, so the index holds whole
# sentences as one word.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


@dataclass(frozen=True)
class Term:
    """A word of the query, or a quoted phrase."""

    text: str
    is_phrase: bool


def search(connection: sqlite3.Connection, query: str, limit: int) -> list[Hit]:
    """Titles first, then messages, newest first; deleted conversations are excluded."""
    terms = parse_query(query)
    if not terms or limit < 1:
        return []
    if any(UNSPACED.search(term.text) for term in terms) or not any(map(_is_indexed, terms)):
        return _containing(connection, terms, limit)
    match = " ".join(_fts_term(term) for term in terms if _is_indexed(term))
    rows = connection.execute(_TITLES, (match, limit)).fetchall()
    rows += connection.execute(_MESSAGES, (match, limit - len(rows))).fetchall()
    return [_hit(row, terms) for row in rows]


def parse_query(query: str) -> list[Term]:
    """The words and phrases of a query; an unclosed quote extends to the end."""
    line = storable(query[:MAX_QUERY]).translate(QUOTES)
    found = [
        Term(phrase.strip(), True) if word is None else Term(word, False)
        for phrase, word in (match.group(1, 2) for match in TERM.finditer(line))
    ]
    return [term for term in found if term.text][:MAX_TERMS]


_TITLES = f"""
SELECT c.id, c.title, NULL, NULL, c.created, highlight(titles_found, 0, '{HIT}', '{HIT_END}'), ''
FROM titles_found CROSS JOIN conversations c ON c.seq = titles_found.rowid
WHERE titles_found MATCH ? AND c.deleted IS NULL ORDER BY titles_found.rowid DESC LIMIT ?
"""

# Sorted by age, not rank: the index is read from its end, until the page is full. Not with
# SQLite's `snippet`, whose time grows with the square of the hits, to minutes for a pasted book.
_MESSAGES = f"""
SELECT c.id, c.title, m.id, m.role, m.created,
    CASE WHEN length(m.text) < {LONG} THEN highlight(messages_found, 0, '{HIT}', '{HIT_END}') ELSE m.text END,
    CASE WHEN length(m.text) < {LONG} THEN highlight(messages_found, 1, '{HIT}', '{HIT_END}')
        ELSE m.picture_names END
FROM messages_found CROSS JOIN messages m ON m.seq = messages_found.rowid
CROSS JOIN conversations c ON c.id = m.conversation
WHERE messages_found MATCH ? AND c.deleted IS NULL ORDER BY messages_found.rowid DESC LIMIT ?
"""


def _hit(row: tuple[str, str, str | None, str | None, float, str, str], terms: list[Term]) -> Hit:
    conversation, title, message, role, created, *texts = row
    if not any(HIT in text for text in texts):
        texts = [_marked(text, terms) for text in texts]
    # Neither is marked if they match only in the index, which ignores accents (é and e).
    best = next((text for text in texts if HIT in text), texts[0])
    return Hit(conversation, title, message, cast("Role | None", role), created, _cut(best))


def _marked(text: str, terms: list[Term]) -> str:
    """The text with its first hit marked, and others near it."""
    pattern = re.compile("|".join(re.escape(term.text) for term in terms), re.IGNORECASE)
    first = pattern.search(text)
    if first is None:
        return text
    near = first.end() + 2 * CONTEXT
    marked = pattern.sub(lambda hit: f"{HIT}{hit.group()}{HIT_END}", text[first.start() : near])
    return text[: first.start()] + marked + text[near:]


def _cut(text: str) -> str:
    """One line around the first mark."""
    place = max(0, text.find(HIT))
    start = max(0, place - CONTEXT)
    end = max(place + CONTEXT, text.find(HIT_END, place, place + 4 * CONTEXT) + 1)
    part = text[start:end]
    if part.count(HIT) > part.count(HIT_END):
        part += HIT_END
    part = " ".join(part.replace(HIT + HIT_END, "").split())
    return ("…" if start else "") + part + ("…" if end < len(text) else "")


def _is_indexed(term: Term) -> bool:
    """Whether it has letters or digits, which the index contains."""
    return any(unicodedata.category(letter)[0] in "LN" for letter in term.text)


def _fts_term(term: Term) -> str:
    # It contains no double quote: quotes end terms.
    return f'"{term.text}"' if term.is_phrase else f'"{term.text}"*'


def _containing(connection: sqlite3.Connection, terms: list[Term], limit: int) -> list[Hit]:
    """Scan every text: for queries without indexed words, such as Chinese or `???`."""
    patterns = ["%" + re.sub(r"([\\%_])", r"\\\1", term.text) + "%" for term in terms]

    def condition(text: str) -> str:
        return " AND ".join([f"({text}) LIKE ? ESCAPE '\\'"] * len(patterns))

    titles = (
        "SELECT id, title, NULL, NULL, created, title, '' FROM conversations "
        f"WHERE named AND deleted IS NULL AND {condition('title')} ORDER BY seq DESC LIMIT ?"
    )
    messages = (
        "SELECT c.id, c.title, m.id, m.role, m.created, m.text, m.picture_names FROM messages m CROSS JOIN "
        "conversations c ON c.id = m.conversation WHERE c.deleted IS NULL AND m.state <> 'writing' AND "
        f"{condition('m.text || char(10) || m.picture_names')} ORDER BY m.seq DESC LIMIT ?"
    )
    rows = connection.execute(titles, (*patterns, limit)).fetchall()
    rows += connection.execute(messages, (*patterns, limit - len(rows))).fetchall()
    return [_hit(row, terms) for row in rows]
