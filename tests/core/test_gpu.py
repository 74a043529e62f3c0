"""mini on a CUDA device says what it says on the processor. Run with `pytest -m gpu` where there is one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from minigpt4.core.bundle import load_bundle
from minigpt4.core.encoder import ImageEncoder
from minigpt4.core.engine import Engine
from minigpt4.core.language.protocol import Sampling
from minigpt4.core.pixels import open_picture
from minigpt4.core.prompt import Assistant, User

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
    pytest.mark.usefixtures("mini_home"),
]

GREEDY = Sampling(max_tokens=32, temperature=0.0, repetition_penalty=1.0)


@pytest.mark.parametrize("photo", ["chelsea.png", "rocket.jpg"])
def test_a_picture_has_the_same_embedding(examples: Path, photo: str) -> None:
    bundle = load_bundle("mini")
    picture = open_picture(examples / photo)
    on_cpu, on_gpu = (
        ImageEncoder(bundle, bundle.projection.path, device=device)(picture) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, atol=0.02 * float(np.abs(on_cpu).max()))


def test_a_conversation_has_the_same_answers(examples: Path) -> None:
    said = []
    for device in ("cpu", "cuda"):
        with Engine.load("mini", backend="torch", device=device) as engine:
            cat = engine.look(examples / "chelsea.png")
            first = engine.reply([User("What is this?", images=[cat])], GREEDY).read()
            turns = [User("What is this?", images=[cat]), Assistant(first), User("Is it big?")]
            second = engine.reply(turns, GREEDY)
            said.append((first, second.read()))
            assert second.computed_tokens < second.prompt_tokens + second.answer_tokens
    assert said[0] == said[1]
