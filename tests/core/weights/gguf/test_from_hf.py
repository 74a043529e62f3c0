"""A Hugging Face folder becomes a GGUF that says what the folder says, or a sentence tells why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from minigpt4.core.download.fetch import FetchProgress
from minigpt4.core.errors import BackendError, BundleError, UsageError
from minigpt4.core.weights.gguf.from_hf import convert, rotary_pairs
from minigpt4.core.weights.gguf.header import read_header
from minigpt4.core.weights.gguf.to_hf import _rotary_halves, hugging_face_name
from minigpt4.core.weights.gguf.writer import LlamaShape
from minigpt4.core.weights.hf_folder import LlamaFolder
from minigpt4.core.weights.llama_library import load_library
from minigpt4.core.weights.sentencepiece_vocab import made_up_vocabulary, sentencepiece_bytes

SHAPE = LlamaShape(layers=2, width=256, mlp=512, heads=4, key_heads=2, vocabulary=900, context=128)


def tensors(shape: LlamaShape = SHAPE) -> dict[str, Any]:
    import torch

    generator = torch.Generator().manual_seed(0)
    return {
        hugging_face_name(name): torch.randn(size, generator=generator).to(torch.bfloat16)
        for name, size in shape.tensors().items()
    }


def write_config(folder: Path, **changes: object) -> None:
    config: dict[str, object] = {
        "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 900,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Llama of two layers in bfloat16 safetensors."""
    from safetensors.torch import save_file

    folder = tmp_path / "llama"
    folder.mkdir()
    write_config(folder)
    (folder / "tokenizer.model").write_bytes(sentencepiece_bytes(made_up_vocabulary(900)))
    save_file(tensors(), folder / "model.safetensors")
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "made" / "model.gguf"


def dequantised(path: Path) -> dict[str, NDArray[np.float32]]:
    from gguf import GGUFReader, dequantize

    return {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(path).tensors}


def test_f16_holds_every_weight_and_turns_the_rows_of_queries_and_keys(folder: Path, target: Path) -> None:
    convert(folder, target, "F16")
    ours, theirs = dequantised(target), tensors()
    assert {hugging_face_name(name) for name in ours} == set(theirs)
    for name, weight in ours.items():
        heads = {"attn_q": 4, "attn_k": 2}.get(name.split(".")[-2])
        weight = _rotary_halves(weight, heads) if heads else weight
        assert np.array_equal(weight, theirs[hugging_face_name(name)].half().float().numpy()), name


def test_the_metadata_is_what_llama_cpp_needs(folder: Path, target: Path) -> None:
    convert(folder, target, "F16")
    header = read_header(target)
    assert header.metadata["general.architecture"] == "llama"
    assert header.metadata["llama.attention.head_count_kv"] == 2
    assert header.metadata["llama.rope.freq_base"] == 10000.0
    assert header.metadata["tokenizer.ggml.model"] == "llama"
    assert header.lengths["tokenizer.ggml.tokens"] == header.lengths["tokenizer.ggml.scores"] == 900
    assert header.end <= target.stat().st_size < header.end + 32


@pytest.mark.parametrize(
    ("quant", "kind", "error"),
    [("Q8_0", "Q8_0", 0.01), ("Q5_K_M", "Q5_K", 0.05), ("Q4_K_M", "Q4_K", 0.1), ("Q4_0", "Q4_0", 0.12)],
)
def test_llama_cpp_makes_it_smaller(folder: Path, target: Path, quant: str, kind: str, error: float) -> None:
    pytest.importorskip("llama_cpp")
    convert(folder, target, quant, threads=1)
    assert read_header(target).tensors["blk.0.ffn_gate.weight"].kind == kind
    weight = dequantised(target)["blk.0.ffn_gate.weight"]
    exact = tensors()["model.layers.0.mlp.gate_proj.weight"].float().numpy()
    assert np.linalg.norm(weight - exact) < error * np.linalg.norm(exact)
    assert [path.name for path in target.parent.iterdir()] == [target.name], "the F16 file is gone"


def test_rows_turned_there_and_back_are_the_same() -> None:
    weight = np.arange(48.0).reshape(24, 2)
    assert np.array_equal(_rotary_halves(rotary_pairs(weight, 3), 3), weight)
    assert rotary_pairs(np.arange(8.0)[:, None], 2)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_shards_and_pickles_give_the_same_file(folder: Path, target: Path) -> None:
    import torch
    from safetensors.torch import save_file

    convert(folder, target, "F16")
    whole = target.read_bytes()
    (folder / "model.safetensors").unlink()
    parts = list(tensors().items())
    shards = {"a": dict(parts[:7]), "b": {**dict(parts[7:]), "x.rotary_emb.inv_freq": torch.zeros(4)}}
    for ending, index in ((".safetensors", "model.safetensors"), (".bin", "pytorch_model.bin")):
        for name, shard in shards.items():
            if ending == ".bin":
                torch.save(shard, folder / f"{name}.bin")
            else:
                save_file(shard, folder / f"{name}.safetensors")
        weight_map = {key: f"{name}{ending}" for name, shard in shards.items() for key in shard}
        (folder / f"{index}.index.json").write_text(json.dumps({"weight_map": weight_map}))
        convert(folder, target, "F16")
        assert target.read_bytes() == whole
        (folder / f"{index}.index.json").unlink()


