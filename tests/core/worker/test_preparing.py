"""What is computed ahead while a question is typed never keeps anything waiting."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.types import Sampling
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import (
    ChatMessage,
    ContextUsage,
    Failed,
    ObjectsFound,
    Phase,
    Prepare,
)

STOP_S = 2.0
"""0.1 s with room for a machine that is busy with other things; the whole prompt takes much longer."""

needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="the extra `llama` is not installed"
)


def user(text: str, *pictures: Path) -> ChatMessage:
    return ChatMessage("user", text, pictures)


ENDLESS = [user("Hello"), ChatMessage("assistant", "endless")]
"""A conversation that takes for ever to compute ahead."""


@pytest.fixture
def loaded(worker: Worker) -> Worker:
    worker.load(EngineOptions("scripted"))
    return worker


def test_a_picture_is_encoded_before_the_question_is_sent(loaded: Worker, heard: Any, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 7).save(tmp_path / "dark.png")
    loaded.prepare([user("", tmp_path / "dark.png")])
    loaded.reply("1", [user("grey:", tmp_path / "dark.png")])
    assert heard.answer("1") == "[7]"
    assert [one.phase for one in heard.events if isinstance(one, Phase)] == ["prefill", "decode"]


def test_another_question_interrupts_it_at_once(loaded: Worker, heard: Any) -> None:
    loaded.prepare([*ENDLESS, user("")])
    loaded.reply("other", [user("say:hello")])
    assert heard.answer("other") == "hello"


def test_the_question_itself_waits_for_it_and_can_be_stopped(loaded: Worker, heard: Any) -> None:
    loaded.prepare([*ENDLESS, user("")])
    loaded.reply("1", [*ENDLESS, user("say:hello")])
    loaded.count("counted", [user("a")])
    heard.until(ContextUsage, lambda one: one.request == "counted")
    loaded.cancel("1")
    assert heard.finished("1").finish == "cancelled"
    loaded.reply("2", [*ENDLESS, user("say:hello")])
    assert heard.answer("2") == "hello", "a stop ends what was computed for it, too"


def test_counts_and_searches_for_objects_are_answered_meanwhile(
    loaded: Worker, heard: Any, tmp_path: Path
) -> None:
    Image.new("L", (8, 8), 7).save(tmp_path / "dark.png")
    loaded.prepare([*ENDLESS, user("")])
    for turn in range(3):
        loaded.count(f"counted {turn}", [user("a")])
        heard.until(ContextUsage, lambda one, turn=turn: one.request == f"counted {turn}")
    loaded.find_objects("found", tmp_path / "dark.png")
    assert [one.name for one in heard.until(ObjectsFound).objects] == ["dog"]


def test_a_newer_one_takes_its_place(loaded: Worker, heard: Any) -> None:
    loaded.prepare([*ENDLESS, user("")])
    loaded.prepare([user("")])
    loaded.reply("1", [user("say:hello")])
    assert heard.answer("1") == "hello"


def test_what_it_cannot_read_is_reported_by_the_question(loaded: Worker, heard: Any, tmp_path: Path) -> None:
    for messages in ([], [user("", tmp_path / "missing.png")], [ChatMessage("assistant", "Yes")]):
        loaded.prepare(messages)
    loaded.reply("1", [user("say:hello")])
    assert heard.answer("1") == "hello"
    loaded.reply("2", [user("grey:", tmp_path / "missing.png")])
    assert "missing.png" in heard.failed("2").sentence
    assert [one.request for one in heard.events if isinstance(one, Failed)] == ["2"]


def test_without_a_process_nothing_is_prepared(worker: Worker) -> None:
    worker.prepare([user("")])
    assert not worker.is_alive


def test_it_is_of_use_to_the_question_that_it_was_computed_for_alone() -> None:
    picture = Path("cat.png")
    prepare = Prepare((*ENDLESS, user("", picture)))
    assert prepare.is_of_use_to((*ENDLESS, user("What is it?", picture)))
    assert not prepare.is_of_use_to((*ENDLESS, user("What is it?")))
    assert not prepare.is_of_use_to((user("What is it?", picture),))
    assert not prepare.is_of_use_to((*ENDLESS, ChatMessage("assistant", "A cat", (picture,))))
    assert not prepare.is_of_use_to(())


@needs_llama
def test_a_stop_takes_effect_in_the_middle_of_a_long_prompt(mini_home: Path, heard: Any) -> None:
    worker = Worker(heard)
    long = user("The old dog slept by the warm stove while rain fell on the little town. " * 100)
    try:
        worker.load(EngineOptions("mini", backend="llamacpp", device="cpu", threads=1))
        worker.reply("long", [long], Sampling(max_tokens=1))
        heard.until(Phase, lambda one: one.phase == "prefill")
        begun = time.perf_counter()
        worker.cancel("long")
        assert heard.finished("long").finish == "cancelled"
        assert time.perf_counter() - begun < STOP_S
        worker.prepare([long, user("")])
        begun = time.perf_counter()
        worker.reply("short", [user("Hi")], Sampling(max_tokens=1))
        heard.finished("short")
        assert time.perf_counter() - begun < 2 * STOP_S
    finally:
        worker.stop()
