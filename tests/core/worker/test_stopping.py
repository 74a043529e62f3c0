"""An engine's process ends at once when it is stopped, replaced or left by its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import (
    ChatMessage,
    DownloadProgress,
    Event,
    Exited,
    Finished,
    Notice,
    Phase,
    Ready,
    TextDelta,
)

TIMEOUT_S = 120
QUITTING_S = 0.5

PARENT = """
import sys
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import ChatMessage, Notice, Phase

def tell(event):
    if isinstance(event, (Notice, Phase)):
        print(getattr(event, "sentence", None) or event.phase, flush=True)

worker = Worker(tell, sys.argv[2:])
worker.load(EngineOptions(sys.argv[1]))
worker.reply("1", [ChatMessage("user", "endless:")])
sys.stdin.read()
"""


def user(text: str, *pictures: Path) -> ChatMessage:
    return ChatMessage("user", text, pictures)


def wait_until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def is_gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def grey(path: Path, shade: int) -> Path:
    Image.new("L", (8, 8), shade).save(path)
    return path


def quick_stop(worker: Worker) -> None:
    begun = time.perf_counter()
    worker.stop()
    assert time.perf_counter() - begun < QUITTING_S


@pytest.mark.parametrize("moment", ["starting", "loading", "encode", "prefill", "decode", "idle", "dead"])
def test_stopping_is_quick_at_any_moment(worker: Worker, heard: Any, tmp_path: Path, moment: str) -> None:
    match moment:
        case "starting":
            worker.load(EngineOptions("scripted"))
        case "loading":
            worker.load(EngineOptions("never-loads"))
            heard.until(DownloadProgress)
        case "encode":
            worker.load(EngineOptions("never-encodes"))
            worker.reply("1", [user("say:hello", grey(tmp_path / "cat.png", 5))])
            heard.until(Phase, lambda one: one.phase == "encode")
        case "prefill" | "decode":
            worker.load(EngineOptions("scripted"))
            worker.reply("1", [user("think:" if moment == "prefill" else "endless:")])
            heard.until(Phase, lambda one: one.phase == moment)
        case "idle":
            worker.load(EngineOptions("scripted"))
            heard.until(Ready)
        case "dead":
            worker.load(EngineOptions("exit"))
            heard.until(Exited)
    quick_stop(worker)
    assert not worker.is_alive
    for notice in (one for one in heard.events if isinstance(one, Notice)):
        assert is_gone(int(notice.sentence))
    assert any(isinstance(one, Exited) for one in heard.events) == (moment == "dead")
    worker.load(EngineOptions("scripted"))
    heard.until(Ready)


def test_stopping_is_quick_while_the_process_hears_nothing(worker: Worker, heard: Any) -> None:
    worker.load(EngineOptions("scripted"))
    pid = int(heard.until(Notice).sentence)
    heard.until(Ready)
    os.kill(pid, signal.SIGSTOP)
    begun = time.perf_counter()
    worker.reply("unheard", [user("x" * 1_000_000)])
    worker.cancel("unheard")
    assert time.perf_counter() - begun < QUITTING_S
    quick_stop(worker)
    wait_until(lambda: is_gone(pid))


def test_stopping_is_quick_while_and_after_the_listener_is_called(heard: Any, child: tuple[str, ...]) -> None:
    stopped = threading.Event()

    def listener(event: Event) -> None:
        heard(event)
        if isinstance(event, Ready):
            quick_stop(quitting)
            stopped.set()

    quitting = Worker(listener, child)
    quitting.load(EngineOptions("scripted"))
    quitting.reply("1", [user("say:hello")])
    assert stopped.wait(TIMEOUT_S)
    quick_stop(quitting)
    assert isinstance(heard.events[-1], Ready)


def test_children_of_the_process_end_with_it(worker: Worker, heard: Any) -> None:
    worker.load(EngineOptions("scripted"))
    worker.reply("1", [user("start:")])
    # The pid comes digit by digit: until its full stop it may be a prefix that is another process's pid.
    wait_until(lambda: heard.text_of("1").endswith("."))
    pid = int(heard.text_of("1").removesuffix("."))
    assert not is_gone(pid)
    worker.stop()
    wait_until(lambda: is_gone(pid))


def test_another_model_ends_the_answers_of_the_one_before(worker: Worker, heard: Any) -> None:
    worker.load(EngineOptions("scripted"))
    worker.reply("interrupted", [user("endless:")])
    worker.reply("waiting", [user("say:hello")])
    heard.until(TextDelta)
    worker.load(EngineOptions("second"))
    worker.reply("next", [user("say:hello")])
    assert heard.answer("next") == "hello"
    assert heard.finished("interrupted").finish == "cancelled"
    assert heard.finished("waiting") == Finished("waiting", "cancelled")
    assert heard.until(Ready, lambda one: one.bundle == "second")
    assert not any(isinstance(one, Exited) for one in heard.events)
    first, second = (int(one.sentence) for one in heard.events if isinstance(one, Notice))
    wait_until(lambda: is_gone(first))
    assert not is_gone(second)


def test_a_load_that_hangs_makes_way_at_once(worker: Worker, heard: Any) -> None:
    worker.load(EngineOptions("never-loads"))
    heard.until(DownloadProgress)
    worker.load(EngineOptions("scripted"))
    assert heard.until(Ready).bundle == "scripted"


@pytest.mark.parametrize("doing", ["never-loads", "scripted"])
@pytest.mark.parametrize("is_killed", [True, False])
def test_the_process_ends_with_its_parent(child: tuple[str, ...], doing: str, is_killed: bool) -> None:
    with subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT, doing, *child], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout
        assert parent.stdin
        pid = int(parent.stdout.readline())
        if doing == "scripted":
            while parent.stdout.readline().strip() != b"decode":
                pass
        assert not is_gone(pid)
        if is_killed:
            parent.kill()
        else:
            parent.stdin.close()
        parent.wait(TIMEOUT_S)
        wait_until(lambda: is_gone(pid))
        assert parent.returncode == (-signal.SIGKILL if is_killed else 0)