def test_progress_reaches_its_end(folder: Path, target: Path) -> None:
    seen: list[FetchProgress] = []
    convert(folder, target, "F16", seen.append)
    done = [step.done for step in seen]
    assert done == sorted(done) and len(done) == len(SHAPE.tensors())
    assert seen[-1].total is not None and done[-1] == 2 * SHAPE.weights() + 2 * 256 * 5


def test_an_unknown_quantisation_is_refused(folder: Path, target: Path) -> None:
    with pytest.raises(UsageError, match=r"no quantisation 'Q3_K'.*F16, Q4_0"):
        convert(folder, target, "Q3_K")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mistral"}, "says 'mistral'; only models of the kind 'llama'"),
        ({"attention_bias": True}, "models with 'attention_bias'"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "scaled rotary positions"),
        (
            {"num_hidden_layers": 3},
            r"lacks tensors \(9: model\.layers\.2\.input_layernorm\.weight, .*\.\.\.\)",
        ),
        ({"num_hidden_layers": 1}, r"has unknown tensors \(9: "),
        ({"hidden_size": 128}, r"has the shape \(900, 256\), but config\.json asks for \(900, 128\)"),
        ({"num_attention_heads": "many"}, "lacks a number"),
        ({"num_attention_heads": 3}, "does not divide into 3 heads"),
    ],
)
def test_a_model_that_does_not_fit_is_refused(
    folder: Path, target: Path, changes: dict[str, object], reason: str
) -> None:
    write_config(folder, **changes)
    with pytest.raises(BundleError, match=reason):
        convert(folder, target, "F16")
    assert not target.exists() and not list(target.parent.glob("*"))


def test_a_shard_that_is_cut_short_is_named(folder: Path, target: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(BundleError, match=r"model\.safetensors is damaged"):
        convert(folder, target, "F16")


def test_a_pickle_with_code_in_it_is_not_run(folder: Path, target: Path, tmp_path: Path) -> None:
    import torch

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (folder / "model.safetensors").unlink()
    torch.save({"model.norm.weight": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(BundleError, match=r"pytorch_model\.bin holds code .*\('getattr'\)"):
        convert(folder, target, "F16")
    assert not (tmp_path / "ran").exists()


def test_a_folder_without_weights_or_with_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(BundleError, match=r"holds no weights \(.*model\.safetensors, pytorch_model\.bin\)"):
        LlamaFolder(folder)
    weight_map = dict.fromkeys(tensors(), "one.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(BundleError, match=r"There is no shard .*one\.safetensors"):
        LlamaFolder(folder)


def test_quantised_weights_are_refused_by_name(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    norm = {"model.norm.weight": torch.zeros(256, dtype=torch.int8)}
    save_file(tensors() | norm, folder / "model.safetensors")
    with pytest.raises(BundleError, match=r"model\.norm\.weight holds int8, not one of float16"):
        LlamaFolder(folder)


@pytest.mark.parametrize("value", [float("nan"), 1e5])
def test_numbers_that_16_bits_cannot_hold_are_reported(folder: Path, target: Path, value: float) -> None:
    from safetensors.torch import save_file

    weights = tensors()
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(
        BundleError, match=r"layers\.1\.mlp\.up_proj\.weight holds numbers that are too large"
    ):
        convert(folder, target, "F16")
    assert not list(target.parent.glob("*"))


def test_too_small_a_disk_is_reported_before_the_first_byte(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = type("Disk", (), {"free": 1000})
    monkeypatch.setattr("minigpt4.core.download.sources.shutil.disk_usage", lambda _: disk)
    with pytest.raises(BackendError, match=r"model\.gguf cannot be made: the disk .* 1000 bytes free"):
        convert(folder, target, "F16")
    assert not target.parent.exists()


def test_a_quantiser_that_fails_leaves_nothing(
    folder: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("llama_cpp")
    library = load_library()
    monkeypatch.setattr(library, "llama_model_quantize", lambda *_: 1)
    with pytest.raises(BackendError, match=r"llama\.cpp failed to write .* as Q8_0"):
        convert(folder, target, "Q8_0")
    assert not list(target.parent.glob("*"))
