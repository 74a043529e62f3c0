"""How fast the app is: start, typing, searching, quitting, measured through a pseudo-terminal.

    python benchmarks/app.py [--runs 10] [--keys 100] [--only opening typing finding leaving] [--json]

Needs the bundle `mini` (`minigpt4 models pull mini`). Everything is measured from outside, in a
pseudo-terminal of 120 by 40 that answers queries as typical terminals do:

- opening: from process start to the frame with the composer; for an empty Textual app (one Static, the
  same interpreter) to the frame with its text; with a photo given, also from that frame to the one with the
  photo. The kinds of start alternate.
- typing: from a key press to its echo, each key 50 to 150 ms after the previous echo.
- finding: the same for a step in the list of conversations, and for search results.
- leaving: from Ctrl+Q to the exit of the process.

One warm-up start of each kind fills the page cache and is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from terminal import Terminal

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.download.fetch import missing
from minigpt4.core.storage.paths import HOME_VARIABLE, cache_home, data_home
from minigpt4.tui.history.store import FILE_NAME, ConversationInfo, Store, StoredMessage, WholeConversation

PROGRAM = str(Path(sysconfig.get_path("scripts")) / "minigpt4")
TALKING = (sys.executable, str(Path(__file__).with_name("talker.py")), "chat")
"""The program with a fake engine that streams 50 tokens a second without end."""

EMPTY_APP = """
from textual.app import App, ComposeResult
from textual.widgets import Static

class Empty(App[None]):
    def compose(self) -> ComposeResult:
        yield Static("nothing to see")

Empty().run()
"""

CONVERSATIONS = 10_000
LONG = 2_000
COMPOSER = "sk about a picture"
"""Part of the placeholder; the cursor covers its first letter."""

EXAMPLE = Path(__file__).parents[1] / "examples" / "coffee.jpg"
"""A photo of 600 x 400 pixels."""

BLOCK = "▛"
"""A quadrant, which appears only in pictures."""

LOADED = " of "
"""Part of the context bar, which appears once the model is loaded."""

LETTERS = [chr(code) for code in (*range(0x3B1, 0x3C0), *range(0x3C3, 0x3CA), *range(0x430, 0x450))]
LETTERS += [chr(code) for code in (*range(0x3A3, 0x3AA), *range(0x410, 0x430))]
"""Greek and Russian letters, which appear on the screen only when typed."""

CTRL_B, CTRL_F, CTRL_Q, CTRL_R, CTRL_U = "\x02", "\x06", "\x11", "\x12", "\x15"
DOWN, ENTER, ESCAPE = "\x1b[B", "\r", "\x1b"


@dataclass(frozen=True)
class Figure:
    """Repeated timings of one thing; `is_reached` is None without a goal."""

    name: str
    seconds: tuple[float, ...]
    goal: str = ""
    is_reached: bool | None = None

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.seconds)

    @property
    def p95(self) -> float:
        """The 95th percentile."""
        return sorted(self.seconds)[min(len(self.seconds) - 1, round(0.95 * len(self.seconds)))]

    def row(self) -> str:
        """A row of the table."""
        verdict = {None: "", True: "reached", False: "missed"}[self.is_reached]
        times = f"{self.median * 1000:.0f} ms | {self.p95 * 1000:.0f} ms"
        return f"| {self.name} | {times} | {self.goal} | {verdict} |"


class Homes:
    """Folders for MINIGPT4_HOME that share mini's files but have their own history."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def home(self, name: str, history: Path | None = None) -> dict[str, str]:
        """The environment of a program with that home; `history` is a database to start with."""
        home = self._folder / name
        (home / "data").mkdir(parents=True)
        (home / "data" / "bundles").symlink_to(data_home() / "bundles")
        (home / "cache").symlink_to(cache_home())
        if history is not None:
            shutil.copy(history, home / "data" / FILE_NAME)
        kept = ("PATH", "HOME", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
        ours = {name: os.environ[name] for name in kept if name in os.environ}
        return {**ours, HOME_VARIABLE: str(home), "TERM": "xterm-256color", "LANG": "C.UTF-8"}

    def history(self, conversations: int, messages: int) -> Path:
        """A database with that many conversations of that many messages."""
        path = self._folder / f"{conversations}-{messages}" / FILE_NAME
        store = Store.open(path)
        store.add_whole(_conversation(number, messages) for number in range(conversations))
        store.close()
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path


def _conversation(number: int, length: int) -> WholeConversation:
    """One of many; a word such as `q04711z` occurs only in its messages."""
    when = time.time() - 3600 * (CONVERSATIONS - number)
    messages: list[StoredMessage] = []
    for place in range(length):
        role = "assistant" if place % 2 else "user"
        answer = "A *grey* boat, and a gull above it.\n\n- one mast\n- no sails\n\nIt is morning. " * 2
        question = f"Question {number:05} q{number:05}z about the harbour, number {place}?"
        text = answer if place % 2 else question
        parent = messages[-1].id if messages else None
        messages.append(
            StoredMessage(f"m{number:07}-{place}", parent, role, text, "done", (), when, {"bundle": "mini"})  # type: ignore[arg-type]
        )
    info = ConversationInfo(f"c{number:07}", f"Question {number:05}", when, when, False, length)
    return WholeConversation(info, False, {}, messages[-1].id, tuple(messages))


# Opening


def opening(homes: Homes, runs: int, _keys: int) -> Iterator[Figure]:
    """First paint: an empty app, this app, and this app with thousands of conversations."""
    file = homes.home("empty")
    script = Path(file[HOME_VARIABLE]) / "empty.py"
    script.write_text(EMPTY_APP)
    starts: dict[str, Callable[[], tuple[float, float]]] = {
        "empty": lambda: _first_paint([sys.executable, str(script)], file, "nothing to see", ""),
        "none": lambda: _first_paint([PROGRAM, "chat"], none, COMPOSER, ""),
        "many": lambda: _first_paint([PROGRAM, "chat"], many, COMPOSER, "Question 09999"),
        "photo": lambda: _first_paint([PROGRAM, "chat", str(EXAMPLE)], photo, COMPOSER, BLOCK),
    }
    photo = homes.home("photo")
    none, many = homes.home("none"), homes.home("many", homes.history(CONVERSATIONS, 4))
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in starts}
    for run in range(-1, runs):
        for name, start in starts.items():
            found = start()
            if run >= 0:
                taken[name].append(found)
    empty, ours, full, _ = (tuple(paint for paint, _ in taken[name]) for name in starts)
    yield Figure("first paint, an empty Textual app", empty)
    ratio = statistics.median(ours) / statistics.median(empty)
    yield Figure("first paint, `minigpt4 chat`", ours, f"1.5 × empty (is {ratio:.2f})", ratio <= 1.5)
    more = statistics.median(full) - statistics.median(ours)
    goal = f"+100 ms (is {more * 1000:+.0f})"
    yield Figure(f"first paint with {CONVERSATIONS:,} conversations saved", full, goal, more <= 0.1)
    yield Figure(
        f"the list of {CONVERSATIONS:,} conversations is listed", tuple(listed for _, listed in taken["many"])
    )
    drawn = tuple(drawn - paint for paint, drawn in taken["photo"])
    is_soon = statistics.median(drawn) <= 0.15
    yield Figure("the large photo, after the first paint", drawn, "150 ms (median)", is_soon)


