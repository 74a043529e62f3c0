"""Copies of the KV cache do not let a process grow for ever."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("llama_cpp")

MOST_MEGABYTES = 20
PICTURES, WARM_UP = 100, 25
"""Each asked about twice; the copies of mini's cache are as many as they will be after 20 pictures."""

SCRIPT = """
import resource, sys
from pathlib import Path
import numpy as np
from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.language.llamacpp import LlamaCppLanguageModel
from minigpt4.core.types import ImageEmbedding, Text

def held():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6

warm_up, pictures = map(int, sys.argv[1:])
model = LlamaCppLanguageModel.load(EngineOptions(load_bundle("mini"), device="cpu", threads=1))
first, second = (model.tokenize(Text(text)) for text in ("What is in it?", "Are you sure of that?"))
noise = np.random.default_rng(0)
for number in range(warm_up + pictures):
    if number == warm_up:
        before = held()
    vectors_ND = noise.normal(scale=0.1, size=(34, model.width)).astype(np.float32)
    picture = ImageEmbedding(vectors_ND, str(number))
    model.logits([1, picture, *first])
    model.logits([1, picture, *first, *second])
assert model._states.positions > 0.9 * model._states.most_positions
print(held() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system has no /proc")
def test_two_hundred_turns_about_a_hundred_pictures_leave_no_memory_behind(mini_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SCRIPT, str(WARM_UP), str(PICTURES)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < MOST_MEGABYTES
