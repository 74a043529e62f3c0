"""Hugging Face folders in torch: what loads, in which precision, and what is said where they are wrong."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from minigpt4.core.bundles.bundle import Bundle, LanguageSpec, load_bundle
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BackendError, BundleError, UsageError
from minigpt4.core.language import hf_load as causal_lm
from minigpt4.core.language.hf_load import choose_precision, load_causal_lm, load_tokens
from minigpt4.core.language.torch import TorchLanguageModel
from minigpt4.core.torch_memory import CAPACITIES
from minigpt4.core.types import ResolvedSampling, Text
from minigpt4.core.weights.hf_model import load_llama

WriteLlama = Callable[..., Path]
GREEDY = ResolvedSampling(max_tokens=5).greedy()


def bundle_of(folder: Path, width: int = 16) -> Bundle:
    language = LanguageSpec("llama", files=(), folder=folder, context=64, width=width)
    return replace(load_bundle("mini"), name="tiny", template="vicuna-v0", language=language)


@pytest.fixture
def folder(write_llama: WriteLlama, tmp_path: Path) -> Path:
    return write_llama(tmp_path / "llama", spread=0.3)


def logits_of(bundle: Bundle, **choices: Any) -> np.ndarray[Any, Any]:
    model = TorchLanguageModel.load(EngineOptions(bundle, **choices))
    logits_V = model.logits(model.tokenize(Text("<s>", control=True), Text("a b c")))
    model.close()
    return logits_V


def test_weights_that_keep_their_type_stay_mapped_from_the_file(folder: Path) -> None:
    model = load_llama(folder, dtype=torch.float16, device="cpu")
    saved = load_file(folder / "model.safetensors")
    for name, parameter in model.named_parameters():
        assert parameter.dtype == torch.float16
        assert torch.equal(parameter, saved[name])


def test_shards_and_pickles_are_read_as_the_one_safetensors_file(folder: Path) -> None:
    bundle = bundle_of(folder)
    expected = logits_of(bundle)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    for form, save in (("safetensors", save_file), ("bin", torch.save)):
        stem = "model" if form == "safetensors" else "pytorch_model"
        parts = {f"{stem}-0000{n}-of-00002.{form}": names[n - 1 :: 2] for n in (1, 2)}
        for file, part in parts.items():
            save({name: tensors[name] for name in part}, folder / file)
        index = {"weight_map": {name: file for file, part in parts.items() for name in part}}
        (folder / f"{stem}.{form}.index.json").write_text(json.dumps(index))
        assert np.array_equal(logits_of(bundle), expected)
        for file in parts:
            (folder / file).unlink()
        (folder / f"{stem}.{form}.index.json").unlink()


def test_a_row_that_was_added_for_padding_is_no_text(write_llama: WriteLlama, tmp_path: Path) -> None:
    bundle = bundle_of(write_llama(tmp_path / "llama", rows=901, tokens=900))
    model = TorchLanguageModel.load(EngineOptions(bundle))
    assert model.logits([1, 5]).shape == (901,)
    assert model.piece(900) == b""
    assert model.is_end(2) and not model.is_end(900)


def test_an_embedding_with_fewer_rows_than_tokens_belongs_to_another_model(
    write_llama: WriteLlama, tmp_path: Path
) -> None:
    bundle = bundle_of(write_llama(tmp_path / "llama", rows=890, tokens=900))
    with pytest.raises(BundleError, match=r"900 tokens.*890 rows"):
        TorchLanguageModel.load(EngineOptions(bundle))


@pytest.mark.parametrize(
    ("quant", "dtype", "device", "weight_bytes", "expected"),
    [
        ("auto", None, "cpu", 1 << 20, ("fp32", torch.float32)),
        ("auto", None, "cpu", 13 << 30, ("bf16", torch.bfloat16)),
        ("auto", None, "cuda", 1 << 20, ("fp16", torch.float16)),
        ("auto", "bf16", "cpu", 1 << 20, ("bf16", torch.bfloat16)),
        ("auto", "float32", "cpu", 13 << 30, ("fp32", torch.float32)),
        ("fp16", None, "cpu", 0, ("fp16", torch.float16)),
        ("nf4", None, "cpu", 0, ("nf4", torch.bfloat16)),
        ("int8", "fp32", "cuda:0", 0, ("int8", torch.float32)),
    ],
)
def test_precision_is_what_was_asked_for_or_what_is_quick_and_safe(
    quant: str,
    dtype: str | None,
    device: str,
    weight_bytes: int,
    expected: tuple[str, torch.dtype],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        causal_lm, "default_dtype", lambda device: "fp16" if device.startswith("cuda") else "bf16"
    )
    assert choose_precision(quant, dtype, device=device, weight_bytes=weight_bytes) == expected


def test_a_precision_that_contradicts_itself_or_is_llamacpps_is_refused() -> None:
    with pytest.raises(UsageError, match="in fp32, not in bf16"):
        choose_precision("fp32", "bf16", device="cpu", weight_bytes=0)
    with pytest.raises(UsageError, match=r"no quantisation 'Q4_0'.*nf4.*--backend llamacpp"):
        choose_precision("Q4_0", None, device="cpu", weight_bytes=0)


def test_another_architecture_is_named(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(BundleError, match=r"'gpt2'.*'llama'"):
        load_causal_lm(bundle_of(folder))


def test_missing_tensors_are_counted_and_the_first_ones_named(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if "mlp" not in name}
    save_file(kept, folder / "model.safetensors")
    with pytest.raises(BundleError, match=r"lacks 3 tensors \(model\.layers\.0\.mlp\.down_proj\.weight, "):
        load_causal_lm(bundle_of(folder))


def test_a_tensor_of_another_shape_is_named_with_both(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {"model.norm.weight": torch.ones(8)}, folder / "model.safetensors")
    with pytest.raises(BundleError, match=r"model\.norm\.weight has the shape \(8,\).*\(16,\)"):
        load_causal_lm(bundle_of(folder))


def test_another_width_than_the_bundles_is_reported(folder: Path) -> None:
    with pytest.raises(BundleError, match=r"width 16, but the bundle 'tiny' says 5120"):
        load_causal_lm(bundle_of(folder, width=5120))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_file_cut_short_is_a_sentence(folder: Path, share: float) -> None:
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(BundleError, match=r"model\.safetensors"):
        load_causal_lm(bundle_of(folder))


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("harmed"),))


def test_code_in_a_pickle_does_not_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"lm_head.weight": Harmful()}))
    with pytest.raises(BundleError, match=r"pytorch_model\.bin"):
        load_causal_lm(bundle_of(folder))
    assert not (tmp_path / "harmed").exists()


def test_a_folder_without_its_vocabulary_says_which_file_is_missing(folder: Path) -> None:
    (folder / "tokenizer.model").unlink()
    with pytest.raises(BundleError, match=r"tokenizer\.model"):
        load_tokens(bundle_of(folder))


def test_a_damaged_vocabulary_is_a_sentence(folder: Path) -> None:
    (folder / "tokenizer.model").write_bytes(b"nothing of the sort")
    with pytest.raises(BundleError, match=r"tokenizer\.model is not a SentencePiece"):
        load_tokens(bundle_of(folder))


def test_a_missing_device_is_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(BackendError, match="no CUDA device"):
        load_causal_lm(bundle_of(folder), device="cuda")


def test_a_model_that_is_loaded_keeps_few_old_shapes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CAPACITIES:
        monkeypatch.delenv(name, raising=False)
    load_causal_lm(bundle_of(folder))
    assert all(int(os.environ[name]) < 1024 for name in CAPACITIES)