def _first_paint(
    command: Sequence[str], environment: dict[str, str], text: str, later: str
) -> tuple[float, float]:
    with Terminal(command, environment) as terminal:
        painted = terminal.until(text)
        listed = terminal.until(later) if later else painted
        terminal.settle(0.3)
        terminal.end(CTRL_Q)
    return painted, listed


# Typing


def typing(homes: Homes, _runs: int, keys: int) -> Iterator[Figure]:
    """Keys while an answer streams, and in a long conversation."""
    long = homes.history(1, LONG)
    resume = ("--resume", "c0000000")
    with _opened((*TALKING,), homes.home("typing")) as terminal:
        yield _echoes("a key, nothing else running", terminal, keys)
    with _opened((*TALKING,), homes.home("streaming")) as terminal:
        _ask(terminal)
        yield _echoes("a key while 50 tokens/s stream", terminal, keys)
    with _opened((*TALKING, *resume), homes.home("long", long), f"number {LONG - 2}") as terminal:
        yield _echoes(f"a key with {LONG:,} messages", terminal, keys)
    with _opened((*TALKING, *resume), homes.home("both", long), f"number {LONG - 2}") as terminal:
        _ask(terminal)
        yield _echoes(f"a key with {LONG:,} messages, 50 tokens/s streaming", terminal, keys)
    yield _beside_mini(homes, keys)


def _opened(command: Sequence[str], environment: dict[str, str], later: str = "") -> Terminal:
    terminal = Terminal(command, environment)
    terminal.until(COMPOSER)
    if later:
        terminal.until(later)
    terminal.settle()
    return terminal


def _ask(terminal: Terminal) -> None:
    terminal.press("What is this?" + ENTER)
    terminal.until("nearest to the quay")


def _echoes(name: str, terminal: Terminal, keys: int, ready: Callable[[], None] = lambda: None) -> Figure:
    """Time the echo of `keys` letters; `ready` is called before each."""
    rng = random.Random(0)
    seconds = []
    for number in range(keys):
        if number and number % len(LETTERS) == 0:
            terminal.press("\x7f" * len(LETTERS))
            terminal.rest(0.5)
        ready()
        seconds.append(terminal.echo(LETTERS[number % len(LETTERS)], LETTERS[number % len(LETTERS)]))
        terminal.rest(rng.uniform(0.05, 0.15))
    found = Figure(name, tuple(seconds))
    return Figure(name, found.seconds, "50 ms", found.p95 < 0.05)


