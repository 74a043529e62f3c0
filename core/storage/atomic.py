"""Files that are written atomically."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path, *, is_private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; it replaces `path` if the block succeeds.

    With `is_private`, only its owner can read it. Nothing is left behind if the block raises. Raises OSError
    if the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        # The given name, not the temporary one, tells what to fix.
        raise OSError(error.errno, error.strerror, str(path)) from error
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        with draft.open("rb+") as file:
            # Without fsync a power cut can leave a file of zeros under the new name.
            os.fsync(file.fileno())
        if not is_private:
            # mkstemp's 0600 would hide a shared model or cache file from its other readers.
            umask = os.umask(0)
            os.umask(umask)
            draft.chmod(0o666 & ~umask)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
