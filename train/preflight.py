"""What is looked at in seconds before hours of training: do the parts fit, and does the first batch teach?

Most trouble with the original was of this kind: 7B and 13B mixed up, a Vicuna that was never merged,
captions that never reached the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.bundles.geometry import confused_sizes
from minigpt4.core.verify.delta import delta_check
from minigpt4.core.verify.samples import Sample
from minigpt4.train.batches.samples import Batch
from minigpt4.train.build import Assembled
from minigpt4.train.errors import TrainingError
from minigpt4.train.events import Note, Report
from minigpt4.train.packing.loss import label_tokens

SAMPLED_ROWS = 64
MOST_PHOTOS = 8
"""Photos of the first batch whose loss is measured: enough to tell words from noise."""

MANY_CUT = 0.2
"""The share of answers that lose their end above which a model may not learn to stop."""

NEAR_CHANCE = 0.25
"""Nats. A loss this near to ln(vocabulary) is that of guessing every word alike."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at and is not as it should be."""

    state: Literal["warning", "problem"]
    sentence: str


def require_sound(made: Assembled, bundle: Bundle, report: Report) -> None:
    """Tell `report` what is worth a warning; raise TrainingError for what makes training pointless."""
    findings = list(preflight(made, bundle))
    for finding in findings:
        if finding.state == "warning":
            report(Note(finding.sentence))
    for finding in findings:
        if finding.state == "problem":
            raise TrainingError(finding.sentence)


def preflight(made: Assembled, bundle: Bundle) -> Iterator[Finding]:
    """Everything that is wrong with the parts and the first batch."""
    yield from _fit(made, bundle)
    yield from _weights(made, bundle)
    batch = made.batches.batch(0)
    yield from _first_batch(made, batch)


def chance_sentence(loss: float, vocabulary: int) -> str:
    """What a loss that sits at ln(vocabulary) means; nothing for any other loss."""
    chance = math.log(vocabulary)
    if abs(loss - chance) > NEAR_CHANCE:
        return ""
    return (
        f"The loss is {loss:.2f}, which is ln({vocabulary}) = {chance:.3f}: every word is guessed alike, so "
        "the language model says nothing. Its weights are random, damaged, or a Vicuna delta that was not "
        "merged; `minigpt4 models verify` tells which."
    )


def _fit(made: Assembled, bundle: Bundle) -> Iterator[Finding]:
    part, model = made.trainer.part.projection, made.language_model
    width = model.config.hidden_size
    if part.outputs != width:
        fault = confused_sizes(part.outputs, width) or "they do not fit together"
        yield Finding(
            "problem",
            f"The projection gives vectors of {part.outputs} and the language model of '{bundle.name}' reads "
            f"{width}: {fault}; choose the --bundle that the projection is for.",
        )
    rows, known = model.get_input_embeddings().weight.shape[0], len(made.tokens.pieces)
    if rows < known:
        yield Finding(
            "problem",
            f"The tokenizer of '{bundle.name}' has {known} tokens and its language model {rows}; the two are "
            f"not of one model: `minigpt4 models verify {bundle.name}` tells which file is wrong.",
        )


def _weights(made: Assembled, bundle: Bundle) -> Iterator[Finding]:
    check = delta_check(list(_samples(dict(made.language_model.named_parameters()))), bundle.name)
    if check.state != "ok":
        yield Finding(check.state, check.text)


def _samples(parameters: Mapping[str, Tensor]) -> Iterator[Sample]:
    """Rows of every kind of tensor, from the first layer and what stands around the layers."""
    for name, tensor in parameters.items():
        if not tensor.is_floating_point() or (".layers." in name and ".layers.0." not in name):
            continue
        rows = tensor.detach().reshape(len(tensor) if tensor.ndim > 1 else 1, -1)
        step = max(1, len(rows) // SAMPLED_ROWS)
        yield Sample.of(name, tuple(tensor.shape), rows[::step].float().cpu().numpy())


def _first_batch(made: Assembled, batch: Batch) -> Iterator[Finding]:
    if not batch.visits:
        reasons = sorted({one.reason for one in batch.left_out})
        yield Finding(
            "problem",
            f"None of the {len(batch.left_out)} photos of the first step can be learnt from "
            f"({'; '.join(reasons[:3])}); look at the data with `minigpt4 data inspect`.",
        )
        return
    rows = [[made.layout.branch(asked, said) for asked, said in visit.asked] for visit in batch.visits]
    answers = [branch for row in rows for branch in row]
    if not label_tokens(rows):
        yield Finding(
            "problem",
            "The first step has no token to predict: every caption is empty once it is cut; look at "
            "'text_tokens' and 'caption_form' of the recipe, and at the captions.",
        )
        return
    cut = sum(branch.is_cut for branch in answers) / len(answers)
    if cut > MANY_CUT:
        yield Finding(
            "warning",
            f"{cut:.0%} of the first answers are longer than text_tokens = {made.trainer.recipe.text_tokens} "
            "and lose their end, so the model may not learn to stop; raise it with --set text_tokens=N.",
        )
    yield from _loss(made, batch)


def _loss(made: Assembled, batch: Batch) -> Iterator[Finding]:
    loss = made.trainer.loss_of(batch, MOST_PHOTOS)
    if not math.isfinite(loss):
        yield Finding(
            "problem",
            f"The loss of the first photos is {loss}: the language model overflows in "
            f"'{made.trainer.recipe.precision}', or weights are damaged; try --set precision=bf16 or fp32, "
            "and `minigpt4 models verify`.",
        )
    vocabulary = made.language_model.get_input_embeddings().weight.shape[0]
    if sentence := chance_sentence(loss, vocabulary):
        yield Finding("warning", sentence)
