"""Themes that change while they are shown: ask `ThemeWatch.poll` now and then what is new.

Looking at the times of a dozen small files takes well under a millisecond, so no library has to be
notified by the system.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from minigpt4.core.errors import Minigpt4Error
from minigpt4.themes import Theme, load_theme, theme_files


@dataclass(frozen=True)
class ThemeChange:
    """A theme that is new, edited or gone since the last look.

    `theme` is what its file holds now; None where it is gone, or wrong: then `problem` is the sentence.
    """

    name: str
    theme: Theme | None
    problem: str | None = None


class ThemeWatch:
    """Remembers how the theme files were at the last look, the first of which is its making."""

    def __init__(self) -> None:
        self._seen = _stamps()

    def poll(self) -> list[ThemeChange]:
        """What has changed since the last look, by name. Raises nothing: a wrong file is data."""
        now = _stamps()
        changed = sorted(
            name for name in now.keys() | self._seen.keys() if now.get(name) != self._seen.get(name)
        )
        self._seen = now
        return [_read(name) if name in now else ThemeChange(name, None) for name in changed]


def _read(name: str) -> ThemeChange:
    try:
        return ThemeChange(name, load_theme(name))
    except Minigpt4Error as problem:
        return ThemeChange(name, None, str(problem))


def _stamps() -> dict[str, tuple[Path, int, int, int]]:
    """What differs after an edit: editors write in place, or put a new file of the same name there."""
    stamps = {}
    for name, path in theme_files().items():
        try:
            facts = path.stat()
        except OSError:
            continue
        stamps[name] = (path, facts.st_mtime_ns, facts.st_size, facts.st_ino)
    return stamps
