"""Size and checksum of a downloaded file, kept beside it if they had not been published beforehand.

The note is a small hidden JSON file: `.NAME.received` with `bytes` and `sha256`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from minigpt4.core.storage.atomic import replacing


@dataclass(frozen=True)
class Checksum:
    """A file's size and the SHA-256 of its content."""

    bytes: int
    sha256: str


def read_note(path: Path) -> Checksum | None:
    """The note beside the file at `path`; None if there is no readable one."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        return Checksum(int(note["bytes"]), str(note["sha256"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_note(path: Path, checksum: Checksum) -> None:
    """Write the note; raises OSError if the folder cannot be written."""
    with replacing(_note(path)) as draft:
        draft.write_text(json.dumps(asdict(checksum)), encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content (reads all of it)."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.received")
