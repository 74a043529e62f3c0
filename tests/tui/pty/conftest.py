"""The real program on a real pseudo-terminal, and the eyes and hands of a person in front of it."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pexpect
import pyte
import pytest

from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.tui.history.store import Store

KEYS = {
    "enter": "\r",
    "tab": "\t",
    "escape": "\x1b",
    "up": "\x1b[A",
    "left": "\x1b[D",
    "ctrl+b": "\x02",
    "ctrl+g": "\x07",
    "ctrl+n": "\x0e",
    "ctrl+q": "\x11",
    "ctrl+r": "\x12",
    "f1": "\x1bOP",
}

WHAT_ARE_YOU, A_VT100 = b"\x1b[c", "\x1b[?1;2c"

MODES = {
    7: "no line wrap",
    1000: "mouse",
    1003: "mouse",
    1004: "focus",
    1006: "mouse",
    1015: "mouse",
    1049: "other screen",
    2004: "paste",
}
"""What the app sets (private modes of xterm, the first by taking it away) and has to put back."""

AS_MODULE = ("-P", "-m", "minigpt4.tui")


class Terminal:
    """A program on a terminal of its own, which draws what it is sent and may answer what it is asked."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        size: tuple[int, int],
        *,
        answers: bool,
    ) -> None:
        columns, rows = size
        self.folder = folder
        self.received = bytearray()
        self._answers = answers
        self._screen = pyte.Screen(max(columns, 1), max(rows, 1))
        self._stream = pyte.ByteStream(self._screen)
        self._found = set(self._screen.mode)
        self._child = pexpect.spawn(
            command[0], list(command[1:]), env=dict(environment), cwd=folder, dimensions=(rows, columns)
        )
        self.pid: int = self._child.pid

    # Eyes

    @property
    def text(self) -> str:
        """All that is to be seen now."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    @property
    def left_set(self) -> set[str]:
        """What of the terminal is not as it was found."""
        changed = self._found ^ self._screen.mode
        left = {MODES.get(mode >> 5, "") for mode in changed} - {""}
        return left | ({"cursor"} if self._screen.cursor.hidden else set())

    def colours(self) -> set[tuple[str, str]]:
        """Ink and paper of every letter to be seen: RRGGBB, or a name where the terminal chooses."""
        cells = [cell for row in self._screen.buffer.values() for cell in row.values()]
        return {(cell.fg, cell.bg) for cell in cells if not cell.data.isspace()}

    def look(self, seconds: float = 0.02) -> bool:
        """Draw what has come; False once nobody is left who could send more."""
        if not select.select([self._child], [], [], seconds)[0]:
            return True
        try:
            data = os.read(self._child.fileno(), 65536)
        except OSError:
            return False
        self.received += data
        if self._answers and WHAT_ARE_YOU in data:
            self.send(A_VT100)
        # The emulator takes the end of kitty's keyboard protocol for the letter u.
        self._stream.feed(data.replace(b"\x1b[<u", b""))
        return bool(data)

    def until(self, wanted: str | Callable[[], object], seconds: float = 60) -> None:
        """Wait until the words are on the screen, or it holds; fails where it never does."""
        holds = (lambda: wanted in self.text) if isinstance(wanted, str) else wanted
        end = time.monotonic() + seconds
        while not holds():
            if not self.look() or time.monotonic() > end:
                pytest.fail(f"it never came: {wanted!r}\n{self.text}")

    # Hands

    def send(self, data: str) -> None:
        """Type."""
        self.send_bytes(data.encode())

    def send_bytes(self, data: bytes) -> None:
        """Type what no keyboard would."""
        os.write(self._child.fileno(), data)

    def press(self, *keys: str) -> None:
        """Press keys by name."""
        for key in keys:
            self.send(KEYS[key])

    def ask(self, question: str) -> None:
        """Type a question, see it, and send it."""
        self.send(question)
        self.until(question)
        self.press("enter")

    def drop(self, text: str) -> None:
        """Drop files on the window: their paths come as a paste in brackets."""
        self.send(f"\x1b[200~{text}\x1b[201~")

    def resize(self, columns: int, rows: int) -> None:
        """Give the window another size; what is drawn on none is lost."""
        self._screen.resize(max(rows, 1), max(columns, 1))
        self._child.setwinsize(rows, columns)

    def hang_up(self) -> None:
        """Close the window; the system sends SIGHUP."""
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), self._child.fileno())

    # Ends

    def ended(self, seconds: float = 20) -> int:
        """Wait for the end; the exit code, or minus the number of the signal that ended it."""
        end = time.monotonic() + seconds
        while self._child.isalive():
            if not self.look(0.005):
                time.sleep(0.005)  # nothing more comes that could be waited for
            if time.monotonic() > end:
                pytest.fail(f"it did not end within {seconds} s\n{self.text}")
        while select.select([self._child], [], [], 0)[0] and self.look():
            pass
        code, number = self._child.exitstatus, self._child.signalstatus
        return int(code) if code is not None else -int(number or 0)

    def seconds_to_end(self, act: Callable[[], object]) -> float:
        """Do what ends it; how long that takes."""
        begun = time.monotonic()
        act()
        self.ended()
        return time.monotonic() - begun

    def is_stopped(self) -> bool:
        """Whether the program is suspended by SIGSTOP."""
        return state_and_parent(self.pid)[0] == "T"

    def engines(self) -> list[int]:
        """The processes of its engine: one, or none yet."""
        return [pid for pid in processes() if parent_of(pid) == self.pid]

    def until_gone(self, pid: int) -> None:
        """Wait for the end of a process that may outlive the program by a moment."""
        end = time.monotonic() + 10
        while parent_of(pid) is not None:
            assert time.monotonic() < end, "an engine is left behind"
            time.sleep(0.005)

    def close(self) -> None:
        """Leave nothing behind, however the test went."""
        if self._child.isalive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self.ended()
        self._child.close()


def processes() -> list[int]:
    """The numbers of all processes."""
    return [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]


def parent_of(pid: int) -> int | None:
    """The process that started it; None if it has ended."""
    state, parent = state_and_parent(pid)
    return parent if state != "Z" else None


def state_and_parent(pid: int) -> tuple[str, int]:
    """A process's state, such as T (stopped) or Z (ended), and the process that started it."""
    try:
        state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    except (FileNotFoundError, ProcessLookupError):
        return "Z", 0
    return state, int(parent)


