"""What cannot be loaded is refused before anything is fetched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.engine import Engine
from minigpt4.core.errors import BackendError, BundleError, UsageError


@pytest.fixture
def nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*_: object, **__: object) -> None:
        raise AssertionError("fetched for nothing")

    monkeypatch.setattr("minigpt4.core.download.fetch.ensure", fetched)


@pytest.mark.parametrize(
    "wrong",
    [
        {"backend": "lama"},
        {"device": "gpu"},
        {"threads": 0},
        {"context": 0},
        {"quant": "Q3"},
        {"quant": "Q4_0", "backend": "torch"},
        {"gpu_layers": -1},
        {"dtype": "fp8"},
    ],
    ids=str,
)
@pytest.mark.usefixtures("nothing_is_fetched")
def test_what_cannot_be_meant_is_refused_before_anything_is_fetched(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Engine.load("mini", **wrong)


@pytest.mark.usefixtures("nothing_is_fetched")
def test_a_projection_that_is_not_there_is_reported_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"There is no projection file .*none\.safetensors"):
        Engine.load("mini", projection=tmp_path / "none.safetensors")


@pytest.mark.usefixtures("nothing_is_fetched")
def test_what_memory_cannot_hold_is_refused_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("minigpt4.core.memory.free_memory", lambda _device: 10 << 30)
    with pytest.raises(BackendError, match=r"minigpt4-vicuna-7b.*choose `--quant"):
        Engine.load("minigpt4-vicuna-7b", backend="torch", device="cpu", quant="bf16")
