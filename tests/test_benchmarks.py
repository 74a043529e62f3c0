"""What the benchmark of the app is made of: a terminal that a script sits at, an engine that only talks."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return importlib.import_module("terminal")


def environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "MINIGPT4_HOME")} | {"TERM": "xterm-256color"}


def test_the_terminal_knows_when_a_key_was_answered_and_the_program_over(terminal: ModuleType) -> None:
    script = "print('ready'); print('heard', input())"
    with terminal.Terminal([sys.executable, "-c", script], environment()) as seat:
        ready = seat.until("ready")
        assert 0 < ready <= seat.now
        assert 0 <= seat.echo("a\r", "heard a") < seat.now
        assert seat.end("") < seat.now


def test_a_program_that_never_prints_the_awaited_text_is_reported(terminal: ModuleType) -> None:
    with terminal.Terminal([sys.executable, "-c", "print('good day')"], environment()) as seat:
        with pytest.raises(SystemExit, match=r"'good night' did not appear.*\n.*good day"):
            seat.until("good night")
        seat.end("")


def test_the_talker_answers_in_the_app_until_it_is_left(terminal: ModuleType) -> None:
    program = [sys.executable, str(BENCHMARKS / "talker.py"), "chat"]
    with terminal.Terminal(program, environment()) as seat:
        seat.until("sk about a picture")
        seat.press("What is this?\r")
        seat.until("nearest to the quay")
        assert seat.echo("ж", "ж") < seat.now
        seat.end("\x11")
