"""`minigpt4 doctor`: checks everything minigpt4 depends on and says how to fix what is wrong.

A check never changes anything and never raises: an error inside it becomes its finding.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.storage.paths import HOME_VARIABLE, cache_home, config_home, data_home
from minigpt4.tui.doctor.finding import Finding, State

COMPILE = "compile llama-cpp-python again with GCC 14 or Clang; see docs/models.md"

LOW_SPACE = 1_000_000_000
NO_SPACE = 100_000_000
"""Free bytes below which a bundle hardly fits, and below which even a conversation may not."""


def examine() -> Iterator[Finding]:
    """All findings, the quick ones first; the slow libraries are imported in the background meanwhile."""
    from minigpt4.tui.doctor.libraries import ImportProbe, LlamaProbe, TorchProbe, packages
    from minigpt4.tui.doctor.terminal import clipboard, pictures, terminal

    quick = [python, packages, terminal, pictures, clipboard]
    quick += [folders, settings, themes, prompts, bundles, memory, repacking, conversations]
    with TorchProbe() as torch, ImportProbe() as imports, LlamaProbe() as llama:
        for check in quick:
            yield from safely(check.__name__, check)
        for probe in (imports, llama, torch):
            yield from safely(probe.name, probe.findings)


def safely(name: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """The check's findings; if it raises, the error is a finding, too."""
    try:
        yield from check()
    except Minigpt4Error as error:
        yield Finding(name, "problem", str(error), "fix or remove the file that the message names")
    except (Exception, SystemExit) as error:
        is_package = isinstance(error, ImportError | SyntaxError | SystemExit)
        yield Finding(
            name,
            "problem",
            f"the check failed ({type(error).__name__}: {error})",
            "a package is broken; the last lines say which"
            if is_package
            else "this is a bug in minigpt4; please report this line",
        )


def python() -> Iterator[Finding]:
    """The interpreter, and whether its SQLite has full-text search."""
    version = f"{platform.python_version()} ({sys.executable}) on {platform.platform(terse=True)}"
    yield Finding("python", "ok", version)
    try:
        with closing(sqlite3.connect(":memory:")) as database:
            database.execute("CREATE VIRTUAL TABLE words USING fts5(text)")
        yield Finding("sqlite", "ok", f"{sqlite3.sqlite_version} with full-text search")
    except sqlite3.OperationalError:
        detail = f"{sqlite3.sqlite_version} without full-text search (FTS5)"
        advice = "use a Python whose SQLite has it, such as the one from python.org or conda"
        yield Finding("sqlite", "problem", detail, advice)


def folders() -> Iterator[Finding]:
    """Whether the three folders are writable and have space left."""
    for name, folder in (("config", config_home()), ("data", data_home()), ("cache", cache_home())):
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        free = shutil.disk_usage(existing).free
        detail = f"{folder}, {free / 1e9:.1f} GB free{_embeddings() if name == 'cache' else ''}"
        or_move = f"or set {HOME_VARIABLE} to another folder"
        if not existing.is_dir():
            yield Finding(name, "problem", f"{existing} is a file", f"move it, {or_move}")
        elif not os.access(existing, os.W_OK | os.X_OK):
            yield Finding(name, "problem", f"{detail}, not writable", f"change its owner, {or_move}")
        elif free < LOW_SPACE:
            state: State = "problem" if free < NO_SPACE else "warning"
            yield Finding(name, state, detail, f"free some space, {or_move} on another disk")
        else:
            yield Finding(name, "ok", detail)


def _embeddings() -> str:
    """How much of the cache is embeddings, as the end of a line; empty if there are none."""
    from minigpt4.core.embedding_cache import LIMIT_BYTES, cached_bytes

    files, size = cached_bytes()
    if not files:
        return ""
    return f"; embeddings of pictures: {files} in {size / 1e6:.1f} MB of at most {LIMIT_BYTES / 1e6:.0f} MB"


def settings() -> Iterator[Finding]:
    """The settings file, the environment and the keys."""
    from minigpt4.tui.settings.file import settings_path
    from minigpt4.tui.settings.problems import settings_problems

    problems = list(settings_problems())
    for problem in problems:
        yield Finding("settings", "warning", problem, "`minigpt4 config show --about` lists valid values")
    if not problems:
        path = settings_path()
        yield Finding("settings", "ok", str(path) if path.exists() else "all defaults; there is no file")


def themes() -> Iterator[Finding]:
    """Every theme file."""
    from minigpt4.themes import load_theme, own_themes_folder, theme_files
    from minigpt4.tui.textual_theme import textual_theme

    files, own = theme_files(), own_themes_folder()
    broken = 0
    for name in files:
        try:
            textual_theme(load_theme(name))
        except Minigpt4Error as error:
            broken += 1
            yield Finding("themes", "warning", str(error), "fix the file; until then it cannot be used")
    in_own = sum(path.parent == own for path in files.values())
    yield Finding("themes", "ok", f"{len(files) - broken} usable, {in_own} of them in {own}")


def prompts() -> Iterator[Finding]:
    """Every file of a named prompt."""
    from minigpt4.tui.conversation.slash_commands import prompt_problems

    for problem in prompt_problems():
        yield Finding("prompts", "warning", problem, "fix the file; until then it cannot be used")


def bundles() -> Iterator[Finding]:
    """Which bundles are downloaded; only the chosen one has to be."""
    from minigpt4.core.bundles.bundle import bundle_names
    from minigpt4.tui.settings.settings import load_settings

    chosen = load_settings().settings.bundle
    for name in bundle_names():
        yield from safely("bundle", partial(_bundle, name, name == chosen))


