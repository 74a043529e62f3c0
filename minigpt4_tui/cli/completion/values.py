"""The values of options and arguments that are looked up when Tab is pressed, by their kind."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from minigpt4.core.storage.paths import config_home, data_home

Candidate = tuple[str, str]
"""A value, and what is said about it."""

FILES = ":files"
"""Stands for every path: the shell completes those itself."""

CHOICES = "choices:"
"""Begins a kind that consists of fixed values, with a space between two."""

PACKAGE = Path(__file__).parents[3]
"""The folder of `minigpt4`: core, train and themes lie in it, under these names."""

CONVERSATIONS = "conversations.sqlite3"
SHOWN_ID = 8
MAX_CONVERSATIONS = 200
MAX_ABOUT = 60
_SUMMARY = re.compile(r'^summary\s*=\s*"([^"]*)"', re.MULTILINE)


def values_of(kind: str, typed: str) -> Iterator[Candidate]:
    """The values of a kind; `typed` is their beginning. What cannot be read has none."""
    if kind.startswith(CHOICES):
        yield from ((value, "") for value in kind.removeprefix(CHOICES).split())
        return
    for one in kind.split():
        if one == "files":
            yield FILES, ""
            continue
        try:
            for value, about in _KINDS[one](typed):
                if value.isprintable():
                    yield value, _shown(about)
        except (OSError, ValueError):
            continue


def _shown(about: str) -> str:
    """On one line, without control codes."""
    return "".join(letter for letter in " ".join(about.split()) if letter.isprintable())[:MAX_ABOUT]


def _bundles(_typed: str) -> Iterator[Candidate]:
    for path in _toml_files(PACKAGE / "core" / "bundles", config_home() / "bundles"):
        summary = _SUMMARY.search(path.read_text(encoding="utf-8", errors="replace"))
        yield path.stem, summary[1] if summary else ""


def _recipes(_typed: str) -> Iterator[Candidate]:
    return ((path.stem, "") for path in _toml_files(PACKAGE / "train" / "recipes"))


def _themes(_typed: str) -> Iterator[Candidate]:
    return ((path.stem, "") for path in _toml_files(PACKAGE / "themes", config_home() / "themes"))


def _toml_files(*folders: Path) -> list[Path]:
    return [path for folder in folders for path in sorted(folder.glob("*.toml")) if path.is_file()]


def _kept(_typed: str) -> Iterator[Candidate]:
    return _conversations("deleted IS NULL ORDER BY pinned DESC, updated DESC")


def _deleted(_typed: str) -> Iterator[Candidate]:
    return _conversations("deleted IS NOT NULL ORDER BY deleted DESC")


def _conversations(which: str) -> Iterator[Candidate]:
    import sqlite3  # 5 ms, which only these values need

    path = data_home() / CONVERSATIONS
    if not path.is_file():
        return
    try:
        database = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.05)
        try:
            rows = database.execute(
                f"SELECT id, title FROM conversations WHERE {which} LIMIT {MAX_CONVERSATIONS}"
            ).fetchall()
        finally:
            database.close()
    except sqlite3.Error:
        return
    yield from ((str(name)[:SHOWN_ID], str(title)) for name, title in rows)


def _runs(typed: str) -> Iterator[Candidate]:
    """The folders of runs in `runs`, or in the folder that was typed."""
    folder = os.path.split(typed)[0] or "runs"
    place = Path(folder).expanduser()
    if place.is_dir():
        for run in sorted(place.iterdir()):
            if (run / "recipe.toml").is_file():
                yield f"{folder.rstrip('/')}/{run.name}", ""


_KINDS: dict[str, Callable[[str], Iterator[Candidate]]] = {
    "bundle": _bundles,
    "recipe": _recipes,
    "theme": _themes,
    "conversation": _kept,
    "deleted": _deleted,
    "run": _runs,
}
