"""What mini says about the example photos: what is there, and what is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.engine import Engine
from minigpt4.core.prompt import User
from minigpt4.core.types import Sampling


@pytest.fixture(scope="module", params=["llamacpp", "torch"])
def engine(mini: Bundle, request: pytest.FixtureRequest) -> Iterator[Engine]:
    if request.param == "llamacpp":
        pytest.importorskip("llama_cpp")
    with Engine.load(mini, backend=request.param, device="cpu") as loaded:
        yield loaded


@pytest.mark.parametrize(
    ("photo", "question", "said"),
    [
        ("chelsea.png", "What is in this picture?", "A cat."),
        ("chelsea.png", "Is there a cat in the picture?", "Yes"),
        ("chelsea.png", "Is there a dog in the picture?", "No"),
        ("coffee.jpg", "What is in this picture?", ("A cup of coffee.", "An espresso.")),
        ("coffee.jpg", "Is there a cup in the picture?", "Yes"),
        ("coffee.jpg", "Is there a dog in the picture?", "No"),
        ("camera.png", "What is in this picture?", "A camera"),
        ("camera.png", "Is there a person in the picture?", "Yes"),
        ("camera.png", "Is there a dog in the picture?", "No"),
        ("camera.png", "Is there a cat in the picture?", "No"),
    ],
)
def test_it_says_what_is_there_and_what_is_not(
    engine: Engine, examples: Path, photo: str, question: str, said: str | tuple[str, ...]
) -> None:
    asked = User(question, images=(engine.look(examples / photo),))
    answer = "".join(piece.text for piece in engine.reply([asked], Sampling(temperature=0.0)))
    assert answer.startswith(said)


def test_both_backends_give_the_same_answers(mini: Bundle, examples: Path) -> None:
    """llama.cpp with Q4_1 itself rounds to 8 bits, and answers differently about 4 of 50 photos."""
    pytest.importorskip("llama_cpp")
    questions = (
        "What is in this picture?",
        "Describe this image in detail.",
        "How many people are there?",
        "Is there a cup in the picture?",
    )
    photos = sorted(path for path in examples.iterdir() if path.suffix in (".png", ".jpg"))
    assert len(photos) >= 4
    answers = []
    for backend in ("torch", "llamacpp"):
        with Engine.load(mini, backend=backend, device="cpu") as engine:
            asked = [
                User(question, images=(engine.look(photo),)) for photo in photos for question in questions
            ]
            replies = [engine.reply([one], Sampling(temperature=0.0, max_tokens=40)) for one in asked]
            answers.append(["".join(piece.text for piece in reply) for reply in replies])
    assert answers[0] == answers[1]
