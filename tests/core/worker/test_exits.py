"""Reports about an engine's process that fails, exits or is killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.exit_reason import exited
from minigpt4.core.worker.messages import ChatMessage, Event, Exited, Notice, Ready, TextDelta


def user(text: str, *pictures: Path) -> ChatMessage:
    return ChatMessage("user", text, pictures)


def test_a_model_that_cannot_be_loaded_says_why_and_so_does_a_question(worker: Worker, heard: Any) -> None:
    worker.load(EngineOptions("damaged"))
    worker.reply("early", [user("say:hello")])
    assert heard.failed(None).sentence == "The file weights.bin is damaged; fetch it again."
    assert "No model is loaded" in heard.failed("early").sentence
    worker.load(EngineOptions("scripted"))
    worker.reply("later", [user("say:hello")])
    assert heard.answer("later") == "hello"


def test_without_a_process_a_question_fails_in_a_sentence(worker: Worker, heard: Any) -> None:
    worker.reply("too early", [user("say:hello")])
    assert "No model is running" in heard.failed("too early").sentence
    worker.cancel("too early")
    assert not worker.is_alive


@pytest.mark.parametrize(
    ("how", "sentence", "advice"),
    [
        ("oom", "signal 9, SIGKILL", "smaller quantisation"),
        ("segfault", "signal 11, SIGSEGV", "models verify"),
        ("illegal", "signal 4, SIGILL", "compiled on this machine"),
        ("exit", "exit code 7", "Restart"),
        ("import", "No module named 'nosuchmodel'", "pip install"),
    ],
)
@pytest.mark.parametrize("when", ["while loading", "while answering"])
def test_an_exit_is_reported_with_advice_and_the_next_process_answers(
    worker: Worker, heard: Any, how: str, sentence: str, advice: str, when: str
) -> None:
    if when == "while loading":
        worker.load(EngineOptions(how))
        worker.reply("unlucky", [user("say:hello")])
    else:
        worker.load(EngineOptions("scripted"))
        worker.reply("unlucky", [user(f"{how}:")])
    death = heard.until(Exited)
    assert sentence in death.sentence
    assert advice in death.advice
    assert f"about to {how}" in death.details
    assert heard.failed("unlucky").sentence == death.sentence
    assert heard.text_of("unlucky") == ("" if when == "while loading" else "last words")
    assert isinstance(heard.events[-1], Exited)
    assert not worker.is_alive
    worker.load(EngineOptions("scripted"))
    worker.reply("lucky", [user("say:hello")])
    assert heard.answer("lucky") == "hello"


def test_a_kill_from_outside_is_a_death_and_a_restart_helps(worker: Worker, heard: Any) -> None:
    worker.load(EngineOptions("scripted"))
    worker.reply("endless", [user("endless:")])
    pid = int(heard.until(Notice).sentence)
    heard.until(TextDelta)
    os.kill(pid, signal.SIGKILL)
    assert "signal 9" in heard.until(Exited).sentence
    assert "signal 9" in heard.failed("endless").sentence
    assert heard.text_of("endless")
    worker.load(EngineOptions("scripted"))
    worker.reply("again", [user("say:back")])
    assert heard.answer("again") == "back"


def test_interrupting_the_terminal_does_not_reach_the_model(worker: Worker, heard: Any) -> None:
    worker.load(EngineOptions("scripted"))
    pid = int(heard.until(Notice).sentence)
    assert os.getsid(pid) == pid != os.getsid(0)
    os.kill(pid, signal.SIGINT)
    worker.reply("still", [user("say:here")])
    assert heard.answer("still") == "here"


def test_a_program_that_does_not_exist_is_an_exit(heard: Any, tmp_path: Path) -> None:
    worker = Worker(heard, [str(tmp_path / "no-python")])
    worker.load(EngineOptions("scripted"))
    assert "no-python" in heard.until(Exited).sentence
    assert not worker.is_alive
    worker.stop()


def test_a_package_missing_at_the_start_is_reported(heard: Any) -> None:
    worker = Worker(heard, [sys.executable, "-P", "-c", "import nosuchpackage"])
    worker.load(EngineOptions("scripted"))
    death = heard.until(Exited)
    assert "nosuchpackage" in death.sentence
    assert "minigpt4 doctor" in death.advice
    assert "Traceback" in death.details
    worker.stop()


def test_a_program_that_talks_nonsense_is_ended(heard: Any) -> None:
    babble = "import sys, threading; print('Hello, I am no frame', flush=True); threading.Event().wait()"
    worker = Worker(heard, [sys.executable, "-P", "-c", babble])
    worker.load(EngineOptions("scripted"))
    assert "cannot be read" in heard.until(Exited).sentence
    assert not worker.is_alive
    worker.stop()


def test_of_much_stderr_the_end_is_kept(heard: Any) -> None:
    shout = "import sys; sys.stderr.write('é' * 200_000 + 'the end'); sys.exit(3)"
    worker = Worker(heard, [sys.executable, "-P", "-c", shout])
    worker.load(EngineOptions("scripted"))
    details = heard.until(Exited).details
    assert details.endswith("éthe end")
    assert len(details) < 9_000
    worker.stop()


def test_an_unknown_signal_has_a_sentence_too() -> None:
    assert "signal 15, SIGTERM" in exited(-15, "").sentence
    assert "signal 99" in exited(-99, "").sentence


def test_a_callback_that_raises_still_gets_the_rest(
    heard: Any, child: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    def clumsy(event: Event) -> None:
        if isinstance(event, Notice):
            raise RuntimeError("the screen is closing")
        heard(event)

    worker = Worker(clumsy, child)
    try:
        worker.load(EngineOptions("scripted"))
        heard.until(Ready)
        assert "Notice" in caplog.text
    finally:
        worker.stop()
