"""The values of options and arguments that are looked up when Tab is pressed, by their kind.

Only `os` and `sys` are imported until a value needs more: pathlib, re, typing and platformdirs would double
the time of a completion.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

Candidate = tuple[str, str]
"""A value and its description."""

FILES = ":files"
"""Stands for paths, which the shell completes itself; with a space and a suffix, for paths that end in it."""

CHOICES = "choices:"
"""Begins a kind that consists of fixed values, separated by spaces."""

PACKAGE = os.path.abspath(os.path.join(__file__, *[os.pardir] * 4))
"""The folder of `minigpt4`: core, train, themes and tui lie in it, under these names."""

CONVERSATIONS = "conversations.sqlite3"
SHOWN_ID = 8
MAX_CONVERSATIONS = 200
MAX_ABOUT = 60


def values_of(kind: str, typed: str, before: Sequence[str] = ()) -> Iterator[Candidate]:
    """The values of a kind; `typed` is the beginning of the word, `before` all words that precede it.

    Files that cannot be read yield no values.
    """
    if kind.startswith(CHOICES):
        yield from ((value, "") for value in kind.removeprefix(CHOICES).split())
        return
    for one in kind.split():
        if one.startswith("files"):
            yield f":{one.replace('.', ' ')}", ""
            continue
        try:
            for value, about in _KINDS[one](typed, before):
                if value.isprintable():
                    yield value, _shown(about)
        except (OSError, ValueError):
            continue


def config_folder() -> str:
    """The folder of `core.storage.paths.config_home`."""
    return _home("config", "XDG_CONFIG_HOME", "~/.config")


def data_folder() -> str:
    """The folder of `core.storage.paths.data_home`."""
    return _home("data", "XDG_DATA_HOME", "~/.local/share")


def _home(name: str, variable: str, usual: str) -> str:
    if own := os.environ.get("MINIGPT4_HOME"):
        return os.path.join(os.path.abspath(os.path.expanduser(own)), name)
    if sys.platform == "linux":
        # platformdirs takes 20 ms to import, half the time of a completion.
        return os.path.join(os.environ.get(variable, "").strip() or os.path.expanduser(usual), "minigpt4")
    from minigpt4.core.storage import paths

    return str(paths.config_home() if name == "config" else paths.data_home())


def _shown(about: str) -> str:
    """The description on one line, shortened and without control codes."""
    line = "".join(letter for letter in " ".join(about.split()) if letter.isprintable())
    return line if len(line) <= MAX_ABOUT else f"{line[: MAX_ABOUT - 1]}…"


def _bundles(_typed: str, _before: Sequence[str]) -> Iterator[Candidate]:
    for path in _toml_files(f"{PACKAGE}/core/bundles", f"{config_folder()}/bundles"):
        yield _stem(path), _entries(path).get("summary", "")


def _recipes(_typed: str, _before: Sequence[str]) -> Iterator[Candidate]:
    for path in _toml_files(f"{PACKAGE}/train/recipes"):
        yield _stem(path), _run_summary(path)


def _themes(_typed: str, _before: Sequence[str]) -> Iterator[Candidate]:
    return ((_stem(path), "") for path in _toml_files(f"{PACKAGE}/themes", f"{config_folder()}/themes"))


def _prompts(_typed: str, _before: Sequence[str]) -> Iterator[Candidate]:
    # The user's own replace ours of the same name.
    paths = {
        _stem(path): path for path in _toml_files(f"{PACKAGE}/tui/prompts", f"{config_folder()}/prompts")
    }
    return ((name, _entries(path).get("about", "")) for name, path in sorted(paths.items()))


def _questions(typed: str, before: Sequence[str]) -> Iterator[Candidate]:
    """Named prompts with the slash that they are asked with."""
    return ((f"/{name}", about) for name, about in _prompts(typed, before))


def _kept(_typed: str, _before: Sequence[str]) -> Iterator[Candidate]:
    return _conversations("deleted IS NULL ORDER BY pinned DESC, updated DESC", "updated")


def _deleted(_typed: str, _before: Sequence[str]) -> Iterator[Candidate]:
    return _conversations("deleted IS NOT NULL ORDER BY deleted DESC", "deleted")


def _conversations(which: str, newest: str) -> Iterator[Candidate]:
    import sqlite3  # 5 ms, which only these values need

    path = os.path.join(data_folder(), CONVERSATIONS)
    if not os.path.isfile(path):
        return
    try:
        address = path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")
        database = sqlite3.connect(f"file:{address}?mode=ro", uri=True, timeout=0.05)
        try:
            rows = database.execute(
                f"SELECT id, title, {newest} FROM conversations WHERE {which} LIMIT {MAX_CONVERSATIONS}"
            ).fetchall()
        finally:
            database.close()
    except sqlite3.Error:
        return
    if rows:
        # Pinned ones come first, and may be old.
        yield "last", f"the latest: {max(rows, key=lambda row: float(row[2]))[1]}"
    yield from ((str(name)[:SHOWN_ID], str(title)) for name, title, _ in rows)


def _runs(typed: str, _before: Sequence[str]) -> Iterator[Candidate]:
    """The folders of runs in `runs`, or in the folder that was typed."""
    # A shell would quote the ~ of a value, so it completes those as files.
    folder = os.path.split(typed)[0] or "runs"
    if folder.startswith("~") or not os.path.isdir(folder):
        return
    for run in sorted(os.listdir(folder)):
        recipe = os.path.join(folder, run, "recipe.toml")
        if os.path.isfile(recipe):
            yield f"{folder.rstrip('/')}/{run}", _run_summary(recipe)


def _run_summary(recipe: str) -> str:
    entries = _entries(recipe)
    stage, bundle = entries.get("stage"), entries.get("bundle")
    return f"stage {stage} of {bundle}" if stage and bundle else ""


def _settings(typed: str, before: Sequence[str]) -> Iterator[Candidate]:
    """`KEY=` for each key of a recipe; after the `=`, the values of the key."""
    from minigpt4.tui.cli.completion.table import load_table

    recipe = _recipe_file(before)
    now = _entries(recipe) if recipe and os.path.isfile(recipe) else {}
    known = load_table().keys
    sources = [value for key, value in now.items() if key.startswith("source.") and key.endswith(".name")]
    keys = {
        name.replace("NAME", source): entry
        for name, entry in known.items()
        for source in (sources if ".NAME." in name else [""])
    }
    key, equals, _ = typed.partition("=")
    if not equals:
        for name, (_, about) in keys.items():
            current = now.get(name, "")
            yield f"{name}=", f"now {current}; {about}" if current else about
    elif key in keys:
        current = now.get(key, "")
        if current:
            yield f"{key}={current}", "as the recipe has it"
        for value, about in values_of(keys[key][0], ""):
            if value != current:
                yield f"{key}={value}", about


def _recipe_file(words: Sequence[str]) -> str:
    """The recipe that the options choose, as `train` does; "" if none is chosen yet."""
    given: dict[str, str] = {}
    for at, word in enumerate(words):
        option, equals, value = word.partition("=")
        if equals or at + 1 < len(words):
            given[option] = value if equals else words[at + 1]
    bundle = given.get("--bundle", given.get("-b", "mini"))
    name = given.get("--recipe", "")
    if not name and given.get("--stage"):
        kind = "mini-stage" if bundle in ("mini", "mini-without-detector") else "stage"
        name = f"{kind}{given['--stage']}"
    shipped = f"{PACKAGE}/train/recipes/{name}.toml"
    return shipped if name and os.path.isfile(shipped) else os.path.expanduser(name)


def _entries(path: str) -> dict[str, str]:
    """Keys of a TOML file with a short value on the same line; those in tables as `source.NAME.weight`.

    A complete TOML parser takes 6 ms to import, and completion needs no more than this.
    """
    found: dict[str, str] = {}
    table = ""
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            text = line.strip()
            if text.startswith("["):
                table = f"{text.partition(']')[0].strip('[ ')}."
            key, equals, value = (part.strip() for part in text.partition("="))
            if not equals or not key.replace("_", "").isalnum():
                continue
            value = value[1:].partition('"')[0] if value[:1] == '"' else value.partition("#")[0].strip()
            if table.startswith("source.") and key == "name":
                table = f"source.{value}."
            if value and value[0] not in "[{'":
                found[f"{table}{key}"] = value
    return found


def _toml_files(*folders: str) -> list[str]:
    """The TOML files of all folders; missing folders are skipped."""
    return [
        os.path.join(folder, name)
        for folder in folders
        if os.path.isdir(folder)
        for name in sorted(os.listdir(folder), key=_stem)
        if name.endswith(".toml")
    ]


def _stem(path: str) -> str:
    return os.path.basename(path).removesuffix(".toml")


_KINDS: dict[str, Callable[[str, Sequence[str]], Iterable[Candidate]]] = {
    "bundle": _bundles,
    "recipe": _recipes,
    "theme": _themes,
    "prompt": _prompts,
    "question": _questions,
    "conversation": _kept,
    "deleted": _deleted,
    "run": _runs,
    "setting": _settings,
}