class Start(Protocol):
    """Start `minigpt4 chat` with these arguments, and those `before` the command.

    `code` is Python that runs first; `shell` starts it (`{program}`) through bash.
    """

    def __call__(
        self,
        *arguments: str | Path,
        size: tuple[int, int] = (80, 24),
        answers: bool = True,
        env: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
        code: str = "",
        shell: str = "",
    ) -> Terminal: ...


@pytest.fixture
def home(mini_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home that has mini and nothing else."""
    found = tmp_path / "home"
    (found / "data").mkdir(parents=True)
    (mini_home / "cache").mkdir(exist_ok=True)
    (found / "data" / "bundles").symlink_to(mini_home / "data" / "bundles")
    (found / "cache").symlink_to(mini_home / "cache")
    monkeypatch.setenv(HOME_VARIABLE, str(found))
    return found


@pytest.fixture
def start(home: Path, tmp_path: Path, examples: Path) -> Iterator[Start]:
    """The program as a person starts it, in a folder with a photo; all end with the test."""
    folder = tmp_path / "photos"
    folder.mkdir()
    shutil.copy(examples / "coffee.jpg", folder)
    shutil.copy(examples / "chelsea.png", folder / "my cat.png")
    begun: list[Terminal] = []

    def begin(
        *arguments: str | Path,
        size: tuple[int, int] = (80, 24),
        answers: bool = True,
        env: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
        code: str = "",
        shell: str = "",
    ) -> Terminal:
        ours = {name: value for name, value in os.environ.items() if name not in STRANGERS}
        ours |= {HOME_VARIABLE: str(home), "TERM": "xterm-256color", "LANG": "C.UTF-8", **(env or {})}
        program = ("-P", "-c", f"{code}\nfrom minigpt4.tui.cli import main\nmain()") if code else AS_MODULE
        command = [sys.executable, *program, *before, "chat", *map(str, arguments)]
        if shell:
            command = ["bash", "-c", shell.replace("{program}", shlex.join(command))]
        terminal = Terminal(command, ours, folder, size, answers=answers)
        begun.append(terminal)
        return terminal

    yield begin
    for terminal in begun:
        terminal.close()


STRANGERS = {
    "NO_COLOR",
    "FORCE_COLOR",
    "COLUMNS",
    "LINES",
    "TERM_PROGRAM",
    "TMUX",
    "KITTY_WINDOW_ID",
    "COLORTERM",
}


@pytest.fixture
def kept(home: Path) -> Iterator[Store]:
    """What is kept of the conversations."""
    store = Store.open()
    yield store
    store.close()
