"""What a fresh process imports to answer about a picture that was seen before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

PROGRAM = """
import sys
from minigpt4.core.engine import Engine
from minigpt4.core.prompt import User
engine = Engine.load("mini", backend="llamacpp", threads=1)
picture = engine.look(sys.argv[1])
answer = engine.reply([User("What is this?", images=[picture])]).read()
assert answer, "no answer"
print("torch" in sys.modules, "transformers" in sys.modules)
"""


def what_it_imported(picture: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, picture], capture_output=True, text=True, cwd=folder, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_picture_seen_before_is_answered_without_importing_torch(
    mini_home: Path, examples: Path, tmp_path: Path
) -> None:
    pytest.importorskip("llama_cpp", reason="the extra `llama` is not installed")
    # New bytes, so that the first process has to use the tower: trailing bytes change no pixel.
    photo = tmp_path / "photo.jpg"
    photo.write_bytes((examples / "coffee.jpg").read_bytes() + uuid4().bytes)
    assert what_it_imported(photo, tmp_path) == "True False"
    assert what_it_imported(photo, tmp_path) == "False False"
    assert (mini_home / "cache" / "embeddings").is_dir()
