"""A language model, photos and features small enough to train on in a second."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.llama.configuration_llama import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaForCausalLM

from minigpt4.core.projection import Projection
from minigpt4.core.prompt import SmolLM2
from minigpt4.core.types import Text
from minigpt4.train.adapter import Adapter
from minigpt4.train.batches.loader import Loader
from minigpt4.train.batches.samples import (
    Batch,
    FeatureColumns,
    Sample,
    Skipped,
    TrainingSamples,
    indices_of_step,
    validation_samples,
)
from minigpt4.train.data.dataset import NO_CAPTION, PhotoError
from minigpt4.train.data.subset import Selection
from minigpt4.train.distributed.process_group import ProcessGroup
from minigpt4.train.packing.loss import LanguageModelLoss
from minigpt4.train.packing.sequence import Layout
from minigpt4.train.recipe import Recipe, Source, Validation
from minigpt4.train.trainer import Trainer

WIDTH, FEATURES, IMAGE_TOKENS, VIEWS = 16, 6, 2, 3
FEATURE_COLUMNS = FeatureColumns(slice(0, 4))
"""The other two columns represent class probabilities."""
VOCABULARY = 131
CAPTIONS = (
    "A dog runs through the snow.",
    "A brown dog is running.",
    "The dog plays in the snow.",
    "A dog jumps over a log on the left.",
    "A dog in the snow.",
)


def make_recipe(**changes: Any) -> Recipe:
    """Six steps of two photos; a checkpoint every second step."""
    values: dict[str, Any] = {
        "stage": 1,
        "bundle": "mini",
        "seed": 3,
        "steps": 6,
        "batch_size": 2,
        "precision": "fp32",
        "captions_per_photo": 2.0,
        "precise_names": 0.5,
        "prompt": "chat",
        "caption_form": "written",
        "learning_rate": 0.01,
        "warmup_rate": 0.005,
        "floor_rate": 0.001,
        "warmup_steps": 2,
        "cosine_over": "rest",
        "beta1": 0.9,
        "beta2": 0.98,
        "weight_decay": 0.01,
        "gradient_clip": 1.0,
        "feature_dropout": 0.25,
        "initial_std": 0.1,
        "checkpoint_every": 2,
        "validate_every": 3,
        "source": (
            Source(name="people", kind="captions", weight=0.7, views=VIEWS, cropped=0.5),
            Source(name="things", kind="labels", weight=0.3, views=1, cropped=0.0, hidden=0.5),
        ),
        "validation": Validation(name="val", kind="captions", photos=3),
    }
    return Recipe(**(values | changes))


def byte_tokens(*texts: Text) -> list[int]:
    """One token per byte; the end token has its own."""
    return [
        token
        for text in texts
        for token in (
            [VOCABULARY - 1]
            if text == Text("<|im_end|>", control=True)
            else [byte % 128 for byte in text.text.encode()]
        )
    ]


def tiny_language_model() -> Any:
    """A random Llama in float32, the same in every process."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        initializer_range=0.3,
    )
    return LlamaForCausalLM(config).eval().requires_grad_(False)


class CaptionedPhotos(Selection):
    """Photos of which only the captions exist; one without any is damaged."""

    def __init__(self, name: str, captions: Sequence[Sequence[str]]) -> None:
        self.name = name
        self._captions = captions

    def __len__(self) -> int:
        return len(self._captions)

    def key(self, place: int) -> str:
        return f"{self.name}-{place}"

    def meta(self, place: int) -> Mapping[str, Any]:
        if not self._captions[place]:
            raise PhotoError(self.name, self.key(place), NO_CAPTION)
        return {"captions": list(self._captions[place])}


class ArrayBatches:
    """Batches whose features are drawn by source, photo and crop, in memory."""

    def __init__(self, samples: TrainingSamples, recipe: Recipe, process_group: ProcessGroup) -> None:
        self._samples = samples
        self._recipe = recipe
        self._process_group = process_group

    def batch(self, step: int) -> Batch:
        numbers = indices_of_step(
            step, self._recipe.batch_size, self._process_group.rank, self._process_group.world_size
        )
        drawn = [self._samples.sample(number) for number in numbers]
        drawn_samples = [sample for sample in drawn if isinstance(sample, Sample)]
        return Batch(
            tuple(drawn_samples),
            features_BND=features_of(drawn_samples) if drawn_samples else None,
            skipped=tuple(one for one in drawn if isinstance(one, Skipped)),
        )


def features_of(samples: Sequence[Sample]) -> torch.Tensor:
    """Random features, the same for the same source, photo and crop."""
    shape = (IMAGE_TOKENS, FEATURES)
    drawn = [
        np.random.default_rng([sample.source, sample.photo, sample.crop]).standard_normal(shape)
        for sample in samples
    ]
    return torch.from_numpy(np.stack(drawn).astype(np.float16))


def make_trainer(
    recipe: Recipe | None = None, process_group: ProcessGroup | None = None, threads: int = 1
) -> Trainer:
    """A trainer from random weights, the same at every call."""
    recipe, process_group = recipe or make_recipe(), process_group or ProcessGroup()
    people = CaptionedPhotos("people", [CAPTIONS[place:] + CAPTIONS[:place] for place in range(4)])
    sources = [people, CaptionedPhotos("things", [("a photo of a grand piano.",)])]
    measured = validation_samples(recipe, people)[process_group.rank :: process_group.world_size]
    layout = Layout(SmolLM2(), byte_tokens)
    loss_fn = LanguageModelLoss(tiny_language_model().to(process_group.device), layout.prefix)
    torch.manual_seed(recipe.seed)
    adapter = Adapter(Projection(FEATURES, WIDTH, recipe.layers or 1))
    return Trainer(
        recipe,
        adapter,
        loss_fn,
        layout,
        cast(Loader, ArrayBatches(TrainingSamples(recipe, sources), recipe, process_group)),
        validation=lambda: [Batch(tuple(measured), features_BND=features_of(measured))] if measured else [],
        process_group=process_group,
        feature_columns=FEATURE_COLUMNS,
        threads=threads,
    )


class MakeRecipe(Protocol):
    """A tiny recipe, with changes."""

    def __call__(self, **changes: Any) -> Recipe: ...


class MakeTrainer(Protocol):
    """A tiny trainer of the recipe, of the tiny one by default."""

    def __call__(
        self, recipe: Recipe | None = None, process_group: ProcessGroup | None = None, threads: int = 1
    ) -> Trainer: ...


@pytest.fixture(scope="session")
def tiny_recipe() -> MakeRecipe:
    """Recipes for six steps of two photos."""
    return make_recipe


@pytest.fixture
def tiny_trainer() -> MakeTrainer:
    """Trainers with the same initial weights at every call."""
    return make_trainer


def small_photo(seed: int) -> bytes:
    """A JPEG of 24 x 16 pixels, another for every seed."""
    values = np.random.default_rng(seed).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture
def write_shard(tmp_path: Path) -> Callable[..., Path]:
    """Write a shard below `tmp_path`: each key's photo with its caption.

    `photos` holds the bytes of those that are to be others than a small JPEG of its own; `more` stands in
    the metadata of every photo.
    """

    def write(
        name: str, captions: Mapping[str, str], photos: Mapping[str, bytes] | None = None, **more: Any
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for place, (key, caption) in enumerate(captions.items()):
                photo = (photos or {}).get(key) or small_photo(place)
                meta = json.dumps({"caption": caption, **more}).encode()
                for suffix, content in (("jpg", photo), ("json", meta)):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        return path

    return write
