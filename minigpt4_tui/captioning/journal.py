"""What an interrupted run has done: the outputs cannot tell where captions are appended or overwritten."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from minigpt4.core.storage.paths import cache_home


class Journal:
    """The pictures that got captions, one path after the other, until the run is complete.

    It belongs to a command: the same one resumes, another one begins anew. Where the cache cannot be written
    there is none, and an interrupted run cannot be resumed.
    """

    def __init__(self, command: Sequence[object]) -> None:
        """`command` is everything by which two runs differ."""
        digest = hashlib.sha256(json.dumps([str(part) for part in command]).encode()).hexdigest()
        self.path = cache_home() / "captions" / f"{digest[:16]}.done"
        self._done: set[bytes] = set()
        with suppress(OSError):
            # What follows the last end mark was cut off.
            self._done = set(self.path.read_bytes().split(b"\0")[:-1])

    def __contains__(self, picture: Path) -> bool:
        return _key(picture) in self._done

    def add(self, picture: Path) -> None:
        """Note that the caption of a picture is written."""
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as file:
                file.write(_key(picture) + b"\0")

    def remove(self) -> None:
        """The run is complete."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _key(picture: Path) -> bytes:
    return os.fsencode(picture.absolute())
