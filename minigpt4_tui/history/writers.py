"""Which instances that are writing an answer are still alive.

Each holds a lock on a file of its own, which the system lets go of however the process ends. Unlike
a process number the lock can be asked for from another container, and is never somebody else's.
"""

from __future__ import annotations

import os
from pathlib import Path

from minigpt4.core.storage.locks import acquire


class Writer:
    """This instance, as the messages that it is writing name it; `id` is made up once."""

    def __init__(self, folder: Path) -> None:
        self.id = os.urandom(8).hex()
        self._folder = folder
        self._handle: int | None = None

    def hold(self) -> str:
        """Be seen as alive from here on; returns `id`. Raises OSError where the folder cannot be written."""
        if self._handle is None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Python's files are closed in the processes that this one starts, so the lock is ours alone.
            handle = os.open(self._folder / self.id, os.O_CREAT | os.O_RDWR, 0o600)
            acquire(handle)
            self._handle = handle
        return self.id

    def release(self) -> None:
        """Be seen as gone."""
        if self._handle is not None:
            (self._folder / self.id).unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None


def is_alive(folder: Path, writer: str) -> bool:
    """Whether the instance of that id still holds its lock."""
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
