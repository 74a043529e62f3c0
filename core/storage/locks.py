"""Locks between processes: `flock`, which the system releases however the holding process ends."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


def acquire(file: IO[bytes] | IO[str] | int, *, shared: bool = False, wait: bool = True) -> bool:
    """Lock an open file until it is closed; False if another process holds it and `wait` is off.

    Shared locks exclude exclusive ones only. Raises OSError on a file system without locks.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def lock_file(path: Path) -> Path:
    """The hidden file beside `path` that is locked while `path` is being written.

    It is never removed: a third process could lock a new file while another still holds the old one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name.removeprefix('.')}.lock")


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold the lock of a file that is being written; yields whether it was acquired."""
    with lock_file(path).open("wb") as file:
        yield acquire(file, wait=wait)
