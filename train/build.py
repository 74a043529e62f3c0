"""From a recipe and its photos to a trainer that is ready for its first step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from minigpt4.core.vision.fingerprint import detector_fingerprint
from minigpt4.core.vision.objects import BOX_COLUMNS
from minigpt4.core.vision.tower import detector_of
from minigpt4.core.weights.bnb_quantize import QUANTS
from minigpt4.core.weights.locate import language_digest
from minigpt4.train.adapter import (
    Adapter,
    feature_shape,
    features_fingerprint,
    initial_adapter,
    name_classes,
    name_objects,
    tower_for,
)
from minigpt4.train.batches.loader import Loader
from minigpt4.train.batches.run_data import RunData, feature_plan, is_worth_caching
from minigpt4.train.batches.samples import (
    NO_COLUMNS,
    Batch,
    FeatureColumns,
    Sample,
    TrainingSamples,
    validation_samples,
)
from minigpt4.train.distributed.process_group import ProcessGroup
from minigpt4.train.estimate.estimate import utilisation_of
from minigpt4.train.events import ModelLoading, Note, Report
from minigpt4.train.features.cache import Features, FeatureSet, cached_features
from minigpt4.train.features.compute import compute_missing_features
from minigpt4.train.features.detections import BOXES, CachedDetections, DetectionTower
from minigpt4.train.packing.loss import LanguageModelLoss
from minigpt4.train.packing.sequence import Layout, layout_for
from minigpt4.train.precision import precision_on
from minigpt4.train.recipe import Recipe
from minigpt4.train.sample_answers import SampleAnswers, question_of
from minigpt4.train.trainer import Trainer

LoadTower = Callable[[], VisionTower]


@contextmanager
def build(
    recipe: Recipe,
    data: RunData,
    bundle: Bundle,
    process_group: ProcessGroup,
    *,
    start: Path | None,
    workers: int,
    report: Report,
) -> Iterator[tuple[Trainer, Tokens]]:
    """The trainer of one process, and the language model's tokenizer; reader threads end with the context.

    `bundle` is `bundle_for(recipe, ...)` with its files downloaded, `data` is `open_data(recipe, ...)`,
    `start` is where `initial_adapter` starts. Missing features that are worth caching are computed first,
    by all processes together.
    """
    device = str(process_group.device)
    load_tower = cache(partial(tower_for, recipe, bundle, device))
    detections = _detections(recipe, bundle, data, device, workers=workers, report=report)
    features = _features(recipe, bundle, data, device, load_tower, workers=workers, report=report)
    if features is not None:
        load_tower.cache_clear()  # its features are cached: free its memory for the language model
    samples = _samples(recipe, data, detections, report)
    with Loader(
        samples.sample,
        data,
        features,
        bundle.vision,
        batch_size=recipe.batch_size,
        rank=process_group.rank,
        world_size=process_group.world_size,
        workers=workers,
        pinned=process_group.device.type == "cuda",
    ) as loader:
        report(ModelLoading())
        model, tokens = _language_model(recipe, bundle, device, report), load_tokens(bundle)
        language = TorchLanguageModel(model, tokens, context=bundle.language.context, device=device)
        layout = layout_for(recipe, template_named(bundle.template), language.tokenize)
        validation = validation_samples(recipe, data.validation, detections)
        trainer = Trainer(
            recipe,
            _adapter(recipe, bundle, start, language, model.get_input_embeddings().weight, load_tower),
            LanguageModelLoss(model, layout.prefix),
            layout,
            loader,
            validation=lambda: loader.validation(validation),
            process_group=process_group,
            tower=load_tower() if features is None else None,
            feature_columns=_feature_columns(recipe, load_tower),
            threads=torch.get_num_threads(),
            utilisation=utilisation_of(recipe, bundle, process_group.world_size),
            sample_answers=_sample_answers(
                recipe, data, loader, validation, language, layout, load_tower, process_group
            ),
        )
        yield trainer, tokens


def run_fingerprints(recipe: Recipe, bundle: Bundle, data: RunData) -> Mapping[str, str]:
    """What must stay the same, besides the recipe, for a run to resume bit-exactly, under readable names."""
    return {
        "the vision tower": features_fingerprint(recipe, bundle),
        "the language model": language_digest(bundle),
        **data.fingerprints,
    }


def _features(
    recipe: Recipe,
    bundle: Bundle,
    data: RunData,
    device: str,
    load_tower: LoadTower,
    *,
    workers: int,
    report: Report,
) -> list[Features] | None:
    """The cached features of all photos; None if encoding the photo of every sample is cheaper."""
    plan = feature_plan(
        data, bundle.vision, features_fingerprint(recipe, bundle), feature_shape(recipe, bundle)
    )
    if not is_worth_caching(recipe, plan):
        return None
    return _computed(plan, load_tower, device, workers=workers, report=report)


def _detections(
    recipe: Recipe, bundle: Bundle, data: RunData, device: str, *, workers: int, report: Report
) -> CachedDetections | None:
    """What the bundle's detector finds in all photos, if samples are made from it."""
    spec = bundle.objects
    if spec is None or not recipe.asks_about_objects:
        return None
    plan = feature_plan(
        data, bundle.vision, detector_fingerprint(spec, bundle), (BOXES, BOX_COLUMNS), kind="objects"
    )

    def load() -> DetectionTower:
        return DetectionTower(detector_of(bundle, spec, device), bundle.vision)

    found = _computed(plan, load, device, workers=workers, report=report)
    return CachedDetections([photos for photos, _ in data.photo_sets], found)


