"""8-bit and 4-bit weights: near the full ones, cached, and quantised again if the cache file is damaged."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from minigpt4.core.errors import BackendError
from minigpt4.core.weights import bnb_quantize as quantised
from minigpt4.core.weights.bnb_quantize import QUANTS, load_quantised, quantised_path
from minigpt4.core.weights.hf_model import load_llama, put

WriteLlama = Callable[..., Path]
PROMPT = torch.tensor([[1, *range(300, 330)]])


@pytest.fixture(scope="module")
def library() -> Any:
    pytest.importorskip("bitsandbytes")
    return quantised.import_bitsandbytes()


@pytest.fixture
def folder(write_llama: WriteLlama, tmp_path: Path) -> Path:
    return write_llama(tmp_path / "llama", width=64, spread=0.1)


def load(folder: Path, quant: str, notices: list[str] | None = None, *, with_gradients: bool = False) -> Any:
    return load_quantised(
        folder,
        quant,
        digest="content",
        dtype=torch.float32,
        device="cpu",
        with_gradients=with_gradients,
        notice=notices.append if notices is not None else None,
    )


@torch.inference_mode()
def logits_of(model: Any) -> torch.Tensor:
    logits_SV: torch.Tensor = model.eval()(PROMPT).logits[0]
    return logits_SV


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def dequantised(weight: torch.Tensor, quant: str, library: Any) -> torch.Tensor:
    if quant == "int8":
        rows, scales, _ = library.functional.int8_vectorwise_quant(weight.half())
        return rows.float() * scales[:, None] / 127
    packed, state = library.functional.quantize_4bit(
        weight, blocksize=64, compress_statistics=False, quant_type="nf4"
    )
    found: torch.Tensor = library.functional.dequantize_4bit(packed, state).float()
    return found


@pytest.mark.parametrize("quant", QUANTS)
def test_the_model_computes_with_the_quantised_weights(folder: Path, library: Any, quant: str) -> None:
    plain = load_llama(folder, dtype=torch.float32, device="cpu")
    for name, weight in load_file(folder / "model.safetensors").items():
        if name.startswith("model.layers") and weight.ndim == 2:
            put(plain, name, dequantised(weight, quant, library))
    # Activations lose bits, too: in int8 they have 8, in the CPU's layout of NF4 they are bfloat16.
    assert relative(logits_of(load(folder, quant)), logits_of(plain)) < 0.03


@pytest.mark.parametrize("quant", QUANTS)
def test_quantising_happens_once(folder: Path, library: Any, quant: str) -> None:
    notices: list[str] = []
    first = logits_of(load(folder, quant, notices))
    assert len(notices) == 1 and quant in notices[0]
    second = logits_of(load(folder, quant, notices))
    assert len(notices) == 1
    assert torch.equal(first, second)


def test_only_the_blocks_linear_layers_lose_bits(folder: Path, library: Any) -> None:
    full = load_llama(folder, dtype=torch.float32, device="cpu").state_dict()
    model = load(folder, "nf4")
    for name in ("model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"):
        assert torch.equal(model.state_dict()[name], full[name])
    assert model.get_submodule("model.layers.0.mlp.up_proj").weight.dtype == torch.uint8


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.7])
def test_a_damaged_cache_file_is_quantised_again(folder: Path, library: Any, fraction: float) -> None:
    expected = logits_of(load(folder, "int8"))
    (path,) = quantised_path("content", "int8").parent.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    notices: list[str] = []
    assert torch.equal(logits_of(load(folder, "int8", notices)), expected)
    assert len(notices) == 1


def test_each_content_has_its_own_cache_file(library: Any) -> None:
    paths = {quantised_path(digest, quant) for digest in ("a", "b") for quant in QUANTS}
    assert len(paths) == 4


def test_shapes_that_do_not_fit_the_fast_layout_are_computed_too(
    write_llama: WriteLlama, tmp_path: Path, library: Any
) -> None:
    folder = write_llama(tmp_path / "narrow", width=16, spread=0.1)
    for quant in QUANTS:
        assert np.isfinite(logits_of(load(folder, quant)).numpy()).all()


def test_a_full_disk_is_reported_with_the_space_needed(
    folder: Path, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = type("Disk", (), {"free": 10})
    monkeypatch.setattr("minigpt4.core.download.sources.shutil.disk_usage", lambda _: disk)
    with pytest.raises(BackendError, match=r"quantised: the disk .* has 10 bytes free and .* are needed"):
        load(folder, "nf4")
    assert not list(quantised_path("content", "nf4").parent.glob("*"))


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(BackendError, match=r"pip install 'minigpt4\[quantised\]'.*--quant bf16"):
        load(folder, "nf4")


@pytest.mark.parametrize("quant", QUANTS)
def test_a_head_that_is_the_embedding_is_shared(folder: Path, library: Any, quant: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": True}))
    tensors = load_file(folder / "model.safetensors")
    del tensors["lm_head.weight"]
    save_file(tensors, folder / "model.safetensors")
    plain = load_llama(folder, dtype=torch.float32, device="cpu")
    # nf4: below 0.2 with AVX2, and 0.23 by the kernels that bitsandbytes has for AVX512-BF16.
    assert relative(logits_of(load(folder, quant)), logits_of(plain)) < 0.3


@pytest.mark.parametrize("quant", QUANTS)
def test_gradients_flow_through_quantised_weights(folder: Path, library: Any, quant: str) -> None:
    model = load(folder, quant, with_gradients=True).requires_grad_(False)
    with torch.no_grad():
        model(PROMPT)  # the first use must not change the layout to one that has no gradient
    inputs_SD = model.get_input_embeddings()(PROMPT).detach().requires_grad_()
    model(inputs_embeds=inputs_SD).logits.logsumexp(-1).sum().backward()
    assert inputs_SD.grad is not None and inputs_SD.grad.norm() > 0
