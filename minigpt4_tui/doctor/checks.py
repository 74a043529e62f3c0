"""`minigpt4 doctor`: everything that minigpt4 leans on, looked at one by one, each with the way out.

A check never raises and never changes anything; what breaks in it is its finding.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.paths import HOME_VARIABLE, cache_home, config_home, data_home

State = Literal["ok", "warning", "problem"]

LITTLE_SPACE = 1_000_000_000
NO_SPACE = 100_000_000
"""Bytes free below which a bundle will hardly fit, and below which even a conversation may not."""


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's: what was looked at, how it is, and, unless it is well, the way out."""

    name: str
    state: State
    detail: str
    advice: str = ""


def examine() -> Iterator[Finding]:
    """All findings, the quick ones first; the slow libraries are being tried meanwhile."""
    from minigpt4.tui.doctor.libraries import ImportProbe, LlamaProbe, TorchProbe, packages
    from minigpt4.tui.doctor.terminal import clipboard, pictures, terminal

    with TorchProbe() as torch, ImportProbe() as imports, LlamaProbe() as llama:
        for name, check in (
            ("python", python),
            ("packages", packages),
            ("terminal", terminal),
            ("pictures", pictures),
            ("clipboard", clipboard),
            ("folders", folders),
            ("settings", settings),
            ("themes", themes),
            ("bundles", bundles),
            ("memory", memory),
            ("conversations", conversations),
            ("imports", imports.findings),
            ("llama.cpp", llama.findings),
            ("torch", torch.findings),
        ):
            yield from safely(name, check)


