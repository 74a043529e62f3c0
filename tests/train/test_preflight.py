"""Checks before training: models that do not fit together, and batches without anything to learn."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.train.batches.loader import Loader
from minigpt4.train.batches.samples import Batch, Skipped
from minigpt4.train.errors import TrainingError
from minigpt4.train.events import Event, Note
from minigpt4.train.packing.sequence import Continuation
from minigpt4.train.preflight import chance_sentence, preflight, run_preflight
from minigpt4.train.trainer import Trainer


@dataclass
class OneBatch:
    """The same batch at every step."""

    only: Batch

    def batch(self, step: int) -> Batch:
        return self.only


def tokens(count: int = 131) -> Any:
    """A tokenizer with so many tokens."""
    return SimpleNamespace(pieces=[b""] * count)


@pytest.fixture
def bundle() -> Bundle:
    return load_bundle("mini")


@pytest.fixture
def sound(tiny_trainer: Callable[..., Trainer]) -> Trainer:
    return tiny_trainer()


def findings(trainer: Trainer, bundle: Bundle, vocabulary: int = 131) -> list[tuple[str, str]]:
    return [(one.state, one.sentence) for one in preflight(trainer, tokens(vocabulary), bundle)]


def test_a_valid_run_has_no_finding(sound: Trainer, bundle: Bundle) -> None:
    assert [sentence for state, sentence in findings(sound, bundle) if state == "problem"] == []


def test_7b_and_13b_mixed_up_is_a_problem(
    sound: Trainer, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound.loss_fn.language_model.config, "hidden_size", 5120)
    monkeypatch.setattr(sound.adapter.projection.linear, "out_features", 4096)
    (state, sentence) = findings(sound, bundle)[0]
    assert state == "problem"
    assert "this projection is for the 7B model and the bundle has the 13B model" in sentence


def test_a_tokenizer_of_another_model_is_a_problem(sound: Trainer, bundle: Bundle) -> None:
    (state, sentence) = findings(sound, bundle, 500)[0]
    assert state == "problem"
    assert "has 500 tokens and its language model 131" in sentence


def test_an_unmerged_delta_is_detected(sound: Trainer, bundle: Bundle) -> None:
    with torch.no_grad():
        for parameter in sound.loss_fn.language_model.parameters():
            parameter.mul_(1e-4)
    assert any("Vicuna delta" in sentence for _, sentence in findings(sound, bundle))


def test_a_first_step_without_a_photo_is_a_problem_with_reasons(sound: Trainer, bundle: Bundle) -> None:
    empty = Batch((), skipped=(Skipped("mine", "a", "broken JPEG", 0), Skipped("mine", "b", "no caption", 1)))
    sound.loader = cast(Loader, OneBatch(empty))
    (state, sentence) = findings(sound, bundle)[-1]
    assert state == "problem"
    assert "None of the 2 photos of the first step can be learnt from" in sentence
    assert sentence.endswith("; of 'a': broken JPEG; of 'b': no caption.")


def test_captions_that_never_reach_the_loss_are_a_problem(
    sound: Trainer, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sound.layout, "tokenize_example", lambda _question, _answer: Continuation((1,), ()))
    (state, sentence) = findings(sound, bundle)[-1]
    assert state == "problem"
    assert "no token to predict" in sentence


def test_many_truncated_answers_are_a_warning(
    sound: Trainer, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = sound.layout.tokenize_example

    def cut(question: str, answer: str) -> Continuation:
        return replace(whole(question, answer), is_truncated=True)

    monkeypatch.setattr(sound.layout, "tokenize_example", cut)
    assert any(
        state == "warning" and "100% of the first answers are longer" in sentence
        for state, sentence in findings(sound, bundle)
    )


def test_a_nan_loss_is_a_problem(sound: Trainer, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "loss_of", lambda _batch, _most: math.nan)
    assert any(
        state == "problem" and "The loss of the first photos is nan" in sentence
        for state, sentence in findings(sound, bundle)
    )


def test_a_loss_at_ln_of_the_vocabulary_is_explained() -> None:
    assert "ln(32000) = 10.373" in chance_sentence(10.375, 32_000)
    assert "not merged" in chance_sentence(10.375, 32_000)
    assert chance_sentence(4.1, 32_000) == ""


def test_warnings_are_reported_and_problems_end_the_run(
    sound: Trainer, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    monkeypatch.setattr(sound, "loss_of", lambda _batch, _most: math.log(131))
    run_preflight(sound, tokens(), bundle, events.append)
    assert any(isinstance(event, Note) and "ln(131)" in event.sentence for event in events)
    monkeypatch.setattr(sound, "loss_of", lambda _batch, _most: math.inf)
    with pytest.raises(TrainingError, match="The loss of the first photos is inf"):
        run_preflight(sound, tokens(), bundle, events.append)
