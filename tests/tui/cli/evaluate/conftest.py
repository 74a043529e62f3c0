"""`minigpt4 eval` in the test's process, and the failing server of the endpoint's own tests."""

from __future__ import annotations

import importlib.util
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
