"""Where a language model's weights are found: a Hugging Face folder, GGUF files, or both."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import bundles_folder, path_of
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.weights.locate import (
    check_quant,
    choose_gguf,
    gguf_files,
    gguf_path,
    gguf_quant,
    hf_folder,
    language_digest,
)


@pytest.fixture
def vicuna() -> Bundle:
    """A bundle whose language model is a fetched Hugging Face folder of two files."""
    bundle = load_bundle("minigpt4-vicuna-7b")
    files = tuple(File(name, None, None, ()) for name in ("config.json", "model.safetensors"))
    return replace(bundle, language=replace(bundle.language, files=files))


def put(path: Path, content: bytes = b"GGUF") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_fetched_folder_is_found_when_all_its_files_are_here(vicuna: Bundle) -> None:
    assert hf_folder(vicuna) is None
    put(path_of(vicuna.language.files[0], vicuna))
    assert hf_folder(vicuna) is None
    put(path_of(vicuna.language.files[1], vicuna))
    assert hf_folder(vicuna) == bundles_folder() / "minigpt4-vicuna-7b"


def test_a_folder_of_the_users_is_used_where_it_is(vicuna: Bundle, tmp_path: Path) -> None:
    bundle = replace(vicuna, language=replace(vicuna.language, files=(), folder=tmp_path / "llama"))
    with pytest.raises(
        BundleError, match=r"llama of the language model of 'minigpt4-vicuna-7b' is not there"
    ):
        hf_folder(bundle)
    (tmp_path / "llama").mkdir()
    with pytest.raises(BundleError, match=r"holds no config.json; correct 'language.folder'"):
        hf_folder(bundle)
    put(tmp_path / "llama" / "config.json")
    assert hf_folder(bundle) == tmp_path / "llama"


def test_a_bundle_with_a_gguf_has_no_folder() -> None:
    mini = load_bundle("mini")
    assert hf_folder(mini) is None
    assert choose_gguf(mini) is None
    assert gguf_path(mini, "Q4_1") == path_of(mini.language.file, mini)


def test_the_manifests_own_gguf_is_taken(mini_home: Path) -> None:
    mini = load_bundle("mini")
    own = path_of(mini.language.file, mini)
    assert own.is_relative_to(mini_home)
    assert gguf_files(mini)["Q4_1"] == choose_gguf(mini, "Q4_1") == own
    assert choose_gguf(mini, "Q8_0") is None


def test_a_dequantised_gguf_is_taken_before_its_source() -> None:
    mini = load_bundle("mini")
    own = path_of(mini.language.file, mini)
    put(own)
    os.truncate(own, mini.language.file.bytes or 0)  # a hole on the disk
    assert choose_gguf(mini) == own
    put(gguf_path(mini, "F16"))
    assert choose_gguf(mini) == gguf_path(mini, "F16")
    assert choose_gguf(mini, "Q4_1") == own


def test_auto_takes_the_best_of_what_was_made(vicuna: Bundle) -> None:
    assert choose_gguf(vicuna) is None
    for made, chosen in [("F16", "F16"), ("Q4_0", "Q4_0"), ("Q5_K_M", "Q5_K_M"), ("Q4_K_M", "Q4_K_M")]:
        put(gguf_path(vicuna, made))
        assert choose_gguf(vicuna) == gguf_path(vicuna, chosen)
    assert list(gguf_files(vicuna)) == ["F16", "Q5_K_M", "Q4_K_M", "Q4_0"]
    assert choose_gguf(vicuna, "F16") == gguf_path(vicuna, "F16")
    assert gguf_path(vicuna, "F16").name == "minigpt4-vicuna-7b-F16.gguf"


@pytest.mark.parametrize(
    ("quant", "advice"),
    [
        ("q4_0", "did you mean 'Q4_0'?"),
        ("int4", "did you mean 'int8'?"),
        ("Q4KM", "did you mean 'Q4_K_M'?"),
        ("zebra", "there are auto, fp32, bf16"),
    ],
)
def test_a_name_that_is_no_quantisation_suggests_one(quant: str, advice: str) -> None:
    with pytest.raises(UsageError, match="There is no quantisation") as caught:
        check_quant(quant)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("name", "quant"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("vicuna-7b-Q5_K_M.gguf", "Q5_K_M"),
        ("ggml-model-f16.gguf", "F16"),
        ("llama-IQ2_XXS.gguf", "IQ2_XXS"),
        ("model.gguf", "GGUF"),
    ],
)
def test_a_ggufs_name_tells_its_quantisation(name: str, quant: str) -> None:
    assert gguf_quant(name) == quant


def test_one_file_is_named_by_its_own_checksum() -> None:
    mini = load_bundle("mini")
    assert language_digest(mini) == mini.language.file.sha256


def test_other_weights_have_another_digest(vicuna: Bundle, tmp_path: Path) -> None:
    absent = language_digest(vicuna)
    for file in vicuna.language.files:
        put(path_of(file, vicuna))
    here = language_digest(vicuna)
    assert absent != here == language_digest(vicuna)
    own = replace(vicuna, language=replace(vicuna.language, files=(), folder=tmp_path))
    put(tmp_path / "config.json")
    before = language_digest(own)
    put(tmp_path / "config.json", b"something longer")
    assert before != language_digest(own)
