"""Reading small files that people write; what is no file is refused before it is opened."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

NO_FILES = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read_regular_file(path: Path) -> bytes:
    """The content of a file; raises OSError, also if it is a folder, a FIFO, a socket or a device.

    Opening a FIFO waits for its writer, and a device such as /dev/zero never ends.
    """
    kind = stat.S_IFMT(path.stat().st_mode)
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"it is {NO_FILES.get(kind, 'something else')}, not a file", str(path))
    return path.read_bytes()
