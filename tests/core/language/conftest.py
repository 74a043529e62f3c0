"""Both backends with mini's real language model, loaded once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.language.base import LanguageModel

BACKENDS = ("torch", "llamacpp")


@pytest.fixture(scope="session")
def torch_model(mini: Bundle) -> Iterator[LanguageModel]:
    from minigpt4.core.language.torch import TorchLanguageModel

    model = TorchLanguageModel.load(EngineOptions(mini))
    yield model
    model.close()


@pytest.fixture(scope="session")
def llamacpp_model(mini: Bundle) -> Iterator[LanguageModel]:
    pytest.importorskip("llama_cpp")
    from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

    model = LlamaCppLanguageModel.load(EngineOptions(mini, device="cpu"))
    yield model
    model.close()


@pytest.fixture(params=BACKENDS)
def model(request: pytest.FixtureRequest, mini_home: Path) -> LanguageModel:
    """Each backend in turn, its cache empty."""
    model: LanguageModel = request.getfixturevalue(f"{request.param}_model")
    model.reset()
    return model
