"""Whether the instances that were writing an answer still run.

Each holds a lock on its own file, which the system releases however the process ends. Unlike a process
id, a lock can also be checked from another container, and is never reused.
"""

from __future__ import annotations

import os
from pathlib import Path

from minigpt4.core.storage.locks import acquire


class Writer:
    """This instance; its random `id` is stored with the messages that it is writing."""

    def __init__(self, folder: Path) -> None:
        self.id = os.urandom(8).hex()
        self._folder = folder
        self._handle: int | None = None

    def hold(self) -> str:
        """Count as alive from here on; returns `id`. Raises OSError if the folder cannot be written."""
        if self._handle is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Child processes do not inherit Python's descriptors, so they cannot keep the lock.
            handle = os.open(self._folder / self.id, os.O_CREAT | os.O_RDWR, 0o600)
            acquire(handle)
            self._handle = handle
        return self.id

    def release(self) -> None:
        """Count as ended."""
        if self._handle is not None:
            (self._folder / self.id).unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None


def is_alive(folder: Path, writer: str) -> bool:
    """Whether the instance with that id still holds its lock."""
    try:
        handle = os.open(folder / writer, os.O_RDWR)
    except OSError:
        return False
    try:
        if not acquire(handle, wait=False):
            return True
        (folder / writer).unlink(missing_ok=True)
        return False
    except OSError:
        return True
    finally:
        os.close(handle)
