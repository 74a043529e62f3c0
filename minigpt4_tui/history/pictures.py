"""Pictures of conversations: files named by their content, each stored once."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from minigpt4.core.storage.atomic import replacing
from minigpt4.tui.history.database import Database
from minigpt4.tui.history.records import StoredPicture, storable

if TYPE_CHECKING:
    # It needs numpy and Pillow, and a screen that shows no picture yet needs neither.
    from minigpt4.core.pixels import Picture

ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
"""File endings of formats whose name is not their ending."""

GRACE_S = 3600.0
"""A picture kept fewer seconds ago may be waiting in a composer for its message."""

QUERY_PARAMETERS = 500


class PictureFolder:
    """`pictures/ab/DIGEST.ext` beside the database, and the table of their sizes."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database

    def keep(self, picture: Picture, name: str) -> StoredPicture:
        """Keep a picture's file; equal files are stored once. Raises ImageError, StoreError."""
        digest = picture.digest
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT width, height, format FROM pictures WHERE digest = ?", (digest,)
            ).fetchone()
        width, height, kind = row or (*picture.info.size, picture.info.format)
        path = self.path(digest, kind)
        with self._database.reading():
            _write_once(path, picture.data)
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO pictures (digest, width, height, format, kept) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET kept = excluded.kept",
                (digest, width, height, kind, time.time()),
            )
            # Again, in the transaction, where no other instance can sweep: one may have swept just before.
            _write_once(path, picture.data)
        return StoredPicture(digest, storable(name), width, height, kind, path)

    def path(self, digest: str, kind: str) -> Path:
        """Path of the picture with that digest and format, stored or not."""
        return self.folder / digest[:2] / f"{digest}.{ENDINGS.get(kind, kind.lower())}"

    def of_messages(
        self, connection: sqlite3.Connection, messages: Iterable[int]
    ) -> dict[int, tuple[StoredPicture, ...]]:
        """The pictures of the messages with those row ids, in order."""
        found: dict[int, list[StoredPicture]] = {}
        rows = list(messages)
        for start in range(0, len(rows), QUERY_PARAMETERS):
            some = rows[start : start + QUERY_PARAMETERS]
            query = (
                "SELECT message, digest, name, width, height, format FROM message_pictures JOIN pictures "
                f"USING (digest) WHERE message IN ({', '.join('?' * len(some))}) ORDER BY message, position"
            )
            for message, digest, name, width, height, kind in connection.execute(query, some):
                picture = StoredPicture(digest, name, width, height, kind, self.path(digest, kind))
                found.setdefault(message, []).append(picture)
        return {message: tuple(pictures) for message, pictures in found.items()}

    def sweep(self, connection: sqlite3.Connection) -> None:
        """Delete the pictures that no message refers to any more, inside the caller's transaction."""
        unused = connection.execute(
            "SELECT digest, format FROM pictures WHERE kept < ? "
            "AND NOT EXISTS (SELECT 1 FROM message_pictures WHERE message_pictures.digest = pictures.digest)",
            (time.time() - GRACE_S,),
        ).fetchall()
        for digest, kind in unused:
            self.path(digest, kind).unlink(missing_ok=True)
            connection.execute("DELETE FROM pictures WHERE digest = ?", (digest,))


def _write_once(path: Path, data: bytes) -> None:
    try:
        if path.stat().st_size == len(data):
            return
    except FileNotFoundError:
        pass
    path.parent.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_bytes(data)