def _samples(
    recipe: Recipe, data: RunData, detections: CachedDetections | None, report: Report
) -> TrainingSamples:
    """The samples to learn from; reports the sources without known objects."""
    samples = TrainingSamples(recipe, data.sources, detections)
    if without := samples.sources_without_objects:
        names = ", ".join(f"'{name}'" for name in without)
        report(
            Note(
                f"No objects are known in the photos of {names}, so no questions are made about them; "
                "give data with 'objects' in KEY.json, or train a bundle with a detector."
            )
        )
    return samples


def _computed(
    plan: Sequence[FeatureSet], load: Callable[[], VisionTower], device: str, *, workers: int, report: Report
) -> list[Features]:
    """The planned features, from the cache; missing ones are computed first."""
    compute_missing_features(plan, load, report, device=device, workers=workers)
    found = []
    for wanted in plan:
        features = cached_features(wanted)
        if features is None:
            raise DataError(
                f"The features of '{wanted.name}' are gone from the cache; run the command again."
            )
        found.append(features)
    return found


def _language_model(recipe: Recipe, bundle: Bundle, device: str, report: Report) -> Any:
    model = load_causal_lm(
        bundle,
        device=device,
        quant=recipe.precision,
        # Quantized weights are computed in bfloat16 everywhere: float16 would need the gradient scaler.
        dtype="bf16" if recipe.precision in QUANTS else None,
        with_gradients=True,
        notice=lambda sentence: report(Note(sentence)),
    )
    float32_bytes = sum(weight.numel() for weight in model.parameters()) * torch.float32.itemsize
    if precision_on(device, recipe.precision, float32_bytes) != recipe.precision:
        report(Note("bfloat16 is slow on this processor: the language model computes in float32."))
        model = model.float()
    return model


def _adapter(
    recipe: Recipe,
    bundle: Bundle,
    start: Path | None,
    language: TorchLanguageModel,
    token_embeddings_VD: Tensor,
    load_tower: LoadTower,
) -> Adapter:
    adapter = initial_adapter(recipe, bundle, start)
    projection = adapter.projection
    if start is None and recipe.class_name_scale:
        name_classes(
            projection,
            class_columns=load_tower().class_columns,
            token_embeddings_VD=token_embeddings_VD,
            tokenize=language.tokenize,
            scale=recipe.class_name_scale,
        )
    if bundle.objects is None:
        return adapter
    columns = load_tower().object_columns
    if start is None or not projection.linear.weight[:, columns].any():
        name_objects(
            projection,
            load_tower(),
            token_embeddings_VD=token_embeddings_VD,
            tokenize=language.tokenize,
            soft_prompt=recipe.soft_prompt,
        )
    if recipe.trained_columns != "all":
        adapter.train_only(columns if recipe.trained_columns == "objects" else slice(columns.start))
    return adapter


def _feature_columns(recipe: Recipe, load_tower: LoadTower) -> FeatureColumns:
    """The columns that the recipe changes; dropout spares class probabilities and object vectors."""
    if not recipe.feature_dropout and not any(one.hidden or one.renamed for one in recipe.source):
        return NO_COLUMNS
    tower = load_tower()
    classes = tower.class_columns
    own = tower.object_columns.start or tower.width
    return FeatureColumns(
        features=slice(0, classes.start if classes.stop > classes.start else own),
        names=tower.object_names,
        counts=tower.object_counts,
    )


def _sample_answers(
    recipe: Recipe,
    data: RunData,
    loader: Loader,
    validation: Sequence[Sample],
    language: TorchLanguageModel,
    layout: Layout,
    load_tower: LoadTower,
    process_group: ProcessGroup,
) -> SampleAnswers | None:
    """Answers about the first validation photos; only rank 0 generates them."""
    if not recipe.sample_photos or process_group.rank != 0:
        return None
    # Every process loads each world_size-th validation sample; rank 0 needs all of these.
    samples = [
        sample for sample in validation[: recipe.sample_photos] for _ in range(process_group.world_size)
    ]
    batches = [batch for batch in loader.validation(samples) if batch.samples]
    if not batches:
        return None

    def encoded(batch: Batch) -> Tensor:
        if batch.features_BND is not None:
            return batch.features_BND
        assert batch.pixels_BCHW is not None
        return load_tower().encode(batch.pixels_BCHW.to(process_group.device)).cpu().clone()

    loaded = [sample for batch in batches for sample in batch.samples]
    return SampleAnswers(
        language,
        layout,
        question_of(recipe),
        [sample.key for sample in loaded],
        torch.cat([encoded(batch) for batch in batches]),
        {sample.key: data.validation.read(sample.photo) for sample in loaded},
    )
