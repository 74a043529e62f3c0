"""The database's tables and migrations, and how a damaged file is moved aside.

`PRAGMA user_version` is the number of MIGRATIONS that were run on a file.
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path

from minigpt4.tui.history.records import StoreError

APPLICATION_ID = 0x4D475434
"""The letters MGT4 in the file's header: other programs' databases are never touched."""

TABLES = """
CREATE TABLE conversations (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    named INTEGER NOT NULL DEFAULT 0,
    created REAL NOT NULL,
    updated REAL NOT NULL,
    pinned INTEGER NOT NULL DEFAULT 0,
    deleted REAL,
    leaf TEXT,
    settings TEXT NOT NULL DEFAULT '{}',
    messages INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX conversations_listed ON conversations (pinned DESC, updated DESC, id DESC) WHERE deleted IS NULL;
CREATE INDEX conversations_deleted ON conversations (deleted) WHERE deleted IS NOT NULL;

CREATE TABLE messages (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    conversation TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    parent TEXT,
    role TEXT NOT NULL,
    text TEXT NOT NULL,
    picture_names TEXT NOT NULL DEFAULT '',
    state TEXT NOT NULL,
    writer TEXT,
    created REAL NOT NULL,
    stats TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX messages_placed ON messages (conversation, parent, seq);
CREATE INDEX messages_writing ON messages (writer) WHERE state = 'writing';

CREATE TABLE pictures (
    digest TEXT PRIMARY KEY,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL,
    format TEXT NOT NULL,
    kept REAL NOT NULL
);
CREATE TABLE message_pictures (
    message INTEGER NOT NULL REFERENCES messages (seq) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    digest TEXT NOT NULL REFERENCES pictures (digest),
    name TEXT NOT NULL,
    PRIMARY KEY (message, position)
) WITHOUT ROWID;
CREATE INDEX message_pictures_used ON message_pictures (digest);
"""

# `picture_names` repeats message_pictures.name for this index alone. A message that is still
# being written changes every second and enters the index when it ends. Titles made from the
# first question would only find that question again, so only titles given by the user are here.
SEARCH = """
CREATE VIRTUAL TABLE messages_found USING fts5 (
    text, picture_names, content = 'messages', content_rowid = 'seq',
    tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3'
);
CREATE TRIGGER messages_found_added AFTER INSERT ON messages WHEN new.state <> 'writing' BEGIN
    INSERT INTO messages_found (rowid, text, picture_names) VALUES (new.seq, new.text, new.picture_names);
END;
CREATE TRIGGER messages_found_changed AFTER UPDATE OF text, state ON messages BEGIN
    INSERT INTO messages_found (messages_found, rowid, text, picture_names)
        SELECT 'delete', old.seq, old.text, old.picture_names WHERE old.state <> 'writing';
    INSERT INTO messages_found (rowid, text, picture_names)
        SELECT new.seq, new.text, new.picture_names WHERE new.state <> 'writing';
END;
CREATE TRIGGER messages_found_removed AFTER DELETE ON messages WHEN old.state <> 'writing' BEGIN
    INSERT INTO messages_found (messages_found, rowid, text, picture_names)
        VALUES ('delete', old.seq, old.text, old.picture_names);
END;

CREATE VIRTUAL TABLE titles_found USING fts5 (
    title, content = 'conversations', content_rowid = 'seq', tokenize = 'unicode61 remove_diacritics 2'
);
CREATE TRIGGER titles_found_added AFTER INSERT ON conversations WHEN new.named BEGIN
    INSERT INTO titles_found (rowid, title) VALUES (new.seq, new.title);
END;
CREATE TRIGGER titles_found_changed AFTER UPDATE OF title, named ON conversations BEGIN
    INSERT INTO titles_found (titles_found, rowid, title) SELECT 'delete', old.seq, old.title WHERE old.named;
    INSERT INTO titles_found (rowid, title) SELECT new.seq, new.title WHERE new.named;
END;
CREATE TRIGGER titles_found_removed AFTER DELETE ON conversations WHEN old.named BEGIN
    INSERT INTO titles_found (titles_found, rowid, title) VALUES ('delete', old.seq, old.title);
END;

INSERT INTO messages_found (rowid, text, picture_names)
    SELECT seq, text, picture_names FROM messages WHERE state <> 'writing';
INSERT INTO titles_found (rowid, title) SELECT seq, title FROM conversations WHERE named;
"""

# Each name ends with a line break. They are stored here so that a page of the list needs no other
# table, and the filter reads no message. A picture is named once, however often its conversation shows it.
PICTURE_NAMES = """
ALTER TABLE conversations ADD COLUMN picture_names TEXT NOT NULL DEFAULT '';
CREATE TRIGGER conversation_pictures_added AFTER INSERT ON message_pictures BEGIN
    UPDATE conversations SET picture_names = picture_names || replace(new.name, char(10), ' ') || char(10)
    WHERE id = (SELECT conversation FROM messages WHERE seq = new.message) AND NOT EXISTS (
        SELECT 1 FROM messages m CROSS JOIN message_pictures p ON p.message = m.seq
        WHERE m.conversation = conversations.id AND m.seq <> new.message AND p.digest = new.digest
    );
END;
UPDATE conversations SET picture_names = coalesce((
    SELECT group_concat(name, '') FROM (
        SELECT replace(p.name, char(10), ' ') || char(10) AS name
        FROM messages m CROSS JOIN message_pictures p ON p.message = m.seq
        WHERE m.conversation = conversations.id AND NOT EXISTS (
            SELECT 1 FROM messages n CROSS JOIN message_pictures q ON q.message = n.seq
            WHERE n.conversation = conversations.id AND n.seq < m.seq AND q.digest = p.digest
        )
        ORDER BY m.seq, p.position
    )
), '');
"""

MIGRATIONS = (TABLES, SEARCH, PICTURE_NAMES)
"""Scripts, run in order. A released one must never be edited."""

VERSION = len(MIGRATIONS)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Run the pending migrations atomically.

    Raises StoreError for another program's database and for a newer minigpt4's, which are left unchanged.
    `connection` is in autocommit mode.
    """
    if _checked_version(connection, path) == VERSION:
        return
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        # Checked again: another instance may have migrated while this one waited for the lock.
        for script in MIGRATIONS[_checked_version(connection, path) :]:
            _run(connection, script)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")


def move_aside(path: Path) -> Path:
    """Rename a damaged database and its journal files; returns the database's new path.

    Nothing is overwritten, and the contents stay unchanged.
    """
    stamp = time.strftime("%Y%m%d-%H%M%S")
    number = 0
    while True:
        number += 1
        mark = f"damaged-{stamp}" + (f"-{number}" if number > 1 else "")
        aside = path.with_name(f"{path.stem}.{mark}{path.suffix}")
        if not os.path.lexists(aside):
            break
    path.rename(aside)
    for ending in ("-wal", "-shm"):
        companion = path.with_name(path.name + ending)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + ending))
    return aside


def _checked_version(connection: sqlite3.Connection, path: Path) -> int:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    owner = int(connection.execute("PRAGMA application_id").fetchone()[0])
    tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if owner != APPLICATION_ID and (owner or tables or version):
        raise StoreError(f"'{path}' is another program's database and was left unchanged. Move it elsewhere.")
    if version > VERSION:
        raise StoreError(
            f"'{path}' was written by a newer minigpt4 (format {version}, this one supports {VERSION}) and "
            "was left unchanged; update minigpt4, or set MINIGPT4_HOME to another folder."
        )
    return version


def _run(connection: sqlite3.Connection, script: str) -> None:
    """Run the statements inside the open transaction, which `executescript` would commit first."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            connection.execute(statement)
            statement = ""
    if statement.strip():
        raise ValueError("the script's last statement is incomplete")
