"""Whether the folder that this process runs in still exists."""

from __future__ import annotations

from pathlib import Path


def has_working_folder() -> bool:
    """False if it was deleted meanwhile: no relative path can be found then, and torch cannot be loaded."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return False
    return True


def working_folder() -> Path:
    """Where a choice of files begins: that folder, or the home folder if it was deleted meanwhile."""
    return Path.cwd() if has_working_folder() else Path.home()
