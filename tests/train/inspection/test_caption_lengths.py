"""Caption lengths: in the recipe's form with the end token, or in words without a vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.download.fetch import path_of
from minigpt4.core.errors import UsageError
from minigpt4.core.language.tokenizers import SentencePieceTokens
from minigpt4.core.prompt import Text
from minigpt4.train.inspection.caption_lengths import caption_lengths
from minigpt4.train.recipe import Recipe
from minigpt4.train.recipe_file import read_recipe, recipe_path

CAPTION = "A Dog: runs (quickly) over there."


@pytest.fixture
def stage1() -> Recipe:
    return replace(read_recipe(recipe_path("stage1")), text_tokens=12)


@pytest.fixture
def bundle(tmp_path: Path, write_llama: Callable[..., Path]) -> Bundle:
    """Vicuna's bundle with a small vocabulary in a folder of the user's."""
    vicuna = load_bundle("minigpt4-vicuna-7b")
    folder = write_llama(tmp_path / "llama", hollow=True)
    return replace(vicuna, language=replace(vicuna.language, files=(), folder=folder))


def test_the_length_is_that_of_the_training_target_with_its_end(stage1: Recipe, bundle: Bundle) -> None:
    assert bundle.language.folder is not None
    tokens = SentencePieceTokens(bundle.language.folder / "tokenizer.model")
    lengths = caption_lengths(stage1, bundle)
    learnt = tokens.tokenize(Text("a dog runs quickly over there"), Text("\n", control=True))
    assert lengths.unit == "tokens"
    assert lengths.of([CAPTION]) == [len(learnt)]


def test_a_caption_at_the_limit_keeps_its_end(stage1: Recipe, bundle: Bundle) -> None:
    lengths = caption_lengths(stage1, bundle)
    assert (lengths.is_cut(12), lengths.is_cut(13)) == (False, True)
    unlimited = caption_lengths(replace(stage1, text_tokens=0), bundle)
    assert unlimited.is_cut(10**6) is False


def test_captions_that_are_empty_in_the_form_have_no_length(stage1: Recipe, bundle: Bundle) -> None:
    assert len(caption_lengths(stage1, bundle).of(["...", CAPTION])) == 1


def test_words_are_counted_without_the_vocabulary(stage1: Recipe) -> None:
    lengths = caption_lengths(stage1, load_bundle("minigpt4-vicuna-7b"))
    assert lengths.unit == "words"
    assert lengths.of([CAPTION]) == [6]
    assert lengths.is_cut(99) is None


def test_the_vocabulary_alone_is_enough(stage1: Recipe, bundle: Bundle, tmp_path: Path) -> None:
    vicuna = load_bundle("minigpt4-vicuna-7b")
    file = next(file for file in vicuna.language.files if file.name == "tokenizer.model")
    small = replace(file, bytes=None, sha256=None)
    vicuna = replace(vicuna, language=replace(vicuna.language, files=(small,)))
    assert bundle.language.folder is not None
    path = path_of(small, vicuna)
    path.parent.mkdir(parents=True)
    path.write_bytes((bundle.language.folder / "tokenizer.model").read_bytes())
    assert caption_lengths(stage1, vicuna).of([CAPTION]) == caption_lengths(stage1, bundle).of([CAPTION])


def test_a_recipe_that_does_not_fit_the_bundle_is_refused(bundle: Bundle) -> None:
    recipe = read_recipe(recipe_path("stage2"))
    with pytest.raises(UsageError, match="has no such form"):
        caption_lengths(recipe, replace(bundle, template="smollm2"))
