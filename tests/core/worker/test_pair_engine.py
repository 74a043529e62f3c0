"""A bundle of two GGUF files in the engine's own process, which native code may end."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.bundle_making.import_pair import import_pair
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.types import Sampling
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import ChatMessage, ContextUsage, Exited, Ready


@pytest.fixture
def qwen(golden: Path) -> Path:
    """The folder of the tiny Qwen2.5-VL, imported as 'tiny'."""
    pytest.importorskip("llama_cpp")
    folder = golden / "vlm" / "qwen25vl"
    if not folder.is_dir():
        pytest.skip(f"the tiny models of several families are not here ({folder})")
    import_pair("tiny", folder / "lang.gguf", folder / "mmproj.gguf", template="qwen2-vl")
    return folder


def test_it_answers_counts_and_ends_as_an_event_if_native_code_crashes(qwen: Path, heard: Any) -> None:
    worker = Worker(heard)
    try:
        worker.load(EngineOptions("tiny", device="cpu", threads=1))
        asked = [ChatMessage("user", "What is in this picture?", (qwen / "exact.png",))]
        worker.reply("first", asked, Sampling(max_tokens=6, temperature=0.0))
        finished = heard.finished("first")
        assert heard.until(Ready).image_tokens == 393
        worker.count("counted", asked)
        counted = heard.until(ContextUsage, lambda one: one.request == "counted")
        assert counted.positions == finished.prompt_tokens  # of the picture that it knows, not an estimate
        turns = [*asked, ChatMessage("assistant", heard.text_of("first")), ChatMessage("user", "Where?")]
        worker.reply("second", turns, Sampling(max_tokens=6, temperature=0.0))
        assert heard.finished("second").prompt_tokens > finished.prompt_tokens
        process = worker._process
        assert process is not None
        os.kill(process.pid, signal.SIGABRT)
        assert "aborted in native code" in heard.until(Exited).sentence
    finally:
        worker.stop()
