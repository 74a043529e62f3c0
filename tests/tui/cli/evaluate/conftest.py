"""`minigpt4 eval` in the test's process, and the failing server of the endpoint's own tests."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

_path = Path(__file__).parents[3] / "train" / "evaluate" / "judges" / "conftest.py"
_spec = importlib.util.spec_from_file_location("endpoint_server", _path)
assert _spec is not None and _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _module  # dataclasses look for it
_spec.loader.exec_module(_module)

serve = _module.serve


@pytest.fixture
def run(
    call_minigpt4: Callable[..., subprocess.CompletedProcess[str]],
) -> Callable[..., tuple[int, str, str]]:
    """`eval` with these arguments, in the test's own process: the exit code, stdout and stderr."""

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        done = call_minigpt4("eval", *arguments)
        return done.returncode, done.stdout, done.stderr

    return run


@pytest.fixture
def captioned(tmp_path: Path, examples: Path) -> Path:
    """Two example photos with captions, and one that cannot be opened."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, caption in (("chelsea.png", "A cat looks up."), ("coffee.jpg", "A cup of coffee.")):
        (folder / name).write_bytes((examples / name).read_bytes())
        (folder / name).with_suffix(".txt").write_text(caption)
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "broken.txt").write_text("Nothing.")
    return folder


@pytest.fixture
def aokvqa(tmp_path: Path, examples: Path) -> Callable[[str, list[str], int], Path]:
    """Write a folder with one question of A-OKVQA about a photo: its text, its choices, the right one."""

    def write(question: str, choices: list[str], right: int) -> Path:
        row = {
            "image_id": 7,
            "question_id": "a",
            "question": question,
            "choices": choices,
            "correct_choice_idx": right,
            "direct_answers": ["cat"] * 10,
            "difficult_direct_answer": False,
        }
        folder = tmp_path / "data"
        folder.mkdir()
        (folder / "aokvqa_v1p0_val.json").write_text(json.dumps([row]))
        (folder / "000000000007.jpg").write_bytes((examples / "coffee.jpg").read_bytes())
        return folder

    return write
