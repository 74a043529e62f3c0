"""Verification of a bundle: an intact one has no findings, and each damage is detected and named."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minigpt4.core.bundles.bundle import Bundle, load_bundle, manifest_path, write_manifest
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import bundles_folder
from minigpt4.core.errors import UsageError
from minigpt4.core.verify.finding import Check, worst
from minigpt4.core.verify.verify import verify
from minigpt4.core.weights.gguf.from_hf import convert
from minigpt4.core.weights.locate import gguf_path

Rewrite = Callable[[str, Callable[[dict[str, torch.Tensor]], None]], None]


def problems(name: str = "mine") -> dict[str, str]:
    """Texts of the findings that are not ok, by subject."""
    return {check.subject: check.text for check in verify(name) if check.state != "ok"}


def states(name: str) -> dict[str, str]:
    return {check.subject: check.state for check in verify(name)}


def change_llama(bundle: Bundle, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    folder = bundle.language.folder
    assert folder is not None
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    (folder / "model.safetensors").unlink()
    save_file(tensors, folder / "model.safetensors")


def test_a_whole_bundle_is_ok_in_every_line(mine: Bundle) -> None:
    checks = list(verify(mine.name))
    assert worst(checks) == "ok", checks
    assert [check.subject for check in checks] == [
        "manifest",
        "vision.safetensors",
        "qformer.safetensors",
        "projection.safetensors",
        "vision",
        "qformer",
        "language",
        "language shapes",
        "language weights",
        "tokenizer",
        "merged",
        "projection",
    ]


@pytest.mark.usefixtures("mini_home")
def test_mini_is_ok() -> None:
    checks = list(verify("mini"))
    assert worst(checks) == "ok", checks
    assert {"vision", "language weights", "tokenizer", "merged", "projection"} <= {c.subject for c in checks}


def test_an_unknown_bundle_is_an_error_and_not_a_finding() -> None:
    with pytest.raises(UsageError, match="There is no bundle 'minni'"):
        list(verify("minni"))


def test_the_source_files_of_a_gguf_may_be_missing(mine: Bundle) -> None:
    pytest.importorskip("llama_cpp")
    folder = mine.language.folder
    assert folder is not None
    files = tuple(File(path.name, None, None, ()) for path in sorted(folder.iterdir()))
    fetched = replace(mine, language=replace(mine.language, files=files, folder=None))
    write_manifest(fetched, manifest_path(mine.name))
    assert "config.json" in problems(mine.name)
    gguf_path(fetched, "F16").parent.mkdir(parents=True)
    convert(folder, gguf_path(fetched, "F16"), "F16")
    assert "config.json" not in problems(mine.name)


def test_missing_files_are_reported_with_the_command_that_fetches_them() -> None:
    found = problems("minigpt4-vicuna-7b")
    assert (
        "eva_vit_g.pth is missing; fetch it again with `minigpt4 models pull minigpt4-vicuna-7b`."
        in found["eva_vit_g.pth"]
    )
    assert "The language model has no weights here" in found["language"]


def test_a_manifest_that_does_not_hold_together_ends_it(mine: Bundle) -> None:
    path = manifest_path(mine.name)
    path.write_text(path.read_text().replace("inputs = 24", "inputs = 25"))
    (check,) = verify(mine.name)
    assert (check.subject, check.state) == ("manifest", "problem")
    assert "'projection.inputs' is 25" in check.text


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_one_value_that_is_no_number_is_found(mine: Bundle, rewrite: Rewrite, value: float) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors["encoder.layers.1.mlp.fc2.weight"][7, 130] = value

    rewrite("vision.safetensors", damage)
    assert problems(mine.name).keys() == {"vision"}
    assert "1 of 28 tensors with values that are not finite" in problems(mine.name)["vision"]
    assert "encoder.layers.1.mlp.fc2.weight" in problems(mine.name)["vision"]


def test_a_tensor_of_zeros_is_found_but_a_bias_may_be_zero(mine: Bundle, rewrite: Rewrite) -> None:
    def zero(*names: str) -> Callable[[dict[str, torch.Tensor]], None]:
        return lambda tensors: tensors.update({name: torch.zeros_like(tensors[name]) for name in names})

    rewrite("projection.safetensors", zero("bias"))
    assert problems(mine.name) == {}
    rewrite("projection.safetensors", zero("weight"))
    assert "1 of 2 tensors all zero (weight); create the bundle again" in problems(mine.name)["projection"]


def test_a_damaged_projection_is_reported_with_its_fault(mine: Bundle, rewrite: Rewrite) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        tensors["weight"][3, 3] = float("nan")

    rewrite("projection.safetensors", damage)
    assert "not finite (NaN or infinite)" in problems(mine.name)["projection"]


def test_missing_and_extra_tensors_are_counted(mine: Bundle, rewrite: Rewrite) -> None:
    def damage(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["embeddings.class_embedding"]
        tensors["encoder.layers.0.lora"] = torch.ones(2)

    rewrite("vision.safetensors", damage)
    found = problems(mine.name)["vision"]
    assert "1 tensor missing (embeddings.class_embedding) and 1 tensor not known" in found


def test_truncated_changed_and_missing_files_are_distinguished(mine: Bundle) -> None:
    folder = bundles_folder() / mine.name
    vision, qformer, projection = (
        folder / f"{part}.safetensors" for part in ("vision", "qformer", "projection")
    )
    os.truncate(vision, 5000)
    content = bytearray(qformer.read_bytes())
    content[-1] ^= 1
    qformer.write_bytes(content)
    projection.unlink()
    found = problems(mine.name)
    assert "has 5000 of 95252 bytes" in found["vision.safetensors"]
    assert "has another SHA-256" in found["qformer.safetensors"]
    assert "is missing" in found["projection.safetensors"]


def test_a_pickle_with_code_is_named_and_not_run(mine: Bundle, tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(tmp_path / "the-code-ran"),)

    path = bundles_folder() / mine.name / "projection.pth"
    path.write_bytes(pickle.dumps({"model": Code()}))
    bundle = replace(mine, projection=replace(mine.projection, path=path, file=None))
    write_manifest(bundle, manifest_path(mine.name))
    assert "holds code beside its tensors" in problems(mine.name)["projection"]
    assert not (tmp_path / "the-code-ran").exists()


def test_a_projection_for_the_13b_model_is_named_as_one(
    mine: Bundle, tmp_path: Path, write_llama: Callable[..., Path]
) -> None:
    folder = bundles_folder() / mine.name
    save_file({"weight": torch.ones(5120, 24), "bias": torch.ones(5120)}, folder / "wide.safetensors")
    llm = write_llama(tmp_path / "7b", width=4096, hollow=True)
    bundle = replace(
        mine,
        projection=replace(mine.projection, path=folder / "wide.safetensors", file=None, outputs=4096),
        language=replace(mine.language, folder=llm, width=4096),
    )
    write_manifest(bundle, manifest_path(mine.name))
    assert "this projection is for the 13B model" in problems(mine.name)["projection"]
    # The manifest may agree with the projection, and the language model be another one.
    bundle = replace(
        bundle,
        projection=replace(bundle.projection, outputs=5120),
        language=replace(bundle.language, width=5120),
    )
    write_manifest(bundle, manifest_path(mine.name))
    found = problems(mine.name)
    assert found["language"].startswith("This projection is for the 13B model (width 5120), and ")
    assert "7b is the 7B model (width 4096)" in found["language"]
    assert "tensors all zero" in found["language weights"]


def test_a_missing_or_truncated_language_model_folder_is_reported(mine: Bundle) -> None:
    folder = mine.language.folder
    assert folder is not None
    weights = folder / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 2)
    assert "model.safetensors is damaged" in problems(mine.name)["language"]
    shutil.rmtree(folder)
    assert "of the language model of 'mine' is not there" in problems(mine.name)["language"]


def test_weights_that_belong_to_another_configuration_are_named(mine: Bundle) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.0.mlp.up_proj.weight"] = torch.ones(33, 16)

    change_llama(mine, change)
    assert "the first has (33, 16) instead of (32, 16)" in problems(mine.name)["language shapes"]


def test_rows_of_zeros_are_reported_as_a_hole(mine: Bundle) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.embed_tokens.weight"][500:] = 0

    change_llama(mine, change)
    assert states(mine.name)["language weights"] == "warning"
    assert "many rows of zeros (model.embed_tokens.weight)" in problems(mine.name)["language weights"]


@pytest.mark.parametrize(
    ("rows", "tokens", "state", "sentence"),
    [
        (900, 901, "problem", "has 901 tokens, but the model has only 900 embedding rows"),
        (901, 900, "ok", ""),
        (2000, 900, "warning", "has 900 tokens, but vicuna has 2000 embedding rows"),
        (900, 500, "warning", "is not LLaMA's own: token 835 is not '###'"),
    ],
)
def test_the_tokenizer_is_compared_with_the_embedding(
    mine: Bundle, write_llama: Callable[..., Path], rows: int, tokens: int, state: str, sentence: str
) -> None:
    folder = mine.language.folder
    assert folder is not None
    shutil.rmtree(folder)
    write_llama(folder, rows=rows, tokens=tokens)
    assert states(mine.name)["tokenizer"] == state
    assert sentence in problems(mine.name).get("tokenizer", "")


def test_a_delta_that_was_not_merged_is_recognised(mine: Bundle, write_llama: Callable[..., Path]) -> None:
    folder = mine.language.folder
    assert folder is not None
    shutil.rmtree(folder)
    write_llama(folder, spread=0.0005)
    assert states(mine.name)["merged"] == "problem"
    assert "look like a Vicuna delta that was not merged" in problems(mine.name)["merged"]


def test_a_merged_model_named_delta_is_a_warning(mine: Bundle) -> None:
    folder = mine.language.folder
    assert folder is not None
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_name_or_path": "lmsys/vicuna-7b-delta-v0"}))
    assert states(mine.name)["merged"] == "warning"


@pytest.fixture
def gguf(mine: Bundle) -> Path:
    """The bundle's language model as an F16 GGUF, beside its folder."""
    assert mine.language.folder is not None
    path = gguf_path(mine, "F16")
    convert(mine.language.folder, path, "F16")
    return path


