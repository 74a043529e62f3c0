"""The vision tower loads while the language model does, if a picture is not cached."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray

from minigpt4.core.engine import Engine
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.pixels import Picture, open_picture
from minigpt4.core.prompt import User
from minigpt4.core.types import Sampling

WAIT_S = 60.0
GREEDY = Sampling(max_tokens=12, temperature=0.0)


class LanguageModel:
    """Enough of a language model to be loaded and closed."""

    backend = "llamacpp"
    width = 576
    context = 64
    choices: Mapping[str, str] = MappingProxyType({})

    def close(self) -> None:
        """Nothing to free."""


class Tower:
    """A tower that tells when it begins to load, and that all pictures look grey."""

    begun: threading.Event
    damage: str | None = None
    made = 0

    def __init__(self, *_arguments: object, **_options: object) -> None:
        Tower.made += 1
        Tower.begun.set()
        if Tower.damage:
            raise BundleError(Tower.damage)

    def __call__(self, picture: Picture) -> NDArray[np.float32]:
        from minigpt4.core.bundles.bundle import load_bundle

        shape = load_bundle("mini").projection
        return np.full((shape.image_tokens, shape.outputs), 0.5, np.float32)


@pytest.fixture
def tower(monkeypatch: pytest.MonkeyPatch) -> type[Tower]:
    Tower.begun, Tower.damage, Tower.made = threading.Event(), None, 0
    monkeypatch.setattr("minigpt4.core.vision.encoder.ImageEncoder", Tower)
    monkeypatch.setattr("minigpt4.core.download.fetch.ensure", lambda *_, **__: None)
    return Tower


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    """Load mini for pictures, with a language model that is there as soon as `loaded` returns."""
    pytest.importorskip("llama_cpp")

    def load(pictures: list[Picture], loaded: Callable[[], object]) -> Engine:
        def language_model(*_arguments: object, **_options: object) -> Any:
            loaded()
            return LanguageModel()

        monkeypatch.setattr("minigpt4.core.engine.load_language_model", language_model)
        options = EngineOptions("mini", backend="llamacpp", device="cpu")
        return Engine.from_options(options, pictures=pictures)

    return load


@pytest.fixture
def photo(examples: Path) -> Picture:
    """A photo that no cache has: bytes behind the end change no pixel."""
    return open_picture((examples / "coffee.jpg").read_bytes() + uuid4().bytes)


def test_the_tower_of_a_new_picture_begins_to_load_before_the_language_model_is_there(
    tower: type[Tower], load: Callable[..., Engine], photo: Picture
) -> None:
    begun: list[bool] = []
    engine = load([photo], lambda: begun.append(tower.begun.wait(WAIT_S)))
    assert begun == [True]
    engine.look(photo)
    assert tower.made == 1


def test_no_tower_is_loaded_for_a_picture_that_is_cached(
    tower: type[Tower], load: Callable[..., Engine], photo: Picture
) -> None:
    load([], lambda: None).look(photo)
    assert tower.made == 1
    engine = load([photo], lambda: None)
    engine.look(photo)
    engine.prefill_opening([User("What is this?")])
    assert tower.made == 1


def test_what_is_wrong_with_the_tower_is_said_when_the_picture_is_looked_at(
    tower: type[Tower], load: Callable[..., Engine], photo: Picture
) -> None:
    tower.damage = "The vision tower's file is damaged."
    engine = load([photo], lambda: tower.begun.wait(WAIT_S))
    for _ in range(2):
        with pytest.raises(BundleError, match="file is damaged"):
            engine.look(photo)


def test_what_is_wrong_with_the_language_model_goes_first(
    tower: type[Tower], load: Callable[..., Engine], photo: Picture
) -> None:
    def failing() -> None:
        raise BackendError("No memory for it.")

    with pytest.raises(BackendError, match="No memory"):
        load([photo], failing)


@pytest.mark.parametrize("backend", ["llamacpp", "torch"])
def test_the_prompts_opening_is_computed_while_the_tower_loads_and_changes_no_answer(
    backend: str, mini_home: Path, photo: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "llamacpp":
        pytest.importorskip("llama_cpp")
    from minigpt4.core.vision import encoder

    question = "What is in this picture?"
    may_load = threading.Event()
    real = encoder.ImageEncoder

    def waiting(*arguments: Any, **options: Any) -> encoder.ImageEncoder:
        assert may_load.wait(WAIT_S)
        return real(*arguments, **options)

    monkeypatch.setattr(encoder, "ImageEncoder", waiting)
    options = EngineOptions("mini", backend=backend, device="cpu", threads=1, context=256)
    with Engine.from_options(options, pictures=[photo]) as engine:
        engine.prefill_opening([User(question)])
        opening = engine.language.computed
        may_load.set()
        asked = [User(question, images=[engine.look(photo)])]
        ahead = engine.reply(asked, GREEDY)
        text = ahead.read()
        engine.language.reset()
        whole = engine.reply(asked, GREEDY)
        assert whole.read() == text
        assert opening > 10
        assert ahead.computed_tokens == whole.computed_tokens - opening
