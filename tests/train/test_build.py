"""Training a tiny MiniGPT-4 on a folder of photos, with every kind of recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.projection import save_projection
from minigpt4.train.batches.places import locate, with_own_photos
from minigpt4.train.batches.run_data import RunData, open_data
from minigpt4.train.batches.samples import Batch
from minigpt4.train.build import build, run_fingerprints
from minigpt4.train.distributed.process_group import ProcessGroup
from minigpt4.train.events import Event, FeaturesMissing, Note, StepDone
from minigpt4.train.recipe import Recipe, Source, bundle_for
from minigpt4.train.recipe_file import read_recipe, recipe_path, with_settings
from minigpt4.train.trainer import Trainer


@dataclass(frozen=True)
class Learnt:
    """The results of a few steps."""

    steps: list[StepDone]
    trainer: Trainer
    data: RunData
    fingerprints: Mapping[str, str]
    events: list[Event]
    first: Batch
    measured: list[float]
    """The validation loss before and after."""

    @property
    def sample_photos(self) -> Mapping[str, bytes]:
        answers = self.trainer.sample_answers
        return answers.images if answers is not None else {}

    @property
    def losses(self) -> list[float]:
        return [done.loss for done in self.steps]


TrainTiny = Callable[..., Learnt]

SHRUNK = ("steps=4", "batch_size=4", "validation.photos=2", "warmup_steps=1", "sample_photos=2")
QUICK = ("learning_rate=0.05", "precision=fp32")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The user's own photos, each with its text file; some are held out by their names."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(60):
        Image.new("RGB", (20, 12), (4 * number, 255 - 4 * number, 99)).save(folder / f"{number}.jpg")
        (folder / f"{number}.txt").write_text(f"a picture with the number {number}")
    return folder


@pytest.fixture
def train_tiny(import_tiny: Any, pictures: Path) -> TrainTiny:
    """Four steps of a recipe with the reference's tiny model."""

    def run(
        name: str,
        *settings: str,
        process_group: ProcessGroup | None = None,
        has_qformer: bool = True,
        start: Path | None = None,
    ) -> Learnt:
        data = [str(pictures)]
        recipe = with_own_photos(read_recipe(recipe_path(name)), data)
        recipe = with_settings(recipe, [*SHRUNK, *QUICK, *settings])
        bundle = bundle_for(recipe, tiny(import_tiny, recipe, has_qformer))
        events: list[Event] = []
        opened = open_data(recipe, locate(recipe, data), events.append)
        group = process_group or ProcessGroup()
        with build(recipe, opened, bundle, group, start=start, workers=1, report=events.append) as (
            trainer,
            _,
        ):
            first = trainer.loader.batch(0)
            losses = [trainer.validation_loss()]
            steps = [trainer.step(number) for number in range(recipe.steps)]
            losses.append(trainer.validation_loss())
            fingerprints = run_fingerprints(recipe, bundle, opened)
            return Learnt(steps, trainer, opened, fingerprints, events, first, losses)

    return run


def tiny(import_tiny: Any, recipe: Recipe, has_qformer: bool) -> Bundle:
    bundle: Bundle = import_tiny(f"tiny-{abs(hash(recipe)) % 10**6}", has_qformer=has_qformer)
    return bundle


@pytest.mark.parametrize("recipe", ["stage1", "stage2"])
@pytest.mark.parametrize("has_qformer", [True, False])
def test_both_stages_train_on_the_user_s_own_photos(
    train_tiny: TrainTiny, recipe: str, has_qformer: bool
) -> None:
    result = train_tiny(recipe, has_qformer=has_qformer)
    assert [done.step for done in result.steps] == [1, 2, 3, 4]
    assert result.measured[1] < result.measured[0]
    assert all(done.left_out == 0 and done.label_tokens > 0 for done in result.steps)
    assert all(done.mfu is None or 0 < done.mfu < 1 for done in result.steps)
    assert result.data.photos + 2 <= 60  # the others are held out
    assert set(result.fingerprints) == {"the vision tower", "the language model", "the data of 'pictures'"}
    assert len(result.sample_photos) == len(result.trainer.answers()) == 2
    assert all(content.startswith(b"\xff\xd8") for content in result.sample_photos.values())


