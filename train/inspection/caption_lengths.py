"""Caption lengths in a recipe's form, in tokens, or in words if the vocabulary has not been downloaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import is_present, path_of
from minigpt4.core.prompt import template_named
from minigpt4.core.types import Tokenize
from minigpt4.core.weights.locate import hf_folder
from minigpt4.train.batches.examples import in_form
from minigpt4.train.packing.sequence import layout_for
from minigpt4.train.recipe import CaptionForm, Recipe

TOKENIZER_MODEL = "tokenizer.model"

LARGE_GGUF = 1 << 30
"""Bytes. Loading the vocabulary of a GGUF loads all of its weights, which takes minutes above this size."""


@dataclass(frozen=True)
class CaptionLengths:
    """Measures captions. `limit` is the most tokens of a caption, end included, to train on; 0: no limit.

    `unit` is the unit of `of`: tokens with the end, or words, which are not compared to the limit.
    """

    form: CaptionForm
    unit: Literal["tokens", "words"]
    limit: int
    _measure: Callable[[str], int]

    def of(self, captions: Sequence[str]) -> list[int]:
        """The length of each caption in the recipe's form, without empty ones."""
        return [self._measure(caption) for caption in in_form(tuple(captions), self.form)]

    def is_cut(self, length: int) -> bool | None:
        """Whether a caption of that length loses its end; None if the length is in words."""
        if not self.limit:
            return False
        return length > self.limit if self.unit == "tokens" else None


def caption_lengths(recipe: Recipe, bundle: Bundle) -> CaptionLengths:
    """Lengths in the recipe's form with the bundle; only its vocabulary is read.

    Raises UsageError if the recipe's prompt does not fit the bundle's template.
    """
    tokenize = _tokenize(bundle)
    if tokenize is None:
        return CaptionLengths(
            recipe.caption_form, "words", recipe.text_tokens, lambda text: len(text.split())
        )
    learnt = layout_for(recipe, template_named(bundle.template), tokenize).answer_texts

    def tokens(caption: str) -> int:
        return len(tokenize(*learnt(caption)))

    return CaptionLengths(recipe.caption_form, "tokens", recipe.text_tokens, tokens)


def _tokenize(bundle: Bundle) -> Tokenize | None:
    """The bundle's own tokenizer, or None if its vocabulary has not been downloaded."""
    vocabulary = _sentencepiece_file(bundle)
    if vocabulary is not None:
        from minigpt4.core.language.tokenizers import SentencePieceTokens

        return SentencePieceTokens(vocabulary).tokenize
    gguf = bundle.language.gguf
    if gguf is None or not is_present(gguf, bundle) or path_of(gguf, bundle).stat().st_size > LARGE_GGUF:
        return None
    from minigpt4.core.language.hf_load import load_tokens

    return load_tokens(bundle).tokenize


def _sentencepiece_file(bundle: Bundle) -> Path | None:
    if bundle.language.folder is not None:
        folder = hf_folder(bundle)
        return folder / TOKENIZER_MODEL if folder else None
    # Found without the weights: it has half a megabyte, they have gigabytes.
    file = next((file for file in bundle.language.files if file.name == TOKENIZER_MODEL), None)
    return path_of(file, bundle) if file is not None and is_present(file, bundle) else None
