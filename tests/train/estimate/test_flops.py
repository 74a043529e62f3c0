"""The FLOPs of training, compared with the known figures of MiniGPT-4's sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.errors import BundleError
from minigpt4.train.estimate.flops import Arithmetic, Work, arithmetic_of

VIT_G, Q_FORMER = 520.7e9, 12.8e9


def test_encoding_costs_the_flops_of_vit_g_and_q_former() -> None:
    with_qformer = arithmetic_of(load_bundle("minigpt4-vicuna-7b"))
    without = arithmetic_of(load_bundle("minigpt4-llama2-7b"))
    assert without.encoding == pytest.approx(VIT_G, rel=1e-3)
    assert with_qformer.encoding - without.encoding == pytest.approx(Q_FORMER, rel=1e-2)


@pytest.mark.parametrize(("size", "forward", "sample"), [("7b", 13.0e9, 1.71e12), ("13b", 25.4e9, 2.83e12)])
def test_a_stage_1_sample_has_the_known_flops(size: str, forward: float, sample: float) -> None:
    """46 useful tokens: the beginning (shared), 32 image vectors and 13 of the caption."""
    arithmetic = arithmetic_of(load_bundle(f"minigpt4-vicuna-{size}"))
    assert arithmetic.reading / 2 == pytest.approx(forward, rel=5e-3)
    assert arithmetic.of(Work(1, 1, 45, 13)) == pytest.approx(sample, rel=3e-3)


def test_a_cached_photo_is_not_encoded_again() -> None:
    arithmetic = Arithmetic(encoding=100, projecting=10, reading=1, predicting=0.5)
    assert arithmetic.of(Work(2, 2, 4, 2)) - arithmetic.of(Work(2, 0, 4, 2)) == 200


def test_a_trained_q_former_passes_three_times_for_every_sample() -> None:
    bundle = load_bundle("minigpt4-vicuna-7b")
    frozen, trained = arithmetic_of(bundle), arithmetic_of(bundle, trains_qformer=True)
    qformer = frozen.encoding - trained.encoding
    assert qformer == pytest.approx(Q_FORMER, rel=1e-2)
    assert trained.projecting - frozen.projecting == pytest.approx(3 * qformer)


def test_a_language_model_of_unknown_size_is_an_error() -> None:
    bundle = load_bundle("minigpt4-vicuna-7b")
    unknown = replace(bundle, language=replace(bundle.language, geometry=None))
    with pytest.raises(BundleError, match="sizes of the language model"):
        arithmetic_of(unknown)