@pytest.mark.parametrize(
    ("ablation", "shapes"),
    [
        ("ablation-no-qformer", {"projection.linear.weight": (16, 128)}),
        (
            "ablation-three-layers",
            {"projection.linear.weight": (16, 24), "projection.deeper.1.weight": (16, 16)},
        ),
        ("ablation-qformer-trained", {"qformer.query_tokens": (1, 4, 24)}),
    ],
)
def test_each_ablation_trains_its_own_parameters(
    train_tiny: TrainTiny, ablation: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    trainer = train_tiny(ablation).trainer
    tensors = dict(trainer.adapter.named_parameters())
    assert {name: tuple(tensors[name].shape) for name in shapes} == shapes
    assert all(parameter in trainer.optimizer.state for parameter in tensors.values())


def test_a_quantized_language_model_gives_nearly_the_same_losses(
    train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("minigpt4.train.precision.has_amx", lambda: True)
    exact = train_tiny("stage1").losses
    for precision in ("bf16", "int8", "nf4"):
        coarse = train_tiny("stage1", f"precision={precision}")
        assert coarse.losses[0] == pytest.approx(exact[0], rel=0.1)
        assert coarse.losses[0] != exact[0]
        adapter = coarse.trainer.adapter
        assert all(parameter.dtype == torch.float32 for parameter in adapter.parameters())
        assert coarse.trainer.loss_fn.language_model.dtype == torch.bfloat16


def test_a_processor_without_amx_computes_with_the_same_weights_in_float32(
    train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = {}
    for has_amx in (True, False):
        monkeypatch.setattr("minigpt4.train.precision.has_amx", lambda has_amx=has_amx: has_amx)
        runs[has_amx] = train_tiny("stage1", "precision=bf16", f"bad_share={0.1 + 0.1 * has_amx}")
        notes = [event.sentence for event in runs[has_amx].events if isinstance(event, Note)]
        assert any("computes in float32" in sentence for sentence in notes) is not has_amx
    rounded, exact = (runs[one].trainer.loss_fn.language_model for one in (True, False))
    assert (rounded.dtype, exact.dtype) == (torch.bfloat16, torch.float32)
    for name, weight in exact.state_dict().items():
        assert torch.equal(weight, rounded.state_dict()[name].float()), name
    assert runs[False].losses == pytest.approx(runs[True].losses, rel=0.05)


def test_photos_are_asked_about_their_objects_and_those_without_any_are_named(
    import_tiny: Any, write_shard: Callable[..., Path], tmp_path: Path
) -> None:
    captions = {str(number): f"a dog with the number {number}" for number in range(8)}
    dog = {"label": "dog", "box": [0.1, 0.1, 0.9, 0.9]}
    write_shard("data/marked/00000.tar", captions, objects=[dog])
    write_shard("data/silent/00000.tar", captions)
    recipe = with_settings(read_recipe(recipe_path("stage2")), [*SHRUNK, *QUICK, "validation.name=marked"])
    recipe = replace(
        recipe,
        prompt="chat",
        instructions=(),
        object_questions_per_photo=4.0,
        source=tuple(Source(name=name, kind="captions", weight=1.0) for name in ("marked", "silent")),
    )
    bundle = bundle_for(recipe, tiny(import_tiny, recipe, has_qformer=True))
    events: list[Event] = []
    data = open_data(recipe, locate(recipe, [str(tmp_path / "data")]), events.append)
    with build(recipe, data, bundle, ProcessGroup(), start=None, workers=1, report=events.append) as (
        trainer,
        _,
    ):
        samples = [sample for number in range(3) for sample in trainer.loader.batch(number).samples]
        assert trainer.step(0).loss > 0
    notes = [event.sentence for event in events if isinstance(event, Note)]
    assert [note for note in notes if note.startswith("No objects are known in the photos of 'silent', ")]
    asked = {recipe.source[sample.source].name: len(sample.examples) for sample in samples}
    assert asked["silent"] == 1 < asked["marked"]


def test_cached_features_and_pixels_give_equal_losses(
    train_tiny: TrainTiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = train_tiny("stage1")
    assert any(isinstance(event, FeaturesMissing) for event in cached.events)
    assert cached.first.features_BND is not None
    monkeypatch.setattr("minigpt4.train.build.is_worth_caching", lambda *_: False)
    uncached = train_tiny("stage1", "micro_batch=3")
    assert not any(isinstance(event, FeaturesMissing) for event in uncached.events)
    assert uncached.first.pixels_BCHW is not None
    # Cached features have 16 bits.
    assert uncached.losses == pytest.approx(cached.losses, rel=1e-3)
    assert uncached.sample_photos == cached.sample_photos


def test_two_builds_of_a_recipe_have_equal_losses(train_tiny: TrainTiny) -> None:
    once = train_tiny("stage2")
    again = train_tiny("stage2", "micro_batch=4", "sample_every=0", "sample_photos=0")
    assert once.losses == again.losses
    assert again.sample_photos == {}


def test_only_rank_0_generates_sample_answers(train_tiny: TrainTiny) -> None:
    # Of two processes, without the collectives of the other one.
    second = train_tiny("stage1", process_group=ProcessGroup(rank=1, world_size=2))
    assert second.sample_photos == {}
    assert second.trainer.answers() == ()
    assert [sample.index for sample in second.first.samples] == [1, 3]


def test_stage_2_starts_from_stage_1(train_tiny: TrainTiny, tmp_path: Path) -> None:
    first = train_tiny("stage1").trainer.adapter.projection
    save_projection(tmp_path / "first.safetensors", first)
    settings = ("steps=1", "warmup_rate=1e-9", "learning_rate=1e-4")
    second = train_tiny("stage2", *settings, start=tmp_path / "first.safetensors").trainer.adapter.projection
    torch.testing.assert_close(second.linear.weight, first.linear.weight, rtol=0, atol=1e-7)