def test_a_gguf_converted_from_the_folder_is_verified_too(mine: Bundle, gguf: Path) -> None:
    assert gguf.exists()
    checks = list(verify(mine.name))
    assert worst(checks) == "ok", checks
    assert "language F16 weights" in {check.subject for check in checks}


def test_a_damaged_gguf_is_named(mine: Bundle, gguf: Path) -> None:
    whole = gguf.read_bytes()
    gguf.write_bytes(whole[:-4000])
    assert "is cut short" in problems(mine.name)["language F16"]
    gguf.write_bytes(whole[:-2] + b"\x00\x7e")
    assert "not finite" in problems(mine.name)["language F16 weights"]
    assert "minigpt4 models quantize mine" in problems(mine.name)["language F16 weights"]
    gguf.write_bytes(whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0gpt-2", 1))
    assert "of the architecture 'gpt-2'" in problems(mine.name)["language F16"]
    gguf.write_bytes(b"GGUF")
    assert problems(mine.name)["language F16"]


def test_a_broken_bundle_is_not_verified_deeply(mine: Bundle) -> None:
    (bundles_folder() / mine.name / "vision.safetensors").unlink()
    last = list(verify(mine.name, deep=True))[-1]
    assert last == Check("deep", "warning", "The model was not loaded; fix the problems above first.")


def test_deep_verification_of_random_weights_names_the_loss_of_a_guess(mine: Bundle) -> None:
    checks = {check.subject: check for check in verify(mine.name, deep=True)}
    assert checks["picture"].state == "ok"
    assert checks["perplexity"].state == checks["loss"].state == "problem"
    assert "no better than a guess among 900 tokens (ln 900 = 6.8)" in checks["loss"].text
    assert checks["perplexity"].value == pytest.approx(900, rel=0.2)
    assert checks["loss"].value == pytest.approx(6.8, rel=0.2)


def test_without_deep_the_model_is_never_loaded(mine: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    import minigpt4.core.language.load as select

    monkeypatch.setattr(select, "load_language_model", lambda *_, **__: pytest.fail("it was loaded"))
    assert worst(list(verify(load_bundle(mine.name).name))) == "ok"


def test_released_files_are_verified_as_they_were_fetched(
    mine: Bundle, vectors: Path, pickled_llama: Path
) -> None:
    """Checkpoints (.pth, .bin) without published sizes and checksums."""
    folder = bundles_folder() / mine.name
    names = ("eva_vit.pth", "blip2_pretrained.pth", "minigpt4.pth")
    for name in names:
        shutil.copyfile(vectors / name, folder / name)
    vision, qformer, projection = (File(name, None, None, ()) for name in names)
    assert mine.qformer is not None
    bundle = replace(
        mine,
        vision=replace(mine.vision, file=vision),
        qformer=replace(mine.qformer, file=qformer),
        projection=replace(mine.projection, file=projection),
    )
    write_manifest(bundle, manifest_path(mine.name))
    checks = {check.subject: check for check in verify(mine.name)}
    assert worst(list(checks.values())) == "ok", checks
    assert "its checksum has not been published" in checks["eva_vit.pth"].text
    tensors = torch.load(pickled_llama, weights_only=True)
    tensors["lm_head.weight"][0, 0] = float("nan")
    torch.save(tensors, pickled_llama)
    assert "(lm_head.weight)" in problems(mine.name)["language weights"]
    torch.save({"weight": os.getcwd}, pickled_llama)
    assert "holds code beside its tensors ('posix.getcwd')" in problems(mine.name)["language"]


@pytest.fixture
def pickled_llama(mine: Bundle) -> Path:
    """The language model's weights as transformers saved them before safetensors."""
    folder = mine.language.folder
    assert folder is not None
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder / "pytorch_model.bin"
