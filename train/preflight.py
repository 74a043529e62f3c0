"""Checks that take seconds before hours of training: do the models fit, is the first batch usable?

Most failures of the original were of this kind: 7B and 13B mixed up, a Vicuna that was never merged,
captions that never reached the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.geometry import size_mismatch
from minigpt4.core.language.tokenizers import Tokens
from minigpt4.core.verify.delta import delta_check
from minigpt4.core.verify.samples import Sample
from minigpt4.train.batches.samples import Batch
from minigpt4.train.data.dataset import first_reasons
from minigpt4.train.errors import TrainingError
from minigpt4.train.events import Note, PhotoSkipped, Report
from minigpt4.train.packing.loss import label_tokens
from minigpt4.train.trainer import Trainer

SAMPLED_ROWS = 64
MOST_PHOTOS = 8
"""Samples of the first batch whose loss is measured: enough to tell language from noise."""

MANY_TRUNCATED = 0.2
"""The fraction of truncated answers above which a model may not learn to stop."""

NEAR_CHANCE = 0.25
"""Nats. A loss this close to ln(vocabulary) is that of a uniform guess."""


@dataclass(frozen=True)
class Finding:
    """One check that failed."""

    state: Literal["warning", "problem"]
    sentence: str


def run_preflight(trainer: Trainer, tokens: Tokens, bundle: Bundle, report: Report) -> None:
    """Report warnings as notes; raise TrainingError for a problem that makes training pointless."""
    findings = list(preflight(trainer, tokens, bundle))
    for finding in sorted(findings, key=lambda one: one.state == "problem"):  # warnings first
        if finding.state == "problem":
            raise TrainingError(finding.sentence)
        report(Note(finding.sentence))


def preflight(trainer: Trainer, tokens: Tokens, bundle: Bundle) -> Iterator[Finding]:
    """Every failed check of the models and the first batch."""
    yield from _fit(trainer, tokens, bundle)
    yield from _weights(trainer, bundle)
    yield from _first_batch(trainer, trainer.loader.batch(0))


def chance_sentence(loss: float, vocabulary: int) -> str:
    """What a loss at ln(vocabulary) means; empty for any other loss."""
    chance = math.log(vocabulary)
    if abs(loss - chance) > NEAR_CHANCE:
        return ""
    return (
        f"The loss is {loss:.2f}, which is ln({vocabulary}) = {chance:.3f}: all tokens are equally "
        "likely. The language model's weights are random, damaged, or a Vicuna delta that was not "
        "merged; `minigpt4 models verify` finds out which."
    )


def _fit(trainer: Trainer, tokens: Tokens, bundle: Bundle) -> Iterator[Finding]:
    projection, model = trainer.adapter.projection, trainer.loss_fn.language_model
    width = model.config.hidden_size
    if projection.outputs != width:
        fault = size_mismatch(projection.outputs, width) or "they do not fit together"
        yield Finding(
            "problem",
            f"The projection outputs vectors of {projection.outputs}, the language model of '{bundle.name}' "
            f"expects {width}: {fault}; choose the --bundle that the projection is for.",
        )
    rows, known = model.get_input_embeddings().weight.shape[0], len(tokens.pieces)
    if rows < known:
        yield Finding(
            "problem",
            f"The tokenizer of '{bundle.name}' has {known} tokens and its language model {rows}; the two are "
            f"not of one model: `minigpt4 models verify {bundle.name}` says which file is wrong.",
        )


def _weights(trainer: Trainer, bundle: Bundle) -> Iterator[Finding]:
    check = delta_check(list(_samples(dict(trainer.loss_fn.language_model.named_parameters()))), bundle.name)
    if check.state != "ok":
        yield Finding(check.state, check.text)


def _samples(parameters: Mapping[str, Tensor]) -> Iterator[Sample]:
    """Rows of every kind of tensor: of the first layer, and of those outside the layers."""
    for name, tensor in parameters.items():
        if not tensor.is_floating_point() or (".layers." in name and ".layers.0." not in name):
            continue
        rows = tensor.detach().reshape(len(tensor) if tensor.ndim > 1 else 1, -1)
        step = max(1, len(rows) // SAMPLED_ROWS)
        yield Sample.of(name, tuple(tensor.shape), rows[::step].float().cpu().numpy())


def _first_batch(trainer: Trainer, batch: Batch) -> Iterator[Finding]:
    if not batch.samples:
        reasons = first_reasons(PhotoSkipped(one.source, one.key, one.reason) for one in batch.skipped)
        yield Finding(
            "problem",
            f"None of the {len(batch.skipped)} photos of the first step can be learnt from; "
            f"check the data with `minigpt4 data inspect`{reasons}.",
        )
        return
    texts = trainer.tokenize(batch.samples)
    answers = [one for continuations in texts for one in continuations]
    if not label_tokens(texts):
        yield Finding(
            "problem",
            "The first step has no token to predict: every caption is empty after truncation; check "
            "'text_tokens' and 'caption_form' of the recipe, and the captions.",
        )
        return
    truncated = sum(one.is_truncated for one in answers) / len(answers)
    if truncated > MANY_TRUNCATED:
        yield Finding(
            "warning",
            f"{truncated:.0%} of the first answers are longer than text_tokens = "
            f"{trainer.recipe.text_tokens} and lose their end, so the "
            "model may not learn to stop; raise it with --set text_tokens=N.",
        )
    yield from _loss(trainer, batch)


def _loss(trainer: Trainer, batch: Batch) -> Iterator[Finding]:
    loss = trainer.loss_of(batch, MOST_PHOTOS)
    if not math.isfinite(loss):
        yield Finding(
            "problem",
            f"The loss of the first photos is {loss}: the language model overflows in "
            f"'{trainer.recipe.precision}', or weights are damaged; try --set precision=bf16 or fp32, "
            "and `minigpt4 models verify`.",
        )
    vocabulary = trainer.loss_fn.language_model.get_input_embeddings().weight.shape[0]
    if sentence := chance_sentence(loss, vocabulary):
        yield Finding("warning", sentence)
