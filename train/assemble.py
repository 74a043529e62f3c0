"""From a recipe and a data folder to a trainer that can take its first step."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minigpt4.core.bundle import Bundle
from minigpt4.core.errors import BundleError, DataError
from minigpt4.core.language.causal_lm import load_causal_lm, load_tokenizer, load_tokens
from minigpt4.core.language.torch import TorchLanguageModel
from minigpt4.core.language.weights import language_digest
from minigpt4.core.projection import Projection
from minigpt4.core.prompt import template_named
from minigpt4.core.vision.fingerprint import tower_fingerprint
from minigpt4.core.vision.tower import load_tower
from minigpt4.train.data import SourceData, photos_of, source_shards
from minigpt4.train.events import FeaturesMade, FeaturesMissing, ModelLoading, PhotoLeftOut, Report
from minigpt4.train.features import Features, FeatureSet, cached_features, compute_features, feature_set
from minigpt4.train.initialise import initialise
from minigpt4.train.loop import Lessons, Trainer
from minigpt4.train.objective import ChatLayout, Objective
from minigpt4.train.recipe import Recipe, SourceKind, recipe_toml


@dataclass(frozen=True)
class FeatureSets:
    """The features that a recipe needs: one set a source (None where its weight is 0), and validation's."""

    sources: tuple[FeatureSet | None, ...]
    validation: FeatureSet

    @property
    def all(self) -> list[FeatureSet]:
        """Those that are needed, each once."""
        needed = [*self.sources, self.validation]
        return list({one.fingerprint: one for one in needed if one is not None}.values())


def feature_sets(recipe: Recipe, data: Path, bundle: Bundle) -> FeatureSets:
    """Which features the recipe needs; raises DataError naming a folder that is missing."""
    return FeatureSets(
        sources=tuple(
            feature_set(source.name, source_shards(data, source.name), source.views, bundle)
            if source.weight
            else None
            for source in recipe.source
        ),
        validation=feature_set(
            recipe.validation.name, source_shards(data, recipe.validation.name), 1, bundle
        ),
    )


def make_missing_features(sets: FeatureSets, bundle: Bundle, report: Report) -> None:
    """Compute what the cache lacks, its size told first."""
    missing = [one for one in sets.all if cached_features(one) is None]
    if not missing:
        return
    total = sum(one.photos * one.views for one in missing)
    report(
        FeaturesMissing(
            photos=sum(one.photos for one in missing), views=total, bytes=sum(one.size for one in missing)
        )
    )
    tower = load_tower(bundle)
    found = (tower.tokens, tower.width)
    wanted = (bundle.projection.image_tokens, bundle.projection.inputs)
    if found != wanted:
        raise BundleError(
            f"The bundle '{bundle.name}' does not fit together: its vision tower gives (N, D) = {found} and "
            f"its projection reads {wanted}; correct `image_tokens` or `inputs` in its manifest."
        )
    done = 0
    for one in missing:
        name = one.name

        def advance(views: int) -> None:
            nonlocal done
            done += views
            report(FeaturesMade(done, total))

        def skipped(key: str, reason: str, name: str = name) -> None:
            report(PhotoLeftOut(name, key, reason))

        compute_features(one, tower, advance=advance, skipped=skipped)


def read_lessons(recipe: Recipe, sets: FeatureSets) -> Lessons:
    """The features of `sets`, which must be in the cache, beside what is known of their photos."""
    kinds = [source.kind for source in recipe.source]

    def data_of(one: FeatureSet | None, kind: SourceKind) -> SourceData:
        if one is None:
            return SourceData([], Features((), np.zeros((0, 1, 1, 1), np.float16)))
        features = cached_features(one)
        if features is None:
            raise DataError(f"The features of '{one.name}' are gone from the cache; run the command again.")
        return SourceData(photos_of(one.shards, kind, features.keys), features)

    return Lessons(
        sources=[data_of(one, kind) for one, kind in zip(sets.sources, kinds, strict=True)],
        validation=data_of(sets.validation, recipe.validation.kind),
    )


def run_facts(recipe: Recipe, sets: FeatureSets, bundle: Bundle) -> dict[str, str]:
    """What must be the same for a run to go on exactly, under the names that a person knows."""
    facts = {
        "the recipe": hashlib.sha256(recipe_toml(recipe).encode()).hexdigest(),
        "the vision tower": tower_fingerprint(bundle),
        "the language model": language_digest(bundle),
    }
    facts |= {f"the data of '{one.name}'": one.fingerprint for one in sets.all}
    return facts


def assemble(
    recipe: Recipe,
    data: Path,
    bundle: Bundle,
    *,
    initial: Projection | None,
    threads: int = 1,
    report: Report,
) -> tuple[Trainer, Mapping[str, object]]:
    """The trainer, and the facts for its checkpoints; missing features are computed first.

    `initial` is the projection that training starts from; None starts from random weights. `threads`
    is how many parts of a step are computed at a time.
    """
    sets = feature_sets(recipe, data, bundle)
    make_missing_features(sets, bundle, report)
    lessons = read_lessons(recipe, sets)
    report(ModelLoading())
    trainer = _trainer(recipe, bundle, lessons, initial, threads)
    return trainer, run_facts(recipe, sets, bundle)


def _trainer(
    recipe: Recipe, bundle: Bundle, lessons: Lessons, start: Projection | None, threads: int
) -> Trainer:
    language_model = load_causal_lm(bundle, dtype="bf16", with_gradients=True)
    tokenizer = load_tokenizer(bundle)
    class_columns = load_tower(bundle).class_columns
    if start is None:
        spec = bundle.projection
        start = Projection(spec.inputs, spec.outputs, spec.layers)
        initialise(
            start,
            class_columns=class_columns,
            token_embeddings_VD=language_model.get_input_embeddings().weight,
            tokenizer=tokenizer,
            noise=recipe.initial_std,
            class_name_scale=recipe.class_name_scale,
            seed=recipe.seed,
        )
    reader = TorchLanguageModel(language_model, load_tokens(bundle), context=bundle.language.context)
    layout = ChatLayout(template_named(bundle.template), reader.tokenize)
    objective = Objective(language_model, layout.prefix)
    features = slice(0, class_columns.start)
    return Trainer(recipe, start, objective, layout, lessons, feature_columns=features, threads=threads)
