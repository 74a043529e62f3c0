"""LLaVA's projection trained by both stages, and written for llama.cpp."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.core.llava.conftest import save_llava

from minigpt4.core.bundle_making.import_llava import import_llava
from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.llava.class_row import libmtmd_embedding
from minigpt4.core.llava.encoder import LlavaEncoder
from minigpt4.core.llava.export import export_mmproj
from minigpt4.core.pixels import open_picture
from minigpt4.core.vision.encoder import ImageEncoder
from minigpt4.train.adapter import save_adapter
from minigpt4.train.batches.places import locate, with_own_photos
from minigpt4.train.batches.run_data import open_data
from minigpt4.train.build import build
from minigpt4.train.distributed.process_group import ProcessGroup
from minigpt4.train.events import Event, FeaturesMissing, StepDone
from minigpt4.train.recipe import bundle_for
from minigpt4.train.recipe_file import read_recipe, recipe_path, with_settings

SETTINGS = (
    "steps=4",
    "batch_size=4",
    "validation.photos=2",
    "warmup_steps=1",
    "sample_photos=2",
    "learning_rate=0.05",
    "precision=fp32",
)
LIBMTMD = 2e-3
"""Its pixels and its GELU are rounded to float16."""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(12):
        Image.new("RGB", (40, 25), (20 * number, 255 - 20 * number, 99)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(f"a picture with the number {number}")
    return folder


def trained(stage: int, bundle: Bundle, photos: Path, output: Path, start: Path | None) -> list[Event]:
    """A few steps of a stage of the paper, whose projection is saved in `output`."""
    data = [str(photos)]
    recipe = with_own_photos(read_recipe(recipe_path(f"stage{stage}")), data)
    recipe = with_settings(recipe, [*SETTINGS, f"bundle={bundle.name}"])
    events: list[Event] = []
    opened = open_data(recipe, locate(recipe, data), events.append)
    shaped = bundle_for(recipe, bundle)
    with build(recipe, opened, shaped, ProcessGroup(), start=start, workers=1, report=events.append) as (
        trainer,
        _,
    ):
        learnt = {name for name, one in trainer.adapter.named_parameters() if one.requires_grad}
        assert learnt == {
            "projection.linear.weight",
            "projection.linear.bias",
            "projection.deeper.0.weight",
            "projection.deeper.0.bias",
        }
        assert not any(one.requires_grad for one in trainer.loss_fn.language_model.parameters())
        before = trainer.validation_loss()
        events += [trainer.step(number) for number in range(recipe.steps)]
        assert trainer.validation_loss() < before
        assert len(trainer.answers()) == 2
        output.mkdir()
        save_adapter(output, trainer.adapter)
    return events


@pytest.mark.parametrize("class_row", [True, False], ids=["CLIP", "SigLIP"])
def test_both_stages_train_a_projection_that_llama_cpp_opens(
    tmp_path: Path, photos: Path, class_row: bool
) -> None:
    folder = tmp_path / "llava"
    save_llava(folder, class_row=class_row)
    bundle = import_llava("mine", folder)
    first = trained(1, bundle, photos, tmp_path / "one", None)
    assert any(isinstance(event, FeaturesMissing) for event in first)
    second = trained(2, bundle, photos, tmp_path / "two", tmp_path / "one")
    assert not any(isinstance(event, FeaturesMissing) for event in second), "the features are cached"
    assert len([event for event in second if isinstance(event, StepDone)]) == 4

    mmproj = tmp_path / "mmproj.gguf"
    export_mmproj(bundle, mmproj, tmp_path / "two")
    encoder = ImageEncoder(bundle, tmp_path / "two" / "projection.safetensors", dtype="fp32")
    untrained = ImageEncoder(bundle, tmp_path / "one" / "projection.safetensors", dtype="fp32")
    shown = np.random.default_rng(0).integers(0, 256, (70, 110, 3), np.uint8)
    picture = open_picture(Image.fromarray(shown))
    ours = encoder(picture)
    assert not np.array_equal(ours, untrained(picture))
    assert np.array_equal(LlavaEncoder(mmproj)(shown), ours)
    if not class_row:  # libmtmd 0.3.36 computes towers with a class token wrongly
        library = libmtmd_embedding(mmproj, shown, ours.shape)
        assert library is not None
        assert np.abs(library - ours).max() < LIBMTMD * np.abs(ours).max()


def test_the_tower_is_frozen(tmp_path: Path) -> None:
    folder = tmp_path / "llava"
    save_llava(folder, class_row=True)
    bundle = import_llava("mine", folder)
    from minigpt4.core.vision.tower import load_tower

    tower = load_tower(bundle, dtype="fp32")
    assert not any(one.requires_grad for one in tower.network.parameters())
    assert not tower.encode(torch.zeros(1, 3, 56, 56)).requires_grad
