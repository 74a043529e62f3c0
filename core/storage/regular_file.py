"""Read files that users name; files that would block or never end are rejected first."""

from __future__ import annotations

import errno
import os
import select
import stat
from pathlib import Path
from typing import BinaryIO

NO_FILES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

PATIENCE_S = 5.0
"""Seconds to wait for a writer of a named FIFO."""

_PIPES = ("/dev/", "/proc/")
"""Where the pipe of a shell's `<(...)` lies: it has a writer, who closes it."""


def require_regular_file(path: Path) -> None:
    """Raise OSError if there is no file, or if it is a folder, a FIFO, a socket or a device.

    Opening a FIFO waits for its writer, and a device such as /dev/zero never ends.
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"it is {NO_FILES.get(kind, 'something else')}, not a file", str(path))


def read_regular_file(path: Path) -> bytes:
    """The content of a file; raises OSError as `require_regular_file` does."""
    require_regular_file(path)
    return path.read_bytes()


def open_file_or_pipe(path: Path) -> BinaryIO:
    """Open a file or a pipe for reading; raises OSError for anything else, as `require_regular_file` does.

    Raises TimeoutError for a FIFO that nobody writes to within PATIENCE_S.
    """
    if not stat.S_ISFIFO(path.stat().st_mode):
        require_regular_file(path)
        return path.open("rb")
    if str(path).startswith(_PIPES):
        return path.open("rb")
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = os.fdopen(handle, "rb")
    if not select.select([handle], [], [], PATIENCE_S)[0]:
        file.close()
        raise TimeoutError(errno.ETIMEDOUT, "it is a FIFO, and nothing is written into it", str(path))
    os.set_blocking(handle, True)
    return file
