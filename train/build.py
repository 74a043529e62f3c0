"""From a recipe and photos to a trainer that can take its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.errors import DataError
from minigpt4.core.language.hf_load import load_causal_lm, load_tokens
from minigpt4.core.language.tokenizers import Tokens
from minigpt4.core.language.torch import TorchLanguageModel
from minigpt4.core.prompt import template_named
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.weights.bnb_quantize import QUANTS
from minigpt4.core.weights.locate import language_digest
from minigpt4.train.batches.loader import Loader
from minigpt4.train.batches.run_data import Data, feature_plan, is_worth_keeping, open_data, order_of
from minigpt4.train.batches.samples import Batch, Batches, Curriculum, Visit, validation_visits
from minigpt4.train.distributed.process_group import World
from minigpt4.train.estimate.mfu import utilisation_of
from minigpt4.train.events import ModelLoading, Note, Report
from minigpt4.train.features.cache import Features, cached_features
from minigpt4.train.features.compute import make_missing_features
from minigpt4.train.init import name_classes
from minigpt4.train.packing.loss import Objective
from minigpt4.train.packing.sequence import Layout, layout_for
from minigpt4.train.recipe import Recipe
from minigpt4.train.run.sample_answers import Answers, question_of
from minigpt4.train.trainable import TrainedPart, begin_part, feature_shape, tower_facts, tower_for
from minigpt4.train.trainer import Trainer

LoadTower = Callable[[], VisionTower]


@dataclass(frozen=True, eq=False)
class Assembled:
    """A trainer, and the parts that it was put together from."""

    trainer: Trainer
    facts: Mapping[str, str]
    """What must be the same for a run to go on exactly, besides the recipe, under names for a person."""

    photos: int
    """How many different photos there are to learn from."""

    language_model: Any
    tokens: Tokens
    layout: Layout
    objective: Objective
    batches: Batches
    sample_photos: Mapping[str, bytes]
    """The encoded pictures that are answered about, by key; in the process that writes, if at all."""


@contextmanager
def assemble(
    recipe: Recipe,
    data: Sequence[str],
    bundle: Bundle,
    world: World,
    *,
    start: Path | None,
    workers: int,
    report: Report,
) -> Iterator[Assembled]:
    """All that a run needs, for one of its processes; the threads that read photos end with the context.

    `bundle` is `bundle_for(recipe, ...)` and its files are here; `data` are the places of the photos,
    `start` is what `begin_part` begins with. Features that are worth keeping and not in the cache are
    computed first, by all processes together.
    """
    tower = cache(partial(tower_for, recipe, bundle, str(world.device)))
    photos = open_data(recipe, data, report)
    features = _features(recipe, bundle, photos, world, tower, workers=workers, report=report)
    if features is not None:
        tower.cache_clear()  # what it gives is kept, and its gigabytes are the language model's now
    curriculum = Curriculum(recipe, photos.sources, order_of(recipe, photos))
    with Loader(
        curriculum.visit,
        photos,
        features,
        bundle.vision,
        batch_size=recipe.batch_size,
        rank=world.rank,
        size=world.size,
        workers=workers,
        pinned=world.device.type == "cuda",
    ) as loader:
        report(ModelLoading())
        parts = _Parts(recipe, bundle, world, photos, loader, tower, looks=features is None)
        yield parts.assembled(start, report)


@dataclass(frozen=True)
class _Parts:
    """What a trainer is put together from; `looks`: pictures pass through the tower at every visit."""

    recipe: Recipe
    bundle: Bundle
    world: World
    photos: Data
    loader: Loader
    tower: LoadTower
    looks: bool

    def assembled(self, start: Path | None, report: Report) -> Assembled:
        recipe, bundle, device = self.recipe, self.bundle, str(self.world.device)
        model, tokens = _language_model(recipe, bundle, device, report), load_tokens(bundle)
        language = TorchLanguageModel(model, tokens, context=bundle.language.context, device=device)
        layout = layout_for(recipe, template_named(bundle.template), language.tokenize)
        objective = Objective(model, layout.prefix)
        measured = validation_visits(recipe, self.photos.validation)
        sampled = self._sampled(measured)
        trainer = Trainer(
            recipe,
            self._begun(start, language, model.get_input_embeddings().weight),
            objective,
            layout,
            self.loader,
            validation=lambda: self.loader.validation(measured),
            world=self.world,
            tower=self.tower() if self.looks else None,
            feature_columns=self._feature_columns(),
            threads=torch.get_num_threads(),
            utilisation=utilisation_of(recipe, bundle, self.world),
            answers=None
            if sampled is None
            else Answers(language, layout, question_of(recipe), sampled.keys, sampled.features_BND),
        )
        facts = {
            "the vision tower": tower_facts(recipe, bundle),
            "the language model": language_digest(bundle),
            **self.photos.facts,
        }
        pictures = sampled.pictures if sampled is not None else {}
        return Assembled(
            trainer, facts, self.photos.photos, model, tokens, layout, objective, self.loader, pictures
        )

    def _begun(self, start: Path | None, language: TorchLanguageModel, embeddings_VD: Tensor) -> TrainedPart:
        recipe = self.recipe
        part = begin_part(recipe, self.bundle, start)
        if start is None and recipe.class_name_scale:
            name_classes(
                part.projection,
                class_columns=self.tower().class_columns,
                token_embeddings_VD=embeddings_VD,
                tokenize=language.tokenize,
                scale=recipe.class_name_scale,
            )
        return part

    def _feature_columns(self) -> slice:
        """The columns that dropout drops: all but those that name classes."""
        if not self.recipe.feature_dropout and not any(source.hidden for source in self.recipe.source):
            return slice(0, 0)
        classes = self.tower().class_columns
        return slice(0, classes.start if classes.stop > classes.start else self.tower().width)

    def _sampled(self, measured: Sequence[Visit]) -> _Sampled | None:
        """The first photos that are measured; only the process that writes asks about them."""
        if not self.recipe.sample_photos or self.world.rank != 0:
            return None
        # Of what is given to `validation` this process has every so-manieth; here it is to have all.
        visits = [visit for visit in measured[: self.recipe.sample_photos] for _ in range(self.world.size)]
        batches = [batch for batch in self.loader.validation(visits) if batch.visits]
        if not batches:
            return None
        seen = [visit for batch in batches for visit in batch.visits]
        return _Sampled(
            [visit.key for visit in seen],
            torch.cat([self._seen(batch) for batch in batches]),
            {visit.key: self.photos.validation.read(visit.photo) for visit in seen},
        )

    def _seen(self, batch: Batch) -> Tensor:
        """The features of a batch, on the CPU."""
        if batch.features_BND is not None:
            return batch.features_BND
        assert batch.pixels_BCHW is not None
        return self.tower().encode(batch.pixels_BCHW.to(self.world.device)).cpu().clone()


@dataclass(frozen=True, eq=False)
class _Sampled:
    """The fixed photos that are answered about: keys, features (B, N, D), and the encoded pictures by key."""

    keys: Sequence[str]
    features_BND: Tensor
    pictures: Mapping[str, bytes]


def _features(
    recipe: Recipe,
    bundle: Bundle,
    photos: Data,
    world: World,
    tower: LoadTower,
    *,
    workers: int,
    report: Report,
) -> list[Features] | None:
    """The features of all photos, from the cache; None where it is better to look at each visit."""
    plan = feature_plan(photos, bundle.vision, tower_facts(recipe, bundle), feature_shape(recipe, bundle))
    if not is_worth_keeping(recipe, plan):
        return None
    make_missing_features(plan, tower, report, device=str(world.device), workers=workers)
    found = []
    for one in plan:
        features = cached_features(one)
        if features is None:
            raise DataError(f"The features of '{one.name}' are gone from the cache; run the command again.")
        found.append(features)
    return found


def _language_model(recipe: Recipe, bundle: Bundle, device: str, report: Report) -> Any:
    return load_causal_lm(
        bundle,
        device=device,
        quant=recipe.precision,
        # What is kept in fewer bits is computed in bfloat16 everywhere: float16 would need its scaler.
        dtype="bf16" if recipe.precision in QUANTS else None,
        with_gradients=True,
        notice=lambda sentence: report(Note(sentence)),
    )
