"""Pictures of conversations: files named by their content, each kept once."""

from __future__ import annotations

import sqlite3
import time
import warnings
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from minigpt4.core.atomic import replacing
from minigpt4.core.errors import ImageError
from minigpt4.tui.history.database import Database
from minigpt4.tui.history.records import StoredPicture, storable

ENDINGS = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
"""File endings of formats whose name is not their ending."""

ORIENTATION = 0x0112
"""The EXIF tag of how the camera was held; 5 to 8 lie on their side."""

GRACE_S = 3600.0
"""A picture kept more lately than this may be waiting in a composer for its message."""

SYMBOLS_A_QUERY = 500


class PictureFolder:
    """`pictures/ab/DIGEST.ext` beside the database, and the table that knows their sizes."""

    def __init__(self, folder: Path, database: Database) -> None:
        self.folder = folder
        self._database = database

    def keep(self, data: bytes, name: str) -> StoredPicture:
        """Keep a picture file's bytes; the same bytes take no second room. Raises ImageError, StoreError."""
        import hashlib

        digest = hashlib.sha256(data).hexdigest()
        with self._database.reading() as connection:
            row = connection.execute(
                "SELECT width, height, format FROM pictures WHERE digest = ?", (digest,)
            ).fetchone()
        width, height, kind = row or _looked_at(data, name)
        path = self.path(digest, kind)
        with self._database.reading():
            _write_once(path, data)
        with self._database.writing() as connection:
            connection.execute(
                "INSERT INTO pictures (digest, width, height, format, kept) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (digest) DO UPDATE SET kept = excluded.kept",
                (digest, width, height, kind, time.time()),
            )
            # Inside the transaction, where no other instance sweeps: it may have swept just before.
            _write_once(path, data)
        return StoredPicture(digest, storable(name), width, height, kind, path)

    def path(self, digest: str, kind: str) -> Path:
        """Where the picture of that digest and format lies, or would."""
        return self.folder / digest[:2] / f"{digest}.{ENDINGS.get(kind, kind.lower())}"

    def of_messages(
        self, connection: sqlite3.Connection, messages: Iterable[int]
    ) -> dict[int, tuple[StoredPicture, ...]]:
        """The pictures of the messages with those row numbers, in their order."""
        found: dict[int, list[StoredPicture]] = {}
        rows = list(messages)
        for start in range(0, len(rows), SYMBOLS_A_QUERY):
            some = rows[start : start + SYMBOLS_A_QUERY]
            query = (
                "SELECT message, digest, name, width, height, format FROM message_pictures "
                f"JOIN pictures USING (digest) WHERE message IN ({', '.join('?' * len(some))}) "
                "ORDER BY message, position"
            )
            for message, digest, name, width, height, kind in connection.execute(query, some):
                picture = StoredPicture(digest, name, width, height, kind, self.path(digest, kind))
                found.setdefault(message, []).append(picture)
        return {message: tuple(pictures) for message, pictures in found.items()}

    def sweep(self, connection: sqlite3.Connection) -> None:
        """Remove the pictures that no message holds any more, inside the caller's transaction."""
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


def _looked_at(data: bytes, name: str) -> tuple[int, int, str]:
    """Width and height of the upright picture and its format, from the file's beginning."""
    # Loaded late: a screen that shows no picture yet does without numpy and Pillow.
    from PIL import Image

    from minigpt4.core.pixels import DECODER_ERRORS, FORMATS, MAX_FILE_BYTES, MAX_PIXELS

    if len(data) > MAX_FILE_BYTES:
        raise ImageError(f"{name} is over {MAX_FILE_BYTES // 2**20} MiB, too long for a picture.")
    Image.init()
    with warnings.catch_warnings():
        # Sizes are judged below, and damaged camera notes change nothing here.
        warnings.simplefilter("ignore")
        try:
            known = [kind for kind in FORMATS if kind in Image.OPEN]
            with Image.open(BytesIO(data), formats=known) as image:
                width, height = image.size
                on_its_side = _orientation(image) in range(5, 9)
                kind = image.format or "PNG"
        except DECODER_ERRORS as error:
            raise ImageError(f"{name} is not a picture that can be read, or is damaged.") from error
    if width * height > MAX_PIXELS:
        limit = MAX_PIXELS // 1_000_000
        raise ImageError(
            f"{name} is too large: {width} x {height} pixels, where at most {limit} million are decoded."
        )
    return (height, width, kind) if on_its_side else (width, height, kind)


def _orientation(image: object) -> int:
    from PIL import Image

    from minigpt4.core.pixels import DECODER_ERRORS

    assert isinstance(image, Image.Image)
    try:
        value = image.getexif().get(ORIENTATION, 1)
    except DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) else 1
