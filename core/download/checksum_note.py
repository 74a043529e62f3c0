"""What is noted about a file whose size and checksum nobody had published before it arrived.

The note is a small hidden JSON file beside the file: `.NAME.received` with `bytes` and `sha256`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from minigpt4.core.storage.atomic import replacing


@dataclass(frozen=True)
class Received:
    """A file's size and the SHA-256 of its content."""

    bytes: int
    sha256: str


def received(path: Path) -> Received | None:
    """The note about the file at `path`; None where there is none that can be read."""
    try:
        note = json.loads(_note(path).read_text(encoding="utf-8"))
        return Received(int(note["bytes"]), str(note["sha256"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def note_received(path: Path, facts: Received) -> None:
    """Write the note; raises OSError where the folder cannot be written."""
    with replacing(_note(path)) as draft:
        draft.write_text(json.dumps(asdict(facts)), encoding="utf-8")


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content (reads all of it)."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.received")