def _beside_mini(homes: Homes, keys: int) -> Figure:
    """Keys while the real model uses the CPU; a new answer is requested whenever one ends."""
    environment = homes.home("mini")
    history = Path(environment[HOME_VARIABLE]) / "data" / FILE_NAME

    def writing() -> bool:
        with sqlite3.connect(f"file:{history}?mode=ro", uri=True) as connection:
            query = "SELECT count(*) FROM messages WHERE state = 'writing' AND text <> ''"
            return bool(connection.execute(query).fetchone()[0])

    def ready() -> None:
        while not writing():
            terminal.press(CTRL_R)
            for _ in range(40):
                terminal.rest(0.1)
                if writing():
                    return

    command = [PROGRAM, "chat", "--max-tokens", "1000", "--temperature", "1", "--seed", "1"]
    with _opened(command, environment) as terminal:
        terminal.press("Tell me a very long story about a boat." + ENTER)
        terminal.rest(3)
        return _echoes("a key while mini writes an answer", terminal, keys, ready)


# Finding


def finding(homes: Homes, runs: int, keys: int) -> Iterator[Figure]:
    """The list of conversations and the search, with thousands of conversations."""
    with _opened(
        (*TALKING,), homes.home("finding", homes.history(CONVERSATIONS, 4)), "Question 09999"
    ) as terminal:
        terminal.press(CTRL_B)
        terminal.settle()
        terminal.press(CTRL_B)
        terminal.settle()
        steps = []
        for number in range(min(keys, 300)):
            steps.append(terminal.echo(DOWN, f"{CONVERSATIONS - 1 - number:05}"))
            terminal.rest(0.03)
        found = Figure(f"a step in the list of {CONVERSATIONS:,} conversations", tuple(steps))
        yield Figure(found.name, found.seconds, "50 ms", found.p95 < 0.05)
        terminal.press(CTRL_F)
        terminal.until("Search all conversations")
        terminal.settle()
        rare, common = [], []
        for number in range(runs):
            code = f"{(4711 * (number + 1)) % CONVERSATIONS:05}"
            terminal.paste(code)
            rare.append(_found(terminal, code, f"q{code}z"))
            common.append(_found(terminal, "harbour", f"q{CONVERSATIONS - 1:05}z"))
        for name, seconds in (("a rare word", rare), ("a word of every conversation", common)):
            found = Figure(f"search for {name} in {CONVERSATIONS:,} conversations", tuple(seconds))
            yield Figure(found.name, found.seconds, "100 ms", found.p95 < 0.1)


def _found(terminal: Terminal, words: str, text: str) -> float:
    terminal.press(CTRL_U)
    terminal.settle()
    return terminal.echo(f"\x1b[200~{words}\x1b[201~", text)


# Leaving


def leaving(homes: Homes, runs: int, _keys: int) -> Iterator[Figure]:
    """Ctrl+Q at several moments."""
    environment = homes.home("leaving")

    def after(begin: Callable[[Terminal], object], command: Sequence[str]) -> float:
        with Terminal(command, environment) as terminal:
            terminal.until(COMPOSER)
            begin(terminal)
            return terminal.end(CTRL_Q)

    def answer(terminal: Terminal) -> None:
        terminal.until(LOADED)
        terminal.press("Tell me a very long story about a boat." + ENTER)
        terminal.until("writing")

    moments: dict[str, Callable[[Terminal], object]] = {
        "doing nothing": lambda terminal: terminal.until(LOADED),
        "loading": lambda terminal: terminal.until("loading"),
        "mini writes": answer,
    }
    for name, begin in moments.items():
        command = [PROGRAM, "chat", "--max-tokens", "1000"]
        found = Figure(f"leaving while {name}", tuple(after(begin, command) for _ in range(runs)))
        yield Figure(found.name, found.seconds, "500 ms", max(found.seconds) < 0.5)


PARTS = {part.__name__: part for part in (opening, typing, finding, leaving)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=10, help="starts of each kind, and searches")
    parser.add_argument("--keys", type=int, default=100, help="keys of each kind")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if missing(load_bundle("mini")):
        sys.exit("The bundle 'mini' is not downloaded; run `minigpt4 models pull mini`.")
    figures = []
    if not options.json:
        print("| what | median | 95th percentile | goal | |\n| --- | ---: | ---: | --- | --- |")
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            for figure in PARTS[name](Homes(Path(folder)), options.runs, options.keys):
                figures.append(figure)
                if not options.json:
                    print(figure.row(), flush=True)
    if options.json:
        rows = [{**vars(one), "median": one.median, "p95": one.p95} for one in figures]
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
