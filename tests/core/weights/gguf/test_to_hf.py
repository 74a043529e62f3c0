"""Damaged files are refused before native code reads them; conversion survives crashes and concurrency."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import path_of
from minigpt4.core.errors import BackendError, BundleError
from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.core.weights.gguf import to_hf as module
from minigpt4.core.weights.gguf.header import LEAST_BYTES, read_header
from minigpt4.core.weights.gguf.to_hf import (
    CONFIG,
    TOKENIZER,
    WEIGHTS,
    check_gguf,
    converted_folder,
    is_whole,
)

SHA256 = "5" * 64
HEADS, WIDTH = 2, 32


def write_tiny_llama(path: Path, *, architecture: str = "llama", pre: str = "smollm") -> Path:
    """A Llama of one layer, 32 wide, whose vocabulary is two letters and one merge."""
    from gguf import GGUFWriter

    writer = GGUFWriter(path, architecture)
    writer.add_context_length(64)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(["<|im_end|>", "a", "b", "ab"])
    writer.add_token_types([3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    generator = np.random.default_rng(0)
    shapes = {
        "token_embd": (4, WIDTH),
        "output_norm": (WIDTH,),
        "blk.0.attn_norm": (WIDTH,),
        "blk.0.ffn_norm": (WIDTH,),
        "blk.0.attn_q": (WIDTH, WIDTH),
        "blk.0.attn_k": (WIDTH // HEADS, WIDTH),
        "blk.0.attn_v": (WIDTH // HEADS, WIDTH),
        "blk.0.attn_output": (WIDTH, WIDTH),
        "blk.0.ffn_gate": (64, WIDTH),
        "blk.0.ffn_up": (64, WIDTH),
        "blk.0.ffn_down": (WIDTH, 64),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", generator.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def folders_beside(folder: Path) -> list[Path]:
    return [path for path in folder.parent.iterdir() if path.suffix != ".lock"]


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_tiny_llama(tmp_path / "tiny.gguf")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"gone\.gguf cannot be read: No such file.*models pull"):
        check_gguf(tmp_path / "gone.gguf")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04" + bytes(100), bytes(100)])
def test_a_file_that_is_no_gguf_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.gguf is not a GGUF file or is damaged"):
        check_gguf(path)


def test_a_file_of_another_size_is_named(tiny: Path) -> None:
    with pytest.raises(BundleError, match="instead of 1000; it is damaged"):
        check_gguf(tiny, 1000)


def test_the_conversion_is_what_transformers_and_tokenizers_read(tiny: Path) -> None:
    from safetensors.numpy import load_file
    from tokenizers import Tokenizer
    from transformers.models.llama.modeling_llama import LlamaForCausalLM

    folder = converted_folder(tiny, SHA256)
    assert folders_beside(folder) == [folder], "nothing partial is left"
    model, report = LlamaForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert model.config.num_key_value_heads == 1 and model.config.rms_norm_eps == pytest.approx(1e-5)
    assert load_file(folder / WEIGHTS)["model.embed_tokens.weight"].shape == (4, WIDTH)
    assert Tokenizer.from_file(str(folder / TOKENIZER)).encode("abb<|im_end|>").ids == [3, 2, 0]


def test_rotated_rows_stand_as_transformers_expects_them() -> None:
    llama_cpp_order = np.array([0, 2, 1, 3, 4, 6, 5, 7], dtype=np.float32)[:, None]  # two heads of four rows
    assert module._rotary_halves(llama_cpp_order, 2)[:, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_the_conversion_happens_once(tiny: Path) -> None:
    folder = converted_folder(tiny, SHA256)
    made = (folder / WEIGHTS).stat().st_mtime_ns
    tiny.unlink()
    assert converted_folder(tiny, SHA256) == folder
    assert (folder / WEIGHTS).stat().st_mtime_ns == made


def test_what_another_version_converted_is_made_again(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = converted_folder(tiny, SHA256)
    monkeypatch.setattr(module, "CONVERSION_VERSION", module.CONVERSION_VERSION + 1)
    assert not is_whole(folder)
    assert converted_folder(tiny, SHA256) == folder
    assert is_whole(folder)
    assert folders_beside(folder) == [folder]


@pytest.mark.parametrize("name", [WEIGHTS, CONFIG, TOKENIZER, module.CONTENTS])
@pytest.mark.parametrize("damage", ["cut", "gone", "garbled"])
def test_a_damaged_conversion_is_made_again(tiny: Path, name: str, damage: str) -> None:
    folder = converted_folder(tiny, SHA256)
    content = (folder / name).read_bytes()
    if damage == "gone":
        (folder / name).unlink()
    elif damage == "cut":
        (folder / name).write_bytes(content[: len(content) // 2])
    else:
        (folder / name).write_bytes(b"\xff" + content)
    assert not is_whole(folder)
    assert converted_folder(tiny, SHA256) == folder
    assert is_whole(folder)
    assert (folder / name).read_bytes() == content
    assert folders_beside(folder) == [folder]


def test_processes_that_convert_at_once_agree(tiny: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        folders = pool.starmap(converted_folder, [(tiny, SHA256)] * 6)
    assert len(set(folders)) == 1 and is_whole(folders[0])
    assert folders_beside(folders[0]) == [folders[0]]


def test_a_folder_that_a_killed_process_left_is_removed(tiny: Path) -> None:
    folder = converted_folder(tiny, SHA256)
    shutil.rmtree(folder)
    left = folder.with_name(f"{folder.name}.part")
    left.mkdir()
    (left / WEIGHTS).write_text("half")
    converted_folder(tiny, SHA256)
    assert folders_beside(folder) == [folder]


def test_a_full_disk_is_reported_and_nothing_is_left(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(BackendError, match=r"No space left on device.*MINIGPT4_HOME"):
        converted_folder(tiny, SHA256)
    home = Path(os.environ[HOME_VARIABLE])
    assert folders_beside(home / "cache" / "converted" / "any") == []


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"architecture": "mamba"}, "'mamba', not 'llama'"), ({"pre": "qwen2"}, "gpt2/qwen2, not gpt2/smollm")],
)
def test_a_model_of_another_kind_is_refused(tmp_path: Path, options: dict[str, str], reason: str) -> None:
    with pytest.raises(BundleError, match=reason):
        converted_folder(write_tiny_llama(tmp_path / "other.gguf", **options), SHA256)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.9])
def test_a_gguf_cut_short_is_refused_by_both_backends(tiny: Path, share: float) -> None:
    content = tiny.read_bytes()
    tiny.write_bytes(content[: max(int(len(content) * share), LEAST_BYTES)])
    with pytest.raises(BundleError, match=r"tiny\.gguf is cut short or damaged: .*(header|weights end)"):
        converted_folder(tiny, SHA256)
    pytest.importorskip("llama_cpp")
    from minigpt4.core.language.llamacpp import LlamaCppLanguageModel

    with pytest.raises(BundleError, match=r"tiny\.gguf is cut short or damaged: .*(header|weights end)"):
        LlamaCppLanguageModel(tiny, context=64)


def test_the_header_tells_names_shapes_and_where_the_weights_end(tiny: Path) -> None:
    from gguf import GGUFReader

    header, reader = read_header(tiny), GGUFReader(tiny)
    assert {name: tensor.start for name, tensor in header.tensors.items()} == {
        tensor.name: tensor.data_offset for tensor in reader.tensors
    }
    assert header.tensors["blk.0.ffn_up.weight"].shape == (64, WIDTH)
    assert header.metadata["llama.block_count"] == 1
    assert header.lengths["tokenizer.ggml.merges"] == 1
    assert header.end == max(tensor.data_offset + tensor.n_bytes for tensor in reader.tensors)


@given(place=st.integers(0, 700), byte=st.integers(0, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_damaged_header_is_a_sentence_and_no_crash(tiny: Path, place: int, byte: int) -> None:
    content = bytearray(tiny.read_bytes())
    content[place] = byte
    damaged = tiny.with_name("damaged.gguf")
    damaged.write_bytes(content)
    with contextlib.suppress(BundleError):
        check_gguf(damaged)


def test_the_real_conversion_keeps_mini_exactly(mini: Bundle) -> None:
    """A block of Q4_1 is 32 numbers, d * q + m with 16-bit d and m (ggml's `block_q4_1`)."""
    from gguf import GGUFReader
    from safetensors import safe_open

    path = path_of(mini.language.file, mini)
    folder = converted_folder(path, mini.language.file.sha256)
    packed = next(t for t in GGUFReader(path).tensors if t.name == "blk.3.ffn_up.weight").data[7][:20]
    scale, least = packed[:4].view(np.float16).astype(np.float32)
    quants = np.concatenate([packed[4:] & 15, packed[4:] >> 4]).astype(np.float32)
    with safe_open(folder / WEIGHTS, framework="numpy") as file:
        row = file.get_tensor("model.layers.3.mlp.up_proj.weight")[7]
    assert np.array_equal(row[:32], scale * quants + least)
    assert json.loads((folder / CONFIG).read_text())["rope_parameters"]["rope_theta"] == 100000.0
