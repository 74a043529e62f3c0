"""Checks that need the loaded model: a finite image embedding, and a low loss on plain English.

A language model with wrong weights (random, damaged, an unmerged delta) is no better than a guess among
all V tokens, whose loss is ln V: 10.37 for LLaMA's 32000. The finding names that number, the best known
symptom of a broken MiniGPT-4.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import projection_path
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.language.base import LanguageModel
from minigpt4.core.mtmd.template import template_of
from minigpt4.core.pixels import open_picture
from minigpt4.core.prompt import (
    Assistant,
    ChatForm,
    Message,
    User,
    prompt_pieces,
    template_named,
)
from minigpt4.core.types import PromptPiece, Text
from minigpt4.core.verify.finding import Check, State

SENTENCE = (
    "When the rain stopped, the children ran out into the garden and jumped over the puddles until "
    "their mother called them in for dinner."
)
QUESTION, ANSWER = "What is the capital of France?", "The capital of France is Paris."

GUESSING = 0.9
"""Fraction of ln V from which a loss counts as a guess."""

HIGH = 5.0
"""A loss over this (a perplexity of 148) is more than any intact model has on plain English."""


def deep_checks(bundle: Bundle) -> Iterator[Check]:
    """Load the tower, then the language model, and run each on something easy.

    Raises what loading raises (BundleError, BackendError).
    """
    if bundle.mmproj is not None:
        yield from _pair_checks(bundle)
        return
    yield _picture_check(bundle)
    from minigpt4.core.language.load import load_language_model

    model = load_language_model(EngineOptions(bundle))
    try:
        template = template_named(bundle.template)
        yield sentence_check(model, template)
        yield answer_check(model, template)
    finally:
        model.close()


def _pair_checks(bundle: Bundle) -> Iterator[Check]:
    """`deep_checks` for two GGUF files, whose vision side is opened beside the language model."""
    from minigpt4.core.mtmd.encoder import pair_encoder
    from minigpt4.core.mtmd.language import LlamaCppWithImages

    options = EngineOptions(bundle)
    with LlamaCppWithImages.load(options) as model:
        tokens_ND, _ = pair_encoder(options, model)(open_picture(Image.linear_gradient("L").convert("RGB")))
        yield _spread_check(tokens_ND)
        template = template_of(bundle, model)
        yield sentence_check(model, template)
        yield answer_check(model, template)


def sentence_check(model: LanguageModel, template: ChatForm) -> Check:
    """The perplexity of a plain English sentence."""
    tokens = model.tokenize(*template.begin, Text(SENTENCE))
    loss, vocabulary = mean_loss(model, tokens, start=1)
    return _loss_check("perplexity", loss, vocabulary, f"an English sentence ({len(tokens) - 1} tokens)")


def answer_check(model: LanguageModel, template: ChatForm) -> Check:
    """The loss on a correct answer in the bundle's own chat form, without a picture."""

    def pieces(*conversation: Message) -> list[PromptPiece]:
        return prompt_pieces(template.segments(conversation), model.tokenize)

    prompt, whole = pieces(User(QUESTION)), pieces(User(QUESTION), Assistant(ANSWER))
    # The prompt ends in a space, which the tokenizer joins to the answer's first word.
    start = next(
        (place for place, (one, other) in enumerate(zip(prompt, whole, strict=False)) if one != other),
        min(len(prompt), len(whole)),
    )
    loss, vocabulary = mean_loss(model, whole, start=start)
    return _loss_check("loss", loss, vocabulary, "an answer without a picture")


def mean_loss(model: LanguageModel, pieces: Sequence[PromptPiece], *, start: int) -> tuple[float, int]:
    """The mean of -ln p over the tokens from `start` on, in nats, and V; NaN if a logit is NaN."""
    losses: list[float] = []
    vocabulary = 0
    for place in range(start, len(pieces)):
        logits_V = model.logits(pieces[:place]).astype(np.float64)
        token = pieces[place]
        assert isinstance(token, int)
        vocabulary = len(logits_V)
        largest = logits_V.max()
        losses.append(float(largest + np.log(np.exp(logits_V - largest).sum()) - logits_V[token]))
    return sum(losses) / len(losses), vocabulary


def _loss_check(subject: str, loss: float, vocabulary: int, what: str) -> Check:
    guess = math.log(vocabulary)
    perplexity = math.exp(min(loss, 100))
    value: float | None = perplexity if subject == "perplexity" else loss
    found = f"The loss on {what} is {loss:.2f}, a perplexity of {perplexity:.4g}"
    state: State = "ok"
    if not math.isfinite(loss):
        state, value = "problem", None
        found = f"The logits on {what} are not finite: weights or arithmetic overflowed"
    elif loss >= GUESSING * guess:
        state = "problem"
        found += (
            f": no better than a guess among {vocabulary} tokens (ln {vocabulary} = {guess:.1f}). The "
            "language model's weights are random, damaged or an unmerged delta"
        )
    elif loss > HIGH:
        state = "warning"
        found += ", more than an intact model has"
    if state == "ok":
        return Check(subject, state, f"{found} (a guess: ln {vocabulary} = {guess:.1f}).", value)
    advice = "fetch the language model again, or take another release of it"
    return Check(subject, state, f"{found}; {advice}.", value)


def _picture_check(bundle: Bundle) -> Check:
    from minigpt4.core.vision.encoder import ImageEncoder

    encoder = ImageEncoder(bundle, projection_path(bundle))
    image_ND = encoder(open_picture(Image.linear_gradient("L").convert("RGB")))
    return _spread_check(image_ND)


def _spread_check(image_ND: NDArray[np.float32]) -> Check:
    if not np.isfinite(image_ND).all():
        return Check("picture", "problem", "The picture's embedding has values that are not finite.")
    spread = float(image_ND.std())
    return Check("picture", "ok", f"A test picture becomes {image_ND.shape[0]} vectors, spread {spread:.3g}.")
