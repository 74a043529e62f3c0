"""The trial of the installed libmtmd, and who computes which mmproj."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
import torch
from tests.core.llava.conftest import WriteMmproj, tiny_llava
from tests.core.llava.test_encoder import difference, picture

from minigpt4.core.errors import BundleError
from minigpt4.core.llava import class_row
from minigpt4.core.llava.class_row import (
    SIZE,
    TINY,
    libmtmd_embedding,
    library_is_right,
    own_encoder,
    own_mmproj,
    write_tiny,
)
from minigpt4.core.llava.encoder import LlavaEncoder
from minigpt4.core.storage.paths import cache_home

KNOWN_WRONG = llama_cpp.__version__ == "0.3.36"
needs_the_error = pytest.mark.skipif(not KNOWN_WRONG, reason="only 0.3.36 is known to have the error")


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    library_is_right.cache_clear()
    yield
    library_is_right.cache_clear()


@needs_the_error
def test_the_installed_library_is_found_to_be_wrong() -> None:
    assert not library_is_right()


def test_a_library_that_computes_rightly_is_recognised(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a class token this one does."""
    monkeypatch.setattr(class_row, "TINY", replace(TINY, class_row=False, activation="gelu_pytorch_tanh"))
    monkeypatch.setattr(
        class_row.write_tiny,
        "__defaults__",
        (replace(TINY, class_row=False, activation="gelu_pytorch_tanh"),),
    )
    assert library_is_right()


def test_the_result_is_kept_for_this_build_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    first = library_is_right()
    library_is_right.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(class_row, "_try_tiny_file", lambda: pytest.fail("tried again"))
        assert library_is_right() == first
    (note,) = (cache_home() / "libmtmd").iterdir()
    note.write_text("{damaged")
    library_is_right.cache_clear()
    assert library_is_right() == first


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_costs_only_the_time() -> None:
    cache_home().mkdir(parents=True)
    cache_home().chmod(0o500)
    assert isinstance(library_is_right(), bool)


@needs_the_error
def test_the_error_is_the_known_one(tmp_path: Path) -> None:
    """The class token last, but positions numbered and outputs picked as if it were first."""
    path = tmp_path / "mmproj.gguf"
    write_tiny(path)
    encoder = LlavaEncoder(path)
    shown = picture(SIZE, SIZE)
    library = libmtmd_embedding(path, shown, (encoder.tokens, encoder.width))
    assert library is not None
    network = encoder._tower.network
    hidden_BND = torch.zeros(0)

    def class_token_last(*arguments: object) -> torch.Tensor:
        embeddings = network.embeddings
        patches_BND = embeddings.patch_embedding(hidden_BND).flatten(2).transpose(1, 2)
        rows_BND = torch.cat([patches_BND, embeddings.class_embedding[None, None]], 1)
        return rows_BND + embeddings.position_embedding.weight

    pixels = torch.from_numpy(((shown / np.float32(255) - 0.5) / 0.5).astype(np.float32).transpose(2, 0, 1))
    hidden_BND = pixels[None]
    with torch.no_grad():
        rows_BND = network.encoder(inputs_embeds=network.pre_layrnorm(class_token_last())).last_hidden_state
        emulated = encoder._projection(rows_BND[0, 1:]).numpy()
    assert difference(library, emulated) < 2e-3
    assert difference(library, encoder(shown)) > 0.1


@needs_the_error
def test_towers_with_a_class_token_are_computed_here_and_others_by_the_library(
    write_mmproj: WriteMmproj,
) -> None:
    assert isinstance(own_encoder(write_mmproj(tiny_llava(class_row=True))), LlavaEncoder)
    assert own_encoder(write_mmproj(tiny_llava(class_row=False))) is None


def test_a_right_library_computes_all_but_files_of_which_it_omits_a_layer(
    write_mmproj: WriteMmproj, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_row, "library_is_right", lambda: True)
    model = tiny_llava(class_row=True)
    assert own_encoder(write_mmproj(model)) is None
    monkeypatch.setattr("minigpt4.core.llava.mmproj.CLIP_DEPTHS", {32: 3})
    assert isinstance(own_encoder(write_mmproj(model, blocks=2)), LlavaEncoder)


@needs_the_error
def test_a_form_that_nobody_computes_rightly_is_refused(write_mmproj: WriteMmproj) -> None:
    def mobile(metadata: dict[str, object]) -> None:
        metadata["clip.projector_type"] = "ldpv2"

    path = write_mmproj(tiny_llava(class_row=True), change=mobile)
    with pytest.raises(BundleError, match=r"'ldpv2', not 'mlp'.*computes towers with a class token wrongly"):
        own_encoder(path)


@needs_the_error
def test_a_form_that_nobody_computes_rightly_is_refused_without_its_weights(
    write_mmproj: WriteMmproj,
) -> None:
    """LLaVA-1.6's pictures are cut into tiles."""

    def tiles(metadata: dict[str, object]) -> None:
        metadata["clip.vision.image_grid_pinpoints"] = [56, 112]

    path = write_mmproj(tiny_llava(class_row=True), change=tiles)
    with pytest.raises(BundleError, match=r"LLaVA-1\.6.*computes towers with a class token wrongly"):
        own_mmproj(path)
    assert own_mmproj(write_mmproj(tiny_llava(class_row=False), change=tiles)) is None
