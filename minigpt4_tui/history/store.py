"""Conversations, kept: messages as a tree of branches, pictures once each, search over everything.

    store = Store.open()
    talk = store.new_conversation()
    photo = store.keep_picture(open_picture("dog.jpg"), "dog.jpg")
    question = store.add_message(talk.id, None, "user", "What is this?", [photo])
    answer = store.add_message(talk.id, question.id, "assistant", "", state="writing")
    store.update_text(answer.id, "A dog.", "done")

Every call is a transaction of its own, may come from any thread, and may raise StoreError. Several
instances may have the same file open.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.errors import UsageError
from minigpt4.core.paths import data_home
from minigpt4.tui.history.database import PATIENCE, Database
from minigpt4.tui.history.pictures import PictureFolder
from minigpt4.tui.history.records import (
    HIT,
    HIT_END,
    ConversationInfo,
    Hit,
    Role,
    Settings,
    State,
    Stats,
    StoredMessage,
    StoredPicture,
    StoreError,
    WholeConversation,
    storable,
    title_of,
)
from minigpt4.tui.history.rows import (
    ABOVE,
    BELOW,
    CHILDREN,
    INFO,
    LATEST,
    TAKEN,
    VARIANTS,
    as_kept,
    conversation_of,
    conversation_row,
    info_of,
    insert_message,
    insert_whole,
    message_rows,
    named_row,
    new_id,
    to_json,
    whole_row,
)
from minigpt4.tui.history.writers import Writer, is_alive

if TYPE_CHECKING:
    from minigpt4.core.pixels import Picture

__all__ = [
    "HIT",
    "HIT_END",
    "LATEST",
    "ConversationInfo",
    "Hit",
    "Store",
    "StoreError",
    "StoredMessage",
    "StoredPicture",
    "WholeConversation",
]

FILE_NAME = "conversations.sqlite3"

LONGEST_TITLE = 200

# A method of Store is called `list`, which inside the class hides the type.
Messages = list[StoredMessage]
Conversations = list[ConversationInfo]
Hits = list[Hit]
Sentences = list[str]


class Store:
    """The kept conversations of one file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        folder = database.path.parent
        self._pictures = PictureFolder(folder / "pictures", database)
        self._writers = folder / "writers"
        self._writer = Writer(self._writers)
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @classmethod
    def open(cls, path: Path | None = None, *, patience: float = PATIENCE) -> Store:
        """Open the file, or make it. `patience` is the seconds to wait for another instance's lock.

        A damaged file is set aside and a new one begun (see `notice`). Raises StoreError where the file
        is locked, read-only, another program's, or from a newer minigpt4; it is then left as it is.
        """
        return cls(Database.open(path or data_home() / FILE_NAME, patience))

    @classmethod
    def temporary(cls) -> Store:
        """A store that is gone once it is closed, for a talk where the kept ones cannot be opened."""
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
        """The sentence about a damaged file that opening set aside, to be shown once."""
        return self._database.notice

    def close(self) -> None:
        """Let go of the file; what this instance was still writing may then be recovered."""
        self._writer.release()
        self._database.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def be_patient(self, seconds: float) -> None:
        """How long the calling thread waits for another's lock from now on; a screen must not wait long."""
        self._database.be_patient(seconds)

    def version(self) -> int:
        """A number that changes, as the calling thread sees it, when anybody else has written to the file."""
        with self._database.reading() as connection:
            return int(connection.execute("PRAGMA data_version").fetchone()[0])

    def integrity(self) -> Sentences:
        """What SQLite finds wrong with the file, which it reads to its end; empty where all is well."""
        with self._database.reading() as connection:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        return [] if found == ["ok"] else found

    def recover(self) -> int:
        """Call what dead instances were writing "stopped"; returns how many messages that were.

        What a living second instance is writing stays its own.
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

    # Conversations.

    def new_conversation(self, settings: Settings | None = None) -> ConversationInfo:
        """Begin one without messages; its title comes with the first question."""
        now = time.time()
        info = ConversationInfo(new_id(), "", now, now, False, 0)
        with self._database.writing() as connection:
            insert_whole(connection, WholeConversation(info, False, settings or {}, None, ()))
        return info

    def list(self, limit: int, before: ConversationInfo | None = None) -> Conversations:
        """Pinned ones first, then the latest first; `before` is the last of the page shown already."""
        query = f"SELECT {INFO} FROM conversations WHERE deleted IS NULL"
        values: tuple[object, ...] = ()
        if before is not None:
            query += " AND (pinned, updated, id) < (?, ?, ?)"
            values = (int(before.pinned), before.updated, before.id)
        query += " ORDER BY pinned DESC, updated DESC, id DESC LIMIT ?"
        with self._database.reading() as connection:
            return [info_of(row) for row in connection.execute(query, (*values, limit))]

    def deleted(self) -> Conversations:
        """Those that `undelete` can bring back, the last deleted first."""
        query = f"SELECT {INFO} FROM conversations WHERE deleted IS NOT NULL ORDER BY deleted DESC"
        with self._database.reading() as connection:
            return [info_of(row) for row in connection.execute(query)]

    def get(self, conversation: str) -> ConversationInfo:
        """The conversation of that id, deleted or not."""
        with self._database.reading() as connection:
            return conversation_row(connection, conversation)

    def find(self, beginning: str, *, among_deleted: bool = False) -> ConversationInfo:
        """The one conversation whose id begins as a person typed it, or the `LATEST`; raises UsageError."""
        with self._database.reading() as connection:
            return named_row(connection, storable(beginning), among_deleted)

    def settings(self, conversation: str) -> Settings:
        """What was chosen for this conversation alone."""
        with self._database.reading() as connection:
            conversation_row(connection, conversation)
            query = "SELECT settings FROM conversations WHERE id = ?"
            settings: Settings = json.loads(connection.execute(query, (conversation,)).fetchone()[0])
        return settings

    def set_settings(self, conversation: str, settings: Settings) -> None:
        """Keep `settings`, all of it JSON's values, in place of those before."""
        self._change(conversation, "settings = ?", to_json(settings))

    def rename(self, conversation: str, title: str) -> None:
        """Give it a title of the person's own; line breaks and runs of spaces become one space."""
        title = " ".join(storable(title).split())[:LONGEST_TITLE]
        if not title:
            raise UsageError("The new title is empty; give at least one letter.")
        self._change(conversation, "title = ?, named = 1", title)

    def pin(self, conversation: str, pinned: bool = True) -> None:
        """Hold it at the top of the list, or no longer."""
        self._change(conversation, "pinned = ?", int(pinned))

    def delete(self, conversation: str) -> None:
        """Take it out of lists and searches; `undelete` brings it back as it was."""
        self._change(conversation, "deleted = ?", time.time())

    def undelete(self, conversation: str) -> None:
        """Undo `delete`."""
        self._change(conversation, "deleted = ?", None)

    def purge(self, conversation: str) -> None:
        """Remove it for good, with the pictures that no other conversation holds."""
        self._remove("id = ?", conversation)

    def purge_deleted(self, older_than_s: float) -> int:
        """Purge what was deleted that long ago or longer; returns how many conversations."""
        return self._remove("deleted <= ?", time.time() - older_than_s)

    def whole(self, conversation: str) -> WholeConversation:
        """The conversation with all its branches, as exports need it."""
        with self._database.reading() as connection:
            return whole_row(connection, self._pictures, conversation)

    def add_whole(self, conversations: Iterable[WholeConversation]) -> None:
        """Add conversations with all their branches, every one or none; their pictures are kept already."""
        with self._database.writing() as connection:
            for one in conversations:
                insert_whole(connection, one)

    def taken(self, ids: Iterable[str]) -> set[str]:
        """Which of these are ids of kept conversations (also deleted ones) or of their messages."""
        with self._database.reading() as connection:
            return {one for one in ids if connection.execute(TAKEN, (one,)).fetchone()[0]}

    # Messages.

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
        """Add a message after `parent` (None: at the beginning), at which the shown path then ends.

        A second one after the same parent is a variant of the first. An answer is added, with the
        state "writing", when it begins.
        """
        kept = tuple(replace(picture, name=storable(picture.name)) for picture in pictures)
        message = StoredMessage(
            new_id(), parent, role, storable(text), state, kept, time.time(), as_kept(stats)
        )
        writer = self._hold_writer() if state == "writing" else None
        with self._database.writing() as connection:
            title = conversation_row(connection, conversation).title
            if parent is not None:
                _check_belongs(conversation_of(connection, parent), parent, conversation)
            insert_message(connection, conversation, message, writer)
            if not title and role == "user":
                title = title_of(message.text, kept)
            connection.execute(
                # What another instance deleted, and somebody goes on with here, is wanted again.
                "UPDATE conversations SET leaf = ?, updated = ?, title = ?, messages = messages + 1, "
                "deleted = NULL WHERE id = ?",
                (message.id, message.created, title, conversation),
            )
        return message

    def update_text(self, message: str, text: str, state: State, stats: Stats | None = None) -> None:
        """Keep what an answer has become: each second while writing, and whenever its state changes.

        `stats` of None leaves those that are there.
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
        """The message of that id."""
        with self._database.reading() as connection:
            conversation_of(connection, message)
            return message_rows(connection, self._pictures, "id = ?", message)[0]

    def path(self, conversation: str) -> Messages:
        """The shown messages, from the first one to the leaf."""
        with self._database.reading() as connection:
            conversation_row(connection, conversation)
            return message_rows(connection, self._pictures, ABOVE, conversation)

    def leaf(self, conversation: str) -> str | None:
        """The message at which the shown path ends."""
        with self._database.reading() as connection:
            conversation_row(connection, conversation)
            query = "SELECT leaf FROM conversations WHERE id = ?"
            leaf: str | None = connection.execute(query, (conversation,)).fetchone()[0]
        return leaf

    def set_leaf(self, conversation: str, message: str | None) -> None:
        """Let the shown path end at `message`; with None nothing is shown."""
        with self._database.writing() as connection:
            conversation_row(connection, conversation)
            if message is not None:
                _check_belongs(conversation_of(connection, message), message, conversation)
            connection.execute("UPDATE conversations SET leaf = ? WHERE id = ?", (message, conversation))

    def newest_leaf(self, message: str) -> str:
        """The end of the branch through `message`: wherever it splits, the newest child is followed."""
        with self._database.reading() as connection:
            conversation = conversation_of(connection, message)
            return str(connection.execute(BELOW, (message, conversation)).fetchone()[0])

    def variants(self, message: str) -> Messages:
        """The messages after the same parent, this one too, in the order in which they were made."""
        with self._database.reading() as connection:
            conversation_of(connection, message)
            return message_rows(connection, self._pictures, VARIANTS, message)

    def children(self, message: str) -> Messages:
        """The messages after this one, in the order in which they were made."""
        with self._database.reading() as connection:
            conversation_of(connection, message)
            return message_rows(connection, self._pictures, CHILDREN, message)

    def keep_picture(self, picture: Picture, name: str) -> StoredPicture:
        """Keep a picture's file, once for all messages; not on the screen's own thread.

        Raises ImageError if it is none.
        """
        return self._pictures.keep(picture, name)

    def picture_path(self, digest: str, kind: str) -> Path:
        """Where the picture of that digest and Pillow format lies, or would."""
        return self._pictures.path(digest, kind)

    def search(self, query: str, limit: int) -> Hits:
        """Where all words of `query` are found: titles that were given first, then the newest messages."""
        with self._database.reading() as connection:
            from minigpt4.tui.history.search import search

            return search(connection, query, limit)

    def _change(self, conversation: str, assignment: str, *values: object) -> None:
        with self._database.writing() as connection:
            conversation_row(connection, conversation)
            connection.execute(f"UPDATE conversations SET {assignment} WHERE id = ?", (*values, conversation))

    def _remove(self, condition: str, value: object) -> int:
        with self._database.writing() as connection:
            count = connection.execute(f"DELETE FROM conversations WHERE {condition}", (value,)).rowcount
            if count:
                # Without this the words stay in the index's older segments, and in the file, for long.
                connection.execute("INSERT INTO messages_found (messages_found) VALUES ('optimize')")
            self._pictures.sweep(connection)
        return count

    def _hold_writer(self) -> str:
        with self._database.reading():
            return self._writer.hold()


def _check_belongs(actual: str, message: str, conversation: str) -> None:
    if actual != conversation:
        raise StoreError(f"The message '{message}' belongs to another conversation than '{conversation}'.")
