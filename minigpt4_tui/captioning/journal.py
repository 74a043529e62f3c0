"""What an interrupted run has done: with append or overwrite, the outputs cannot tell."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from minigpt4.core.storage.paths import cache_home


class Journal:
    """A file with the paths of the pictures captioned so far, kept until the run is complete.

    It belongs to one command: the same command resumes, any other starts anew. If the cache is not writable
    there is no journal, and an interrupted run cannot be resumed.
    """

    def __init__(self, command: Sequence[object]) -> None:
        """`command` is everything that distinguishes two runs."""
        digest = hashlib.sha256(json.dumps([str(part) for part in command]).encode()).hexdigest()
        self.path = cache_home() / "captions" / f"{digest[:16]}.done"
        self._done: set[bytes] = set()
        with suppress(OSError):
            # Whatever follows the last terminator was cut off.
            self._done = set(self.path.read_bytes().split(b"\0")[:-1])

    def __contains__(self, picture: Path) -> bool:
        return _key(picture) in self._done

    def add(self, picture: Path) -> None:
        """Record that the caption of a picture is written."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(_key(picture) + b"\0")

    def remove(self) -> None:
        """Delete the file: the run is complete."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _key(picture: Path) -> bytes:
    return os.fsencode(picture.absolute())
