"""The history of conversations: messages as a tree of branches, deduplicated pictures, full-text search.

    store = Store.open()
    talk = store.new_conversation()
    photo = store.keep_picture(open_picture("dog.jpg"), "dog.jpg")
    question = store.add_message(talk.id, None, "user", "What is this?", [photo])
    answer = store.add_message(talk.id, question.id, "assistant", "", state="writing")
    store.update_text(answer.id, "A dog.", "done")

Every call, from any thread, is a transaction of its own and may raise StoreError; instances share the file.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minigpt4.core.errors import UsageError
from minigpt4.core.storage.paths import data_home
from minigpt4.tui.history.database import LOCK_TIMEOUT_S, Database
from minigpt4.tui.history.listing import count_rows, listed_rows
from minigpt4.tui.history.pictures import PictureFolder
from minigpt4.tui.history.records import (
    ConversationInfo,
    Hit,
    ListedConversation,
    Role,
    Settings,
    State,
    Stats,
    StoredMessage,
    StoredPicture,
    StoreError,
    WholeConversation,
    one_line,
    storable,
    title_of,
)
from minigpt4.tui.history.rows import (
    ABOVE,
    BELOW,
    CHILDREN,
    INFO,
    LATEST,
    QUESTIONS,
    TAKEN,
    VARIANTS,
    as_stored,
    check_belongs,
    conversation_of,
    conversation_row,
    find_row,
    info_of,
    insert_message,
    insert_whole,
    load_whole,
    message_rows,
    new_id,
    to_json,
)
from minigpt4.tui.history.writers import Writer, is_alive

if TYPE_CHECKING:
    from minigpt4.core.pixels import Picture

__all__ = [
    "LATEST",
    "ConversationInfo",
    "Hit",
    "ListedConversation",
    "Store",
    "StoreError",
    "StoredMessage",
    "StoredPicture",
    "WholeConversation",
]

FILE_NAME = "conversations.sqlite3"
LONGEST_TITLE = 200


class Store:
    """The conversations in one file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        folder = database.path.parent
        self._pictures = PictureFolder(folder / "pictures", database)
        self._writers = folder / "writers"
        self._writer = Writer(self._writers)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def open(cls, path: Path | None = None, *, lock_timeout: float = LOCK_TIMEOUT_S) -> Store:
        """Open or create the file. `lock_timeout` is how many seconds to wait for another instance's lock.

        A damaged file is moved aside and a new one created (see `notice`). Raises StoreError if the file
        is locked, read-only, another program's, or a newer minigpt4's; it is then left unchanged.
        """
        return cls(Database.open(path or data_home() / FILE_NAME, lock_timeout))

    @classmethod
    def temporary(cls) -> Store:
        """A store that is deleted when closed, for use while the history cannot be opened."""
        folder = tempfile.TemporaryDirectory(prefix="minigpt4-")
        store = cls.open(Path(folder.name) / FILE_NAME)
        store._temporary = folder
        return store

    @property
    def file(self) -> Path:
        """The database."""
        return self._database.path

    @property
    def notice(self) -> str | None:
        """The message about a damaged file that was moved aside on opening; show it once."""
        return self._database.notice

    def close(self) -> None:
        """Close the file; what this instance was still writing can then be recovered."""
        self._writer.release()
        self._database.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def set_lock_timeout(self, seconds: float) -> None:
        """Change the calling thread's lock timeout; the UI thread must not wait long."""
        self._database.set_lock_timeout(seconds)

    def version(self) -> int:
        """A number that changes for the calling thread when another connection has written to the file."""
        with self._database.reading() as connection:
            return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def integrity(self) -> list[str]:
        """The problems that SQLite finds in the whole file; empty if it is intact."""
        with self._database.reading() as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def recover(self) -> int:
        """Mark as stopped what exited instances were still writing; returns the number of messages.

        Messages that another running instance is writing are left alone.
        """
        with self._database.reading() as connection:
            query = "SELECT DISTINCT writer FROM messages WHERE state = 'writing'"
            writers = [writer for (writer,) in connection.execute(query) if writer != self._writer.id]
        dead = [writer for writer in writers if writer is None or not is_alive(self._writers, writer)]
        if not dead:
            return 0
        with self._database.writing() as connection:
            update = (
                "UPDATE messages SET state = 'stopped', writer = NULL WHERE state = 'writing' AND writer IS ?"
            )
            return sum(connection.execute(update, (writer,)).rowcount for writer in dead)

    # Conversations

    def new_conversation(self, settings: Settings | None = None) -> ConversationInfo:
        """Create an empty conversation; the first question gives it a title."""
        now = time.time()
        info = ConversationInfo(new_id(), "", now, now, False, 0)
        with self._database.writing() as connection:
            insert_whole(connection, WholeConversation(info, False, settings or {}, None, ()))
        return info

    def conversations(
        self, limit: int, before: ConversationInfo | None = None, matching: str = ""
    ) -> list[ListedConversation]:
        """Pinned ones first, then by age, newest first; `before` is the last one of the previous page.

        With `matching`, only those that have each of its words in their title or a picture's name.
        """
        with self._database.reading() as connection:
            return listed_rows(connection, limit, before, matching)

    def count(self, matching: str = "") -> int:
        """How many `conversations` there are."""
        with self._database.reading() as connection:
            return count_rows(connection, matching)

    def deleted(self) -> list[ConversationInfo]:
        """Those that `undelete` can restore, the last deleted first."""
        query = f"SELECT {INFO} FROM conversations WHERE deleted IS NOT NULL ORDER BY deleted DESC"
        with self._database.reading() as connection:
            return [info_of(row) for row in connection.execute(query)]

    def get(self, conversation: str) -> ConversationInfo:
        """The conversation with that id, deleted or not."""
        with self._database.reading() as connection:
            return conversation_row(connection, conversation)

    def find(self, prefix: str, *, among_deleted: bool = False) -> ConversationInfo:
        """The conversation with that id prefix, or the `LATEST`; raises UsageError."""
        with self._database.reading() as connection:
            return find_row(connection, storable(prefix), among_deleted)

    def settings(self, conversation: str) -> Settings:
        """The conversation's own settings."""
        settings: Settings = json.loads(self._column(conversation, "settings"))
        return settings

    def set_settings(self, conversation: str, settings: Settings) -> None:
        """Replace the conversation's own settings; values must be JSON's."""
        self._change(conversation, "settings = ?", to_json(settings))

    def rename(self, conversation: str, title: str) -> None:
        """Set the title; line breaks and runs of spaces become one space."""
        title = one_line(title)[:LONGEST_TITLE]
        if not title:
            raise UsageError("The new title is empty; give at least one letter.")
        self._change(conversation, "title = ?, named = 1", title)

    def pin(self, conversation: str, pinned: bool = True) -> None:
        """Pin it to the top of the list, or unpin it."""
        self._change(conversation, "pinned = ?", int(pinned))

    def delete(self, conversation: str) -> None:
        """Hide it from lists and searches; `undelete` restores it."""
        self._change(conversation, "deleted = ?", time.time())

    def undelete(self, conversation: str) -> None:
        """Undo `delete`."""
        self._change(conversation, "deleted = ?", None)

    def purge(self, conversation: str) -> None:
        """Delete it permanently, with the pictures that no other conversation has."""
        self._remove("id = ?", conversation)

    def purge_deleted(self, older_than_s: float) -> int:
        """Purge what was deleted at least that long ago; returns the number of conversations."""
        return self._remove("deleted <= ?", time.time() - older_than_s)

    def whole(self, conversation: str) -> WholeConversation:
        """The conversation with all branches, for exports."""
        with self._database.reading() as connection:
            return load_whole(connection, self._pictures, conversation)

    def add_whole(self, conversations: Iterable[WholeConversation]) -> None:
        """Add conversations with all branches, atomically; their pictures must be stored already."""
        with self._database.writing() as connection:
            for one in conversations:
                insert_whole(connection, one)

    def taken(self, ids: Iterable[str]) -> set[str]:
        """Which of these ids belong to conversations (deleted ones, too) or messages."""
        with self._database.reading() as connection:
            return {one for one in ids if connection.execute(TAKEN, (one,)).fetchone()[0]}

    # Messages

    def add_message(
        self,
        conversation: str,
        parent: str | None,
        role: Role,
        text: str,
        pictures: Sequence[StoredPicture] = (),
        state: State = "done",
        stats: Stats | None = None,
    ) -> StoredMessage:
        """Add a message after `parent` (None: as the first one) and make it the leaf of the active branch.

        A second message after the same parent is a variant of the first. An answer is added when it
        starts, with the state "writing".
        """
        stored = tuple(replace(picture, name=storable(picture.name)) for picture in pictures)
        message = StoredMessage(
            new_id(), parent, role, storable(text), state, stored, time.time(), as_stored(stats)
        )
        writer = self._hold_writer() if state == "writing" else None
        with self._database.writing() as connection:
            title = conversation_row(connection, conversation).title
            if parent is not None:
                check_belongs(connection, parent, conversation)
            insert_message(connection, conversation, message, writer)
            if not title and role == "user":
                title = title_of(message.text, stored)
            connection.execute(
                # A conversation that another instance deleted, but which continues here, is restored.
                "UPDATE conversations SET leaf = ?, updated = ?, title = ?, messages = messages + 1, "
                "deleted = NULL WHERE id = ?",
                (message.id, message.created, title, conversation),
            )
        return message

    def update_text(self, message: str, text: str, state: State, stats: Stats | None = None) -> None:
        """Save an answer's text: once a second while it is written, and when its state changes.

        `stats` of None leaves the stored ones.
        """
        writer = self._hold_writer() if state == "writing" else None
        with self._database.writing() as connection:
            conversation = conversation_of(connection, message)
            connection.execute(
                "UPDATE messages SET text = ?, state = ?, writer = ?, stats = coalesce(?, stats) "
                "WHERE id = ?",
                (storable(text), state, writer, None if stats is None else to_json(stats), message),
            )
            if state != "writing":
                connection.execute(
                    "UPDATE conversations SET updated = ? WHERE id = ?", (time.time(), conversation)
                )

    def message(self, message: str) -> StoredMessage:
        """The message with that id."""
        with self._database.reading() as connection:
            conversation_of(connection, message)
            return message_rows(connection, self._pictures, "id = ?", message)[0]

    def path(self, conversation: str) -> list[StoredMessage]:
        """The active branch, from the first message to the leaf."""
        with self._database.reading() as connection:
            conversation_row(connection, conversation)
            return message_rows(connection, self._pictures, ABOVE, conversation)

    def leaf(self, conversation: str) -> str | None:
        """The last message of the active branch."""
        leaf: str | None = self._column(conversation, "leaf")
        return leaf

    def set_leaf(self, conversation: str, message: str | None) -> None:
        """Make `message` the leaf of the active branch; with None the branch is empty."""
        with self._database.writing() as connection:
            conversation_row(connection, conversation)
            if message is not None:
                check_belongs(connection, message, conversation)
            connection.execute("UPDATE conversations SET leaf = ? WHERE id = ?", (message, conversation))

    def newest_leaf(self, message: str) -> str:
        """The leaf of the branch through `message`, following the newest child at each fork."""
        with self._database.reading() as connection:
            conversation = conversation_of(connection, message)
            return str(connection.execute(BELOW, (message, conversation)).fetchone()[0])

    def variants(self, message: str) -> list[StoredMessage]:
        """The messages with the same parent, including this one, in order of creation."""
        with self._database.reading() as connection:
            conversation_of(connection, message)
            return message_rows(connection, self._pictures, VARIANTS, message)

    def children(self, message: str) -> list[StoredMessage]:
        """The messages after this one, in order of creation."""
        with self._database.reading() as connection:
            conversation_of(connection, message)
            return message_rows(connection, self._pictures, CHILDREN, message)

    def keep_picture(self, picture: Picture, name: str) -> StoredPicture:
        """Store a picture's file, once for all messages; call it on a background thread.

        Raises ImageError if it is not a picture.
        """
        return self._pictures.keep(picture, name)

    def picture_path(self, digest: str, kind: str) -> Path:
        """The path for the picture with that digest and Pillow format."""
        return self._pictures.path(digest, kind)

    def questions(self, limit: int) -> list[tuple[float, str]]:
        """The time and text of the newest questions of all conversations, newest first."""
        with self._database.reading() as connection:
            return connection.execute(QUESTIONS, (limit,)).fetchall()

    def search(self, query: str, limit: int) -> list[Hit]:
        """Matches of all words of `query`: titles given by the user first, then the newest messages."""
        with self._database.reading() as connection:
            from minigpt4.tui.history.search import search

            return search(connection, query, limit)

    def _column(self, conversation: str, column: str) -> Any:
        with self._database.reading() as connection:
            conversation_row(connection, conversation)
            query = f"SELECT {column} FROM conversations WHERE id = ?"
            return connection.execute(query, (conversation,)).fetchone()[0]

    def _change(self, conversation: str, assignment: str, *values: object) -> None:
        with self._database.writing() as connection:
            conversation_row(connection, conversation)
            connection.execute(f"UPDATE conversations SET {assignment} WHERE id = ?", (*values, conversation))

    def _remove(self, condition: str, value: object) -> int:
        with self._database.writing() as connection:
            count = connection.execute(f"DELETE FROM conversations WHERE {condition}", (value,)).rowcount
            if count:
                # Otherwise the words would remain in older segments of the index, and in the file, for long.
                connection.execute("INSERT INTO messages_found (messages_found) VALUES ('optimize')")
            self._pictures.sweep(connection)
        return count

    def _hold_writer(self) -> str:
        with self._database.reading():
            return self._writer.hold()
