"""Work that several processes share: whoever claims a piece does it; one that dies lets go of it."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def claimed(piece: Path, *, waits: bool = True) -> Iterator[bool]:
    """Hold the lock of a file that is being made; whether it was got, which without `waits` it may not be.

    The lock is a hidden file beside the piece that stays: removing it would let a third process
    lock a new one meanwhile.
    """
    piece.parent.mkdir(parents=True, exist_ok=True)
    with piece.with_name(f".{piece.name}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
