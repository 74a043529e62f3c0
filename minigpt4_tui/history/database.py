"""The file of kept conversations: a connection a thread, transactions, and SQLite's errors as sentences."""

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
from minigpt4.tui.history.schema import bring_up_to_date, set_aside

PATIENCE = 5.0
"""Seconds to wait for another instance's lock; it holds one for milliseconds."""

DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class Connection(sqlite3.Connection):
    """As sqlite3's own, which cannot be referred to weakly."""


class Database:
    """One file. Each thread gets its own connection, so that a reader never waits for a writer (WAL)."""

    def __init__(self, path: Path, patience: float) -> None:
        self.path = path
        self.notice: str | None = None
        self._patience = patience
        self._of_thread = threading.local()
        self._all: weakref.WeakSet[Connection] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._closed = False

    @classmethod
    def open(cls, path: Path, patience: float = PATIENCE) -> Database:
        """Open or make the file, readable by its owner alone, and bring it to the newest form.

        A damaged file is set aside and a new one begun, which `notice` then says. Raises StoreError where
        the file is locked, read-only, another program's or a newer minigpt4's.
        """
        database = cls(path, patience)
        try:
            with database._sentences():
                database._check_place()
                before = _identity(path)
                try:
                    database._begin()
                except sqlite3.DatabaseError as error:
                    if _code(error) not in DAMAGED:
                        raise
                    database._forget_connections()
                    if before == _identity(path):
                        # Otherwise an instance that found the damage first has begun a new file.
                        database._start_anew(str(error))
                    database._begin()
        except BaseException:
            database.close()
            raise
        return database

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection; errors of the block become StoreError sentences."""
        with self._sentences():
            yield self._connection()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that is there as a whole after the block, or not at all where it raises."""
        with self._sentences():
            connection = self._connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def be_patient(self, seconds: float) -> None:
        """Wait that long for locks on the calling thread, in place of `patience`."""
        with self._sentences():
            self._connection().execute(f"PRAGMA busy_timeout = {round(seconds * 1000)}")
            self._of_thread.patience = seconds

    def close(self) -> None:
        """Close every thread's connection; a second call does nothing."""
        self._closed = True
        self._forget_connections()

    def _check_place(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.is_dir():
            raise StoreError(f"'{self.path}' is a folder; kept conversations are a file. Move it elsewhere.")
        # Conversations are private; SQLite gives its -wal and -shm files the same mode.
        if not self.path.exists():
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        if not os.access(self.path, os.W_OK) or not os.access(self.path.parent, os.W_OK):
            raise StoreError(self._read_only())

    def _begin(self) -> None:
        connection = self._connection()
        bring_up_to_date(connection, self.path)
        self._write_ahead(connection)
        for table in ("conversations", "messages", "pictures", "message_pictures"):
            # A damaged beginning shows now, and not in the middle of a talk.
            connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()

    def _write_ahead(self, connection: sqlite3.Connection) -> None:
        """Switch to WAL once; SQLite's own patience does not cover two processes that do so at once."""
        until = time.monotonic() + self._patience
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                # Where the disk cannot do it (some network folders) SQLite keeps its other journal.
                return
            except sqlite3.OperationalError as error:
                if _code(error) not in LOCKED or time.monotonic() > until:
                    raise
                time.sleep(0.01)

    def _start_anew(self, reason: str) -> None:
        aside = set_aside(self.path)
        self.notice = (
            f"The kept conversations were damaged ({reason}) and are set aside, untouched, as '{aside}'; "
            "a new, empty file was begun."
        )
        self._check_place()

    def _connection(self) -> sqlite3.Connection:
        connection: Connection | None = getattr(self._of_thread, "connection", None)
        if self._closed:
            raise StoreError(f"The conversations in '{self.path}' are closed already.")
        if connection is None:
            connection = sqlite3.connect(
                self.path,
                timeout=self._patience,
                isolation_level=None,
                # `close` is called from one thread for all of them.
                check_same_thread=False,
                factory=Connection,
            )
            # NORMAL in WAL: a killed process loses nothing, a power cut at most the newest transactions.
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            with self._lock:
                self._all.add(connection)
            self._of_thread.connection = connection
        return connection

    def _forget_connections(self) -> None:
        with self._lock:
            for connection in list(self._all):
                connection.close()
            self._all.clear()
        self._of_thread = threading.local()

    @contextmanager
    def _sentences(self) -> Iterator[None]:
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
                f"{getattr(self._of_thread, 'patience', self._patience):g} s; close it and try again."
            )
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            return self._read_only()
        if code in DAMAGED:
            return (
                f"The conversations in '{self.path}' are damaged ({error}). Save what can still be read with "
                "`minigpt4 history export --all`, then move the file elsewhere to begin a new one."
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
