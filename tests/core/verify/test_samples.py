"""Samples of weights: small tensors whole, large ones in rows, GGUF dequantised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from minigpt4.core.verify import samples
from minigpt4.core.verify.samples import Sample, gguf_samples, tensor_samples, weights_check
from minigpt4.core.weights.gguf.from_hf import convert
from minigpt4.core.weights.gguf.header import read_header


def test_a_small_tensor_is_read_to_its_last_value() -> None:
    weight = torch.ones(1000, 50)
    weight[617, 31] = float("nan")
    (sample,) = tensor_samples({"weight": weight})
    assert not sample.is_finite
    assert (sample.shape, sample.magnitude) == ((1000, 50), 1.0)


def test_of_a_large_tensor_first_and_last_row_are_among_those_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "WHOLE_BYTES", 1000)
    weight = torch.zeros(1000, 50)
    weight[0] = weight[-1] = 1.0
    (sample,) = tensor_samples({"weight": weight})
    assert sample.empty_rows == pytest.approx(1 - 2 / samples.SAMPLED_ROWS)


def test_whole_numbers_and_empty_tensors_are_no_weights() -> None:
    assert list(tensor_samples({"ids": torch.arange(3), "none": torch.empty(0, 3)})) == []


@pytest.mark.parametrize("quant", ["F16", "Q8_0", "Q4_0"])
def test_a_gguf_has_the_magnitudes_of_the_folder_it_was_converted_from(
    tmp_path: Path, write_llama: Callable[..., Path], quant: str
) -> None:
    if quant != "F16":
        pytest.importorskip("llama_cpp")
    folder = write_llama(tmp_path / "llama", width=64)
    convert(folder, tmp_path / "model.gguf", quant)
    header = read_header(tmp_path / "model.gguf")
    found = {sample.name: sample for sample in gguf_samples(tmp_path / "model.gguf", header)}
    assert found.keys() == header.tensors.keys()
    assert found["token_embd.weight"].magnitude == pytest.approx(0.016, rel=0.1)
    assert found["output_norm.weight"].magnitude == 1.0
    assert all(sample.is_finite and not sample.empty_rows for sample in found.values())


def sample(name: str, *, is_finite: bool = True, empty_rows: float = 0.0) -> Sample:
    return Sample(name=name, shape=(4, 4), is_finite=is_finite, empty_rows=empty_rows, magnitude=1.0)


def test_many_faults_are_counted_and_the_first_few_named() -> None:
    damaged = [sample(f"layer.{index}", is_finite=False) for index in range(5)]
    check = weights_check(
        "vision", [*damaged, sample("zero", empty_rows=1.0), sample("fine")], "fetch it again"
    )
    assert check.state == "problem"
    assert check.text == (
        "5 of 7 tensors with values that are not finite (NaN or infinite) (layer.0, layer.1, layer.2 and 2 "
        "more), 1 of 7 tensors all zero (zero); fetch it again."
    )
