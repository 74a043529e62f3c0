"""The SQLite file: one connection per thread, transactions, and errors as sentences."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minigpt4.tui.history.records import StoreError
from minigpt4.tui.history.schema import migrate, move_aside

LOCK_TIMEOUT_S = 5.0
"""How long to wait for another instance's lock, which it holds for milliseconds."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Connection(sqlite3.Connection):
    """sqlite3's own class does not support weak references."""


class Database:
    """One file. Each thread has its own connection, so that readers never wait for a writer (WAL)."""

    def __init__(self, path: Path, lock_timeout: float) -> None:
        self.path = path
        self.notice: str | None = None
        self._lock_timeout = lock_timeout
        self._local = threading.local()
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, path: Path, lock_timeout: float = LOCK_TIMEOUT_S) -> Database:
        """Open or create the file, readable only by its owner, and run pending migrations.

        A damaged file is moved aside and a new one created; `notice` then says so. Raises StoreError if
        the file is locked, read-only, another program's or a newer minigpt4's.
        """
        database = cls(path, lock_timeout)
        try:
            with database._errors_as_sentences():
                database._check_location()
                before = _identity(path)
                try:
                    database._prepare()
                except sqlite3.DatabaseError as error:
                    if _code(error) not in DAMAGED:
                        raise
                    database._close_connections()
                    if before == _identity(path):
                        # Otherwise another instance found the damage first and has created a new file.
                        database._replace_damaged(str(error))
                    database._prepare()
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; database errors in the block become StoreErrors."""
        with self._errors_as_sentences():
            yield self._connection()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction, committed after the block, or rolled back if it raises."""
        with self._errors_as_sentences(), self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection

    def set_lock_timeout(self, seconds: float) -> None:
        """Change the lock timeout of the calling thread."""
        with self._errors_as_sentences():
            self._connection().execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            self._local.lock_timeout = seconds

    def close(self) -> None:
        """Close every thread's connection. May be called twice."""
        self._closed = True
        self._close_connections()

    def _check_location(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists() and not self.path.is_file():
            what = "folder" if self.path.is_dir() else "FIFO or a device"
            raise StoreError(
                f"'{self.path}' is a {what}, but conversations are stored in a file; move it elsewhere."
            )
        # Conversations are private; SQLite gives its -wal and -shm files the same mode.
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        if not os.access(self.path, os.W_OK) or not os.access(self.path.parent, os.W_OK):
            raise StoreError(self._read_only())

    def _prepare(self) -> None:
        connection = self._connection()
        migrate(connection, self.path)
        self._enable_wal(connection)
        for table in ("conversations", "messages", "pictures", "message_pictures"):
            # Damage to the first pages is detected now, and not during a conversation.
            connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()

    def _enable_wal(self, connection: sqlite3.Connection) -> None:
        """Switch to WAL; SQLite's own timeout does not cover two processes that do so at once."""
        deadline = time.monotonic() + self._lock_timeout
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                # On disks without support for it (some network folders) SQLite keeps its other journal.
                return
            except sqlite3.OperationalError as error:
                if _code(error) not in LOCKED or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _replace_damaged(self, reason: str) -> None:
        aside = move_aside(self.path)
        self.notice = (
            f"The saved conversations were damaged ({reason}) and have been moved aside, unchanged, to "
            f"'{aside}'; a new, empty file was created."
        )
        self._check_location()

    def _connection(self) -> sqlite3.Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if self._closed:
            raise StoreError(f"The conversations in '{self.path}' are closed already.")
        if connection is None:
            connection = sqlite3.connect(
                self.path,
                timeout=self._lock_timeout,
                isolation_level=None,
                # `close` is called from one thread for all of them.
                check_same_thread=False,
                factory=Connection,
            )
            # NORMAL with WAL: a killed process loses nothing, a power cut at most the newest transactions.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            with self._lock:
                self._all.add(connection)
            self._local.connection = connection
        return connection

    def _close_connections(self) -> None:
        with self._lock:
            for connection in list(self._all):
                connection.close()
            self._all.clear()
        self._local = threading.local()

    @contextmanager
    def _errors_as_sentences(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.ProgrammingError as error:
            if not self._closed:
                raise
            raise StoreError(f"The conversations in '{self.path}' are closed already.") from error
        except sqlite3.Error as error:
            raise StoreError(self._sentence(error)) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(f"'{error.filename or self.path}' cannot be used: {reason}.") from error

    def _sentence(self, error: sqlite3.Error) -> str:
        code = _code(error)
        if code in LOCKED:
            return (
                f"The conversations in '{self.path}' have been locked by another program for over "
                f"{getattr(self._local, 'lock_timeout', self._lock_timeout):g} s; close it and try again."
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            return self._read_only()
        if code in DAMAGED:
            return (
                f"The conversations in '{self.path}' are damaged ({error}). Save what can still be read with "
                "`minigpt4 history export --all`, then move the file elsewhere to start a new one."
            )
        if code == sqlite3.SQLITE_FULL:
            return f"The disk is full while writing '{self.path}'; free some space and try again."
        if "fts5" in str(error) and "module" in str(error):
            return "This Python's SQLite has no full-text search (FTS5); use a Python whose SQLite has it."
        return f"The conversations in '{self.path}' cannot be used: {error}."

    def _read_only(self) -> str:
        return (
            f"The conversations in '{self.path}' are read-only for this user; make the file and its folder "
            "writable, or set MINIGPT4_HOME to another folder."
        )


def _code(error: sqlite3.Error) -> int:
    """SQLite's primary result code."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
