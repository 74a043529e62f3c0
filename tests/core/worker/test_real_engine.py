"""The real engine in its own process."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.types import Sampling
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import (
    ChatMessage,
    ContextUsage,
    DownloadProgress,
    Ready,
    TextDelta,
)

QUITTING_S = 0.5

needs_llama = pytest.mark.skipif(
    importlib.util.find_spec("llama_cpp") is None, reason="the extra `llama` is not installed"
)


def user(text: str, *pictures: Path) -> ChatMessage:
    return ChatMessage("user", text, pictures)


def quick_stop(worker: Worker) -> None:
    begun = time.perf_counter()
    worker.stop()
    assert time.perf_counter() - begun < QUITTING_S


@needs_llama
def test_missing_files_are_fetched_by_the_real_child_with_reports(
    heard: Any, tmp_path: Path, write_bundle: Callable[..., Path]
) -> None:
    contents = {"vision": b"12345", "language": b"not a model"}
    sources = {}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        sources[f"{name}_sources"] = [{"kind": "path", "path": str(tmp_path / name)}]
    write_bundle("tiny", **contents, **sources)
    worker = Worker(heard)
    worker.load(EngineOptions("tiny", backend="llamacpp", device="cpu"))
    sentence = heard.failed(None).sentence
    loaded = [one for one in heard.events if isinstance(one, DownloadProgress)]
    assert {(one.file, one.done) for one in loaded} >= {("vision.bin", 5), ("language.bin", 11)}
    assert "projection" in sentence
    worker.stop()


@needs_llama
def test_mini_answers_about_a_photo_in_its_own_process(mini_home: Path, examples: Path, heard: Any) -> None:
    worker = Worker(heard)
    try:
        worker.load(EngineOptions("mini", backend="llamacpp", device="cpu", threads=1, context=512))
        asked = [user("What is in this picture?", examples / "chelsea.png")]
        worker.count("counted", asked)
        worker.reply("photo", asked, Sampling(max_tokens=24, temperature=0.0))
        finished = heard.finished("photo")
        assert any(letter.isalpha() for letter in heard.text_of("photo"))
        assert finished.tokens_per_s
        counted = heard.until(ContextUsage, lambda one: one.request == "counted")
        assert counted.positions == finished.prompt_tokens
        ready = heard.until(Ready)
        assert (ready.backend, ready.choices["device"], ready.choices["threads"]) == ("llamacpp", "cpu", "1")
        worker.reply("story", [user("Tell me a very long story.")], Sampling(max_tokens=400, seed=1))
        heard.until(TextDelta, lambda one: one.request == "story")
        worker.cancel("story")
        assert heard.finished("story").finish == "cancelled"
        worker.reply("until the end", [user("Tell me a very long story.")], Sampling(max_tokens=400, seed=1))
        heard.until(TextDelta, lambda one: one.request == "until the end")
        quick_stop(worker)
    finally:
        worker.stop()


@needs_llama
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what is loaded is read from /proc")
def test_a_picture_seen_before_is_answered_without_loading_torch(
    mini_home: Path, examples: Path, heard: Any
) -> None:
    """By a process that knows only the cache on disk, as after a new start of the app."""
    asked = [user("What is in this picture?", examples / "chelsea.png")]
    for request in ("first", "later"):
        worker = Worker(heard)
        try:
            worker.load(EngineOptions("mini", backend="llamacpp", device="cpu", threads=1, context=512))
            worker.reply(request, asked, Sampling(max_tokens=2, temperature=0.0))
            heard.finished(request)
            children = [task.read_text() for task in Path("/proc/self/task").glob("*/children")]
            loaded = [Path(f"/proc/{pid}/maps").read_text() for pid in " ".join(children).split()]
        finally:
            worker.stop()
    assert any("libllama" in maps for maps in loaded)
    assert not any("libtorch" in maps for maps in loaded)


def test_the_process_starts_in_a_folder_that_was_deleted_meanwhile(
    mini_home: Path, heard: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    worker = Worker(heard)
    try:
        worker.load(EngineOptions("mini", backend="torch", device="cpu", threads=1, context=512))
        assert heard.until(Ready).backend == "torch"
    finally:
        worker.stop()