def _bundle(name: str, is_chosen: bool) -> Iterator[Finding]:
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.download.fetch import bundles_folder, is_present
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.language.load import needed_files
    from minigpt4.core.weights.locate import check_own_files, gguf_files, hf_folder

    bundle = load_bundle(name)
    needed = needed_files(EngineOptions(bundle))
    missing = [file.name for file in needed if not is_present(file, bundle)]
    pull = f"`minigpt4 models pull {name}` downloads"
    if not missing:
        if bundle.language.folder is not None:
            hf_folder(bundle)  # raises unless the user's own language model is there
        check_own_files(bundle)
        quants = ", ".join(gguf_files(bundle))
        place = f"{name}, in {bundle.language.path or bundles_folder() / name}"
        yield Finding("bundle", "ok", f"{place} ({quants})" if quants else place)
    elif len(missing) < len(needed):
        detail = f"{name}: {len(missing)} files are missing ({', '.join(missing[:3])})"
        yield Finding("bundle", "warning", detail, f"{pull} them")
    elif is_chosen:
        advice = f"{pull} it; so does the first use"
        yield Finding("bundle", "warning", f"{name}, the chosen one, is not downloaded yet", advice)
    else:
        yield Finding("bundle", "ok", f"{name}, not downloaded")


def memory() -> Iterator[Finding]:
    """Whether the chosen bundle fits into free memory in its smallest form."""
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.memory import free_memory, gib, memory_needed, quants_of
    from minigpt4.tui.settings.settings import load_settings

    free = free_memory()
    if free is None:
        yield Finding("memory", "ok", "the system does not report free memory")
        return
    bundle = load_bundle(load_settings().settings.bundle)
    sums = [sum(memory_needed(bundle, quant).values()) for quant in quants_of(bundle)]
    least = min(filter(None, sums), default=0)
    if free < least:
        detail = f"{gib(free)} free; '{bundle.name}' needs at least {gib(least)}"
        yield Finding("memory", "warning", detail, "close other programs, or choose a smaller bundle")
    else:
        yield Finding("memory", "ok", f"{gib(free)} free")


def repacking() -> Iterator[Finding]:
    """Whether llama.cpp repacks the chosen bundle's weights, tried out in another process if need be."""
    from minigpt4.core.bundles.bundle import load_bundle
    from minigpt4.core.weights.locate import choose_gguf
    from minigpt4.tui.settings.settings import load_settings

    chosen = load_settings().settings
    bundle = load_bundle(chosen.bundle)
    gguf = choose_gguf(bundle)
    if gguf is None or importlib.util.find_spec("llama_cpp") is None:
        return
    if not chosen.repack:
        yield Finding("repacking", "ok", "off, as set")
        return
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.language.llamacpp import is_large
    from minigpt4.core.language.repack_choice import reason_against
    from minigpt4.core.memory import gib, lack_of_room_for_copy
    from minigpt4.core.weights.repacking import known_repacking, probe

    verdict = known_repacking(gguf) or probe(gguf)
    reason = reason_against(verdict, is_large=is_large(gguf))
    lack = "" if reason else lack_of_room_for_copy(EngineOptions(bundle, context=chosen.context), gguf)
    if verdict.problem:
        advice = COMPILE if verdict.is_settled else "it is tried again after a day"
        yield Finding("repacking", "warning", f"off for '{bundle.name}': {reason}", advice)
    elif lack:
        advice = "close other programs; repacked weights are read faster"
        yield Finding("repacking", "warning", f"off for '{bundle.name}': {lack}", advice)
    elif reason:
        yield Finding("repacking", "ok", f"off for '{bundle.name}': {reason}")
    else:
        copied = f"{gib(verdict.copied)} of {', '.join(verdict.types)}"
        yield Finding("repacking", "ok", f"on for '{bundle.name}': {copied} in memory that cannot be dropped")


def conversations() -> Iterator[Finding]:
    """The history database, opened read-only: its format version and its integrity."""
    from minigpt4.tui.history.store import FILE_NAME

    path = data_home() / FILE_NAME
    if not path.exists():
        yield Finding("conversations", "ok", "none saved yet")
        return
    state: State = "problem"
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2)) as database:
            state, detail, advice = _judged(database)
    except sqlite3.Error as error:
        detail, advice = f": {error}", "the app moves it aside and starts a new one"
        if "locked" in str(error):
            state, advice = "warning", "another program is using it; try again later"
    yield Finding("conversations", state, f"{path}{detail}", advice)


def _judged(database: sqlite3.Connection) -> tuple[State, str, str]:
    """State, detail after the file's name, and advice."""
    from minigpt4.tui.history.schema import APPLICATION_ID, MIGRATIONS

    def first(query: str) -> Any:
        return database.execute(query).fetchone()[0]

    if (verdict := first("PRAGMA quick_check(1)")) != "ok":
        return "problem", f" is damaged: {verdict}", "make a copy before you continue"
    if first("PRAGMA application_id") != APPLICATION_ID:
        return "problem", " is another program's", "move it elsewhere"
    if first("PRAGMA user_version") > len(MIGRATIONS):
        return "problem", " is from a newer minigpt4", "update minigpt4; the file is left as it is"
    has_table = first("SELECT count(*) FROM sqlite_master WHERE name = 'conversations'")
    count = first("SELECT count(*) FROM conversations WHERE deleted IS NULL") if has_table else 0
    return "ok", f", {count} saved, intact", ""