def safely(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The check's findings; an error of its own is one, too."""
    try:
        yield from check()
    except Minigpt4Error as problem:
        yield Finding(name, "problem", str(problem), "the sentence tells where; mend it, or take it away")
    except (ImportError, SyntaxError, SystemExit) as problem:
        detail = f"could not be looked at ({type(problem).__name__}: {problem})"
        yield Finding(name, "problem", detail, "a package is broken; the last lines tell which")
    except Exception as problem:
        detail = f"could not be looked at ({type(problem).__name__}: {problem})"
        yield Finding(name, "problem", detail, "this is a bug in minigpt4; please report this line")


def python() -> Iterator[Finding]:
    """The interpreter and what is built into it."""
    version = f"{platform.python_version()} ({sys.executable}) on {platform.platform(terse=True)}"
    yield Finding("python", "ok", version)
    yield _search()


def _search() -> Finding:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
    except sqlite3.OperationalError:
        return Finding(
            "sqlite",
            "problem",
            f"{sqlite3.sqlite_version} without full-text search (FTS5)",
            "use a Python whose SQLite has it, such as the one from python.org or conda",
        )
    finally:
        connection.close()
    return Finding("sqlite", "ok", f"{sqlite3.sqlite_version} with full-text search")


def folders() -> Iterator[Finding]:
    """Our three folders: can they be written, and is there room."""
    for name, folder in (("config", config_home()), ("data", data_home()), ("cache", cache_home())):
        standing = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(standing).free
        where = f"{folder}, {free / 1e9:.1f} GB free"
        elsewhere = f"set {HOME_VARIABLE} to a folder that"
        if not standing.is_dir():
            yield Finding(name, "problem", f"{standing} is a file", f"move it, or {elsewhere} can be made")
        elif not os.access(standing, os.W_OK | os.X_OK):
            yield Finding(
                name, "problem", f"{where}, cannot be written", f"change its owner, or {elsewhere} is yours"
            )
        elif free < LITTLE_SPACE:
            state: State = "problem" if free < NO_SPACE else "warning"
            yield Finding(name, state, where, f"make room, or {elsewhere} lies on another disk")
        else:
            yield Finding(name, "ok", where)


def settings() -> Iterator[Finding]:
    """The settings file, the environment and the keys."""
    from minigpt4.tui.cli.config import settings_problems
    from minigpt4.tui.settings.file import settings_path

    problems = list(settings_problems())
    for problem in problems:
        yield Finding("settings", "warning", problem, "`minigpt4 config show --about` tells what they may be")
    if not problems:
        here = settings_path()
        yield Finding("settings", "ok", str(here) if here.exists() else "the defaults; there is no file")


def themes() -> Iterator[Finding]:
    """Every theme file."""
    from minigpt4.themes import load_theme, own_themes_folder, theme_files
    from minigpt4.tui.app.textual_theme import textual_theme

    sound = 0
    for name in theme_files():
        try:
            textual_theme(load_theme(name))
            sound += 1
        except Minigpt4Error as problem:
            yield Finding("themes", "warning", str(problem), "mend the file; until then it cannot be chosen")
    own = sum(path.parent == own_themes_folder() for path in theme_files().values())
    yield Finding("themes", "ok", f"{sound} can be chosen, {own} of them in {own_themes_folder()}")


def bundles() -> Iterator[Finding]:
    """Which bundles are here; only the chosen one has to be."""
    from minigpt4.core.bundles.bundle import bundle_names
    from minigpt4.tui.settings.settings import load_settings

    chosen = load_settings().settings.bundle
    for name in bundle_names():
        yield from safely("bundle", lambda name=name: _bundle(name, name == chosen))  # type: ignore[misc]


def _bundle(name: str, is_chosen: bool) -> Iterator[Finding]:
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.download.fetch import bundles_folder, is_present
    from minigpt4.core.language.load import needed_files
    from minigpt4.core.weights.locate import gguf_files, hf_folder

    bundle = load_bundle(name)
    needed = needed_files(bundle)
    absent = [file for file in needed if not is_present(file, bundle)]
    pull = f"`minigpt4 models pull {name}` fetches it"
    if not absent:
        if bundle.language.folder is not None:
            hf_folder(bundle)
        kinds = ", ".join(gguf_files(bundle))
        place = f"{name}, in {bundles_folder() / name}"
        yield Finding("bundle", "ok", f"{place} ({kinds})" if kinds else place)
    elif len(absent) < len(needed):
        lacking = ", ".join(file.name for file in absent[:3])
        yield Finding("bundle", "warning", f"{name}: {len(absent)} files are missing ({lacking})", pull)
    elif is_chosen:
        yield Finding(
            "bundle",
            "warning",
            f"{name}, the chosen one, is not fetched yet",
            f"{pull}; so does the first use",
        )
    else:
        yield Finding("bundle", "ok", f"{name}, not fetched")


def memory() -> Iterator[Finding]:
    """Free memory, and whether the chosen bundle has enough of it in its smallest form."""
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.memory import free_memory, gib, memory_needed, quants_of
    from minigpt4.tui.settings.settings import load_settings

    free = free_memory()
    if free is None:
        yield Finding("memory", "ok", "the system does not tell how much is free")
        return
    bundle = load_bundle(load_settings().settings.bundle)
    sums = [sum(memory_needed(bundle, quant).values()) for quant in quants_of(bundle)]
    least = min(filter(None, sums), default=0)
    if free < least:
        needed = f"{gib(free)} free; '{bundle.name}' needs {gib(least)} at least"
        yield Finding("memory", "warning", needed, "close other programs, or choose a smaller bundle")
    else:
        yield Finding("memory", "ok", f"{gib(free)} free")


def conversations() -> Iterator[Finding]:
    """The file of kept conversations, read only: its form and its soundness."""
    from minigpt4.tui.history.schema import APPLICATION_ID, MIGRATIONS
    from minigpt4.tui.history.store import FILE_NAME

    path = data_home() / FILE_NAME
    if not path.exists():
        yield Finding("conversations", "ok", "none kept yet")
        return
    try:
        version, owner, told, count = _database_facts(path)
    except sqlite3.Error as problem:
        busy = "locked" in str(problem)
        yield Finding(
            "conversations",
            "warning" if busy else "problem",
            f"{path}: {problem}",
            "another program holds it; try again later"
            if busy
            else "the app sets it aside and begins a new one",
        )
        return
    if told != "ok":
        yield Finding(
            "conversations", "problem", f"{path} is damaged: {told}", "keep a copy before you go on"
        )
    elif owner != APPLICATION_ID:
        yield Finding("conversations", "problem", f"{path} is another program's", "move it elsewhere")
    elif version > len(MIGRATIONS):
        yield Finding(
            "conversations",
            "problem",
            f"{path} is of a newer minigpt4",
            "update minigpt4; the file is not touched",
        )
    else:
        yield Finding("conversations", "ok", f"{path}, {count} kept, sound")


def _database_facts(path: Path) -> tuple[int, int, str, int]:
    """Version, application, SQLite's own verdict, and how many conversations."""
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (owner,) = connection.execute("PRAGMA application_id").fetchone()
        (told,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        listed = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'conversations'")
        query = "SELECT count(*) FROM conversations WHERE deleted IS NULL"
        count = connection.execute(query).fetchone()[0] if listed.fetchone()[0] else 0
    finally:
        connection.close()
    return version, owner, told, count
