"""Detects edited theme files while the app runs.

Reading the times of a dozen small files takes well under a millisecond, so polling needs no library.
"""

from __future__ import annotations

from pathlib import Path

from minigpt4.themes import theme_files


class ThemeWatch:
    """Remembers the state of the theme files at the last `poll`, at first that of its creation."""

    def __init__(self) -> None:
        self._seen = _stamps()

    def poll(self) -> list[str]:
        """Sorted names of the themes whose files were added, edited or deleted since the last call."""
        before, self._seen = self._seen, _stamps()
        return sorted({name for name, _ in before.items() ^ self._seen.items()})


def _stamps() -> dict[str, tuple[Path, int, int, int]]:
    """What differs after an edit, whether an editor writes in place or replaces the file."""
    stamps = {}
    for name, path in theme_files().items():
        try:
            status = path.stat()
        except OSError:
            continue
        stamps[name] = (path, status.st_mtime_ns, status.st_size, status.st_ino)
    return stamps
