"""Commands that need no vision tower do without torch, which takes longer to import than all they do."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest


@pytest.fixture(scope="module")
def photo(mini_home: Path, examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo whose embedding is cached."""
    from minigpt4.core.engine import Engine

    path = tmp_path_factory.mktemp("photos") / "photo.jpg"
    path.write_bytes((examples / "coffee.jpg").read_bytes() + uuid4().bytes)
    with Engine.load("mini", backend="llamacpp", device="cpu") as engine:
        engine.look(path)
    return path


@pytest.mark.parametrize("command", ["ask", "ask --each", "caption", "chat --plain"])
def test_pictures_that_are_cached_are_answered_without_torch(
    command: str, photo: Path, mini_home: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp")
    arguments = {
        "ask": ["ask", "-i", str(photo), "What is this?"],
        "ask --each": ["ask", "--each", "-i", str(photo), "-i", str(photo), "What is this?"],
        "caption": ["caption", str(photo), "--output", str(photo.with_name("list.jsonl"))],
        "chat --plain": ["chat", "--plain", str(photo)],
    }[command]
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-P", "-m", "minigpt4.tui", *arguments, "--max-tokens", "4"],
        input="What is this?\n",
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = set(re.findall(r"^import time:.*\| +(\S+)$", done.stderr, re.MULTILINE))
    assert "minigpt4.core.language.llamacpp" in imported, "a model answered"
    assert imported.isdisjoint({"torch", "transformers", "jinja2", "http.client", "tarfile"})
