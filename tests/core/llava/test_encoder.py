"""Embeddings of LLaVA's form in torch: those of transformers, and of libmtmd where it is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from tests.core.llava.conftest import OUTPUTS, SIZE, WriteMmproj, reference_embedding, tiny_llava

from minigpt4.core.llava.class_row import libmtmd_embedding
from minigpt4.core.llava.encoder import LlavaEncoder
from minigpt4.core.pixels import PADDING, letterboxed

FLOAT32 = 1e-5
LIBMTMD = 2e-3
"""It rounds pixels to float16 and takes GELU from a table of float16."""


def picture(width: int = SIZE, height: int = SIZE, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def difference(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize("class_row", [True, False])
@pytest.mark.parametrize(
    "form",
    [
        {},
        {"blocks": 2, "feature_layer": [2]},
        {"feature_layer": [2]},
        {"swapped": True},
    ],
    ids=["all blocks", "the layer named", "more blocks than the layer", "MLPs swapped"],
)
def test_every_form_of_the_file_gives_transformers_embeddings(
    write_mmproj: WriteMmproj, class_row: bool, form: dict[str, Any]
) -> None:
    model = tiny_llava(class_row=class_row)
    encoder = LlavaEncoder(write_mmproj(model, **form))
    found = encoder(picture())
    assert found.shape == (encoder.tokens, encoder.width) == ((SIZE // 14) ** 2, OUTPUTS)
    assert difference(found, reference_embedding(model, picture())) < FLOAT32


def test_half_precision_weights_are_read(write_mmproj: WriteMmproj) -> None:
    model = tiny_llava(class_row=True)
    wanted = reference_embedding(model, picture())
    assert 1e-6 < difference(LlavaEncoder(write_mmproj(model, half=True))(picture()), wanted) < 5e-3


def test_gelu_is_told_apart_from_openais(write_mmproj: WriteMmproj) -> None:
    model = tiny_llava(class_row=True)
    wanted = reference_embedding(model, picture())

    def use_gelu(metadata: dict[str, Any]) -> None:
        metadata["clip.use_gelu"] = True

    assert difference(LlavaEncoder(write_mmproj(model, change=use_gelu))(picture()), wanted) > 1e-3


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(width=st.integers(1, 400), height=st.integers(1, 400), seed=st.integers(0, 9))
def test_pictures_of_any_size_are_prepared_as_libmtmd_prepares_them(
    siglip_mmproj: Path, width: int, height: int, seed: int
) -> None:
    """SigLIP's tower has no class token, so the library is right about it, and a wrong pixel shows."""
    encoder = LlavaEncoder(siglip_mmproj)
    shown = picture(width, height, seed)
    library = libmtmd_embedding(siglip_mmproj, shown, (encoder.tokens, encoder.width))
    assert library is not None
    assert difference(library, encoder(shown)) < LIBMTMD


@pytest.fixture
def siglip_mmproj(write_mmproj: WriteMmproj) -> Path:
    return write_mmproj(tiny_llava(class_row=False))


def test_a_very_long_picture_keeps_a_row(siglip_mmproj: Path) -> None:
    encoder = LlavaEncoder(siglip_mmproj)
    long = picture(3000, 2)
    library = libmtmd_embedding(siglip_mmproj, long, (encoder.tokens, encoder.width))
    assert library is not None
    assert difference(library, encoder(long)) < LIBMTMD


def test_a_letterbox_shows_the_whole_picture_on_clips_mean_color() -> None:
    square = np.asarray(letterboxed(Image.new("RGB", (80, 40), "white"), 20))
    assert (square[5:15] == 255).all()
    assert (square[:5] == PADDING).all()
    assert (square[15:] == PADDING).all()
