"""What a CUDA device computes is what the processor computes. Run with `pytest -m gpu` where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from minigpt4.core.bundles.bundle import Bundle, LanguageSpec, load_bundle
from minigpt4.core.engine import Engine
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.language.load import load_language_model
from minigpt4.core.pixels import open_picture
from minigpt4.core.prompt import Assistant, User
from minigpt4.core.types import ResolvedSampling
from minigpt4.core.vision.encoder import ImageEncoder
from minigpt4.core.vision.tower import load_tower

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

TinyBundle = Callable[..., Bundle]
WriteLlama = Callable[..., Path]

PROMPT = list(range(3, 40))
"""Any tokens."""

LIKENESS = {"fp16": 0.9999, "bf16": 0.999, "int8": 0.999, "nf4": 0.99}
"""Least cosine between logits and those in float32. On a processor the same model has 1.0000 in 16 and in 8
bits, 0.9995 in nf4."""

GREEDY = ResolvedSampling(max_tokens=32, temperature=0.0, repetition_penalty=1.0)


@pytest.mark.usefixtures("mini_home")
@pytest.mark.parametrize("photo", ["chelsea.png", "rocket.jpg"])
def test_a_picture_has_the_same_embedding(examples: Path, photo: str) -> None:
    bundle = load_bundle("mini")
    picture = open_picture(examples / photo)
    on_cpu, on_gpu = (
        ImageEncoder(bundle, bundle.projection.path, device=device)(picture) for device in ("cpu", "cuda")
    )
    np.testing.assert_allclose(on_gpu, on_cpu, atol=0.02 * float(np.abs(on_cpu).max()))


@pytest.mark.usefixtures("mini_home")
def test_a_conversation_has_the_same_answers(examples: Path) -> None:
    output = []
    for device in ("cpu", "cuda"):
        with Engine.load("mini", backend="torch", device=device) as engine:
            cat = engine.look(examples / "chelsea.png")
            first = engine.reply([User("What is this?", images=[cat])], GREEDY).read()
            turns = [User("What is this?", images=[cat]), Assistant(first), User("Is it big?")]
            second = engine.reply(turns, GREEDY)
            output.append((first, second.read()))
            assert second.computed_tokens < second.prompt_tokens + second.answer_tokens
    assert output[0] == output[1]


def noise(bundle: Bundle) -> torch.Tensor:
    """Two pictures of noise, normalised."""
    size = bundle.vision.image_size
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp32", 1e-3), ("fp16", 1e-2), ("bf16", 6e-2)])
@pytest.mark.parametrize("has_qformer", [True, False], ids=["q-former", "patches joined"])
def test_eva_sees_the_same_in_every_float_type(
    tiny_bundle: TinyBundle, dtype: str, tolerance: float, has_qformer: bool
) -> None:
    bundle = tiny_bundle(has_qformer=has_qformer)
    pixels_BCHW = noise(bundle)
    on_cpu = load_tower(bundle, device="cpu", dtype="fp32").encode(pixels_BCHW)
    on_gpu = load_tower(bundle, device="cuda", dtype=dtype).encode(pixels_BCHW.cuda())
    assert (on_gpu.device.type, on_gpu.dtype) == ("cuda", torch.float32)
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=0, atol=tolerance * float(on_cpu.abs().max()))


def test_a_tower_that_is_offloaded_sees_the_same_and_leaves_the_gpu(tiny_bundle: TinyBundle) -> None:
    bundle = tiny_bundle()
    path = bundle.projection.path
    assert path is not None
    staying = ImageEncoder(bundle, path, device="cuda")
    lent = ImageEncoder(bundle, path, device="cuda", offload=True)
    for _ in range(2):
        before = torch.cuda.memory_allocated()
        found = lent.trace(noise(bundle))["image_BND"]
        assert torch.cuda.memory_allocated() == before
        np.testing.assert_allclose(found, staying.trace(noise(bundle))["image_BND"], rtol=0, atol=1e-4)
    assert {parameter.device.type for parameter in lent._tower.network.parameters()} == {"cpu"}


@pytest.mark.parametrize("quant", LIKENESS)
def test_a_quantised_language_model_says_nearly_the_same(
    tiny_bundle: TinyBundle, write_llama: WriteLlama, tmp_path: Path, quant: str
) -> None:
    folder = write_llama(tmp_path / "llama", width=64)
    base = tiny_bundle()
    bundle = replace(
        base,
        language=LanguageSpec("llama", 64, 64, (), folder),
        projection=replace(base.projection, outputs=64),
    )

    def logits(device: str, quant: str) -> NDArray[np.float32]:
        model = load_language_model(EngineOptions(bundle, backend="torch", device=device, quant=quant))
        found = model.logits(PROMPT)
        model.close()
        return found

    exact = logits("cpu", "fp32")
    first, again = logits("cuda", quant), logits("cuda", quant)  # the second reads what the first kept
    likeness = float(exact @ first / np.linalg.norm(exact) / np.linalg.norm(first))
    assert likeness > LIKENESS[quant]
    np.testing.assert_array_equal(first, again)
