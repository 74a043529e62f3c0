"""A bundle from the released files: what it holds, and that a refusal leaves nothing behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file, save_file

import minigpt4.core.bundle_making.new_files as new_files
from minigpt4.core.bundle_making.import_bundle import Originals, import_bundle
from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.download.fetch import bundles_folder, is_whole, path_of, projection_path
from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.storage.paths import HOME_VARIABLE
from minigpt4.core.vision.encoder import ImageEncoder
from minigpt4.core.weights.released import qformer_tensors, vision_tensors


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory, write_llama: Callable[..., Path]) -> Path:
    return write_llama(tmp_path_factory.mktemp("llama") / "vicuna")


@pytest.fixture
def originals(vectors: Path, llama: Path) -> Originals:
    return Originals(
        vit=vectors / "eva_vit.pth",
        qformer=vectors / "blip2_pretrained.pth",
        projection=vectors / "minigpt4.pth",
        llm=llama,
        template="vicuna-v0",
        geometry=vectors / "tiny_config.json",
    )


@pytest.fixture
def without_qformer(originals: Originals, vectors: Path) -> Originals:
    return replace(originals, qformer=None, projection=vectors / "minigpt4_noqformer.pth", template="llama2")


def home_files() -> list[Path]:
    home = Path(os.environ[HOME_VARIABLE])
    return sorted(path for path in home.rglob("*") if path.is_file() or path.name.startswith("."))


@pytest.mark.parametrize(
    ("form", "expected"), [("originals", "image_embeds"), ("without_qformer", "noqformer_image_embeds")]
)
def test_an_imported_bundle_sees_what_the_original_saw(
    request: pytest.FixtureRequest, vectors: Path, form: str, expected: str
) -> None:
    import_bundle("mine", request.getfixturevalue(form))
    bundle = load_bundle("mine")
    assert all(is_whole(file, bundle) for file in bundle.files)
    reference = load_file(vectors / "vision.safetensors")
    encoder = ImageEncoder(bundle, projection_path(bundle), device="cpu", dtype="fp32")
    found = encoder.trace(reference["pixel_values"])
    image_BND = torch.from_numpy(found["image_BND"])
    torch.testing.assert_close(image_BND, reference[expected], atol=1e-5, rtol=0)


def test_the_manifest_has_the_geometry_and_the_rest_of_the_release(originals: Originals, llama: Path) -> None:
    bundle = import_bundle("mine", originals)
    released = load_bundle("minigpt4-vicuna-7b")
    assert bundle == load_bundle("mine")
    assert (bundle.vision.image_size, bundle.vision.mean) == (56, released.vision.mean)
    assert bundle.sampling == released.sampling
    assert (bundle.template, bundle.language.context) == ("vicuna-v0", released.language.context)
    assert (bundle.language.folder, bundle.language.width) == (llama, 16)
    geometry = bundle.language.geometry
    assert geometry is not None
    assert (geometry.layers, geometry.mlp, geometry.vocabulary) == (1, 32, 900)


def test_a_picture_of_another_size_gets_its_table_of_positions(
    originals: Originals, vectors: Path, tmp_path: Path
) -> None:
    config = json.loads((vectors / "tiny_config.json").read_text())
    config["vision"]["img_size"] = 112
    (tmp_path / "geometry.json").write_text(json.dumps(config))
    bundle = import_bundle("mine", replace(originals, geometry=tmp_path / "geometry.json"))
    reference = load_file(vectors / "vision.safetensors")
    encoder = ImageEncoder(bundle, projection_path(bundle), device="cpu", dtype="fp32")
    found = encoder.trace(reference["pixel_values_112"])
    image_BND = torch.from_numpy(found["image_BND"])
    torch.testing.assert_close(image_BND, reference["image_embeds_112"], atol=1e-5, rtol=0)


def test_the_hubs_blip2_gives_the_same_files_and_only_its_own_shard_is_read(
    originals: Originals, tmp_path: Path
) -> None:
    first = import_bundle("first", originals)
    assert first.qformer is not None
    assert originals.qformer is not None
    hub = tmp_path / "blip2-flan-t5-xxl"
    hub.mkdir()
    vision = vision_tensors(originals.vit, first.vision.options)
    tensors = {f"vision_model.{name}": tensor for name, tensor in vision.items()}
    for name, tensor in qformer_tensors(originals.qformer, first.qformer.options).items():
        if name.startswith("ln_vision."):
            tensors[f"vision_model.post_layernorm.{name.removeprefix('ln_vision.')}"] = tensor
        else:
            tensors["query_tokens" if name == "query_tokens" else f"qformer.{name}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, hub / "here.safetensors")
    weight_map = dict.fromkeys(tensors, "here.safetensors")
    # The language model's shard is not there: whoever asks for it fails.
    weight_map |= {"language_model.lm_head.weight": "absent.safetensors"}
    (hub / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    second = import_bundle("second", replace(originals, vit=hub, qformer=hub))
    assert [file.sha256 for file in second.files] == [file.sha256 for file in first.files]


def test_our_own_files_can_be_imported_again(originals: Originals) -> None:
    first = import_bundle("first", originals)
    vision, qformer, projection = (path_of(file, first) for file in first.files)
    second = import_bundle("second", replace(originals, vit=vision, qformer=qformer, projection=projection))
    assert [file.sha256 for file in second.files] == [file.sha256 for file in first.files]


def test_force_replaces_a_bundle_whole_with_what_was_made_of_its_language_model(originals: Originals) -> None:
    import_bundle("mine", originals)
    made = bundles_folder() / "mine" / "gguf" / "mine-F16.gguf"
    made.parent.mkdir()
    made.write_bytes(b"of the earlier language model")
    before = load_bundle("mine").files
    import_bundle("mine", originals, force=True)
    assert load_bundle("mine").files == before
    assert not made.exists()
    assert sorted(path.name for path in bundles_folder().iterdir()) == ["mine"]


def test_where_the_manifest_cannot_be_written_the_earlier_bundle_is_back(
    originals: Originals, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_bundle("mine", originals)
    kept = bundles_folder() / "mine" / "kept.txt"
    kept.write_text("of the earlier bundle")
    before = home_files()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(new_files, "write_manifest", fail)
    with pytest.raises(Minigpt4Error, match=r"'mine' cannot be written: .*No space left"):
        import_bundle("mine", originals, force=True)
    assert home_files() == before
    with pytest.raises(Minigpt4Error, match="'other' cannot be written"):
        import_bundle("other", originals)
    assert home_files() == before


def test_disk_space_is_checked_before_the_first_byte(
    originals: Originals, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        total: int
        used: int
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(9, 9, 200_000))
    with pytest.raises(Minigpt4Error, match=r"'mine' cannot be made: .* 0\.2 MB free and 0\.2 MB are needed"):
        import_bundle("mine", originals)
    assert home_files() == []


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../mine", "a/b", "-mine", ".mine", "mi ne", "m\nine", "x" * 65, "ä"]
)
def test_a_name_that_could_leave_its_folder_is_refused(originals: Originals, name: str) -> None:
    with pytest.raises(Minigpt4Error, match="cannot be a bundle's name"):
        import_bundle(name, originals)
    assert home_files() == []


def test_a_name_that_is_taken_needs_force_and_a_shipped_one_cannot_be_taken(originals: Originals) -> None:
    import_bundle("mine", originals)
    with pytest.raises(Minigpt4Error, match=r"There is a bundle 'mine' already .* give --force"):
        import_bundle("mine", originals)
    with pytest.raises(Minigpt4Error, match="'mini' is a bundle that comes with minigpt4"):
        import_bundle("mini", originals, force=True)


def test_a_language_model_in_the_bundles_own_folder_is_not_deleted(originals: Originals, llama: Path) -> None:
    inside = bundles_folder() / "mine" / "llm"
    shutil.copytree(llama, inside)
    with pytest.raises(Minigpt4Error, match="lies in the folder of 'mine' itself"):
        import_bundle("mine", replace(originals, llm=inside), force=True)
    assert (inside / "config.json").exists()


Damage = Callable[[Originals, Path], Originals]


def checkpoint(path: Path, change: Callable[[dict[str, torch.Tensor]], None], folder: Path) -> Path:
    """A copy of a checkpoint with other tensors in it."""
    loaded = torch.load(path, weights_only=True)
    change(loaded.get("model", loaded))
    torch.save(loaded, folder / path.name)
    return folder / path.name


def a_vit_that_is_a_projection(given: Originals, _: Path) -> Originals:
    return replace(given, vit=given.projection)


def a_projection_that_is_a_vit(given: Originals, _: Path) -> Originals:
    return replace(given, projection=given.vit)


def a_pickle_with_code(given: Originals, folder: Path) -> Originals:
    class Code:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(folder / "the-code-ran"),)

    path = folder / "evil.pth"
    path.write_bytes(pickle.dumps({"model": Code()}))
    return replace(given, projection=path)


def a_truncated_checkpoint(given: Originals, folder: Path) -> Originals:
    path = folder / "cut.pth"
    path.write_bytes(given.vit.read_bytes()[:-5000])
    return replace(given, vit=path)


def missing_keys(given: Originals, folder: Path) -> Originals:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("blocks.1.mlp")]:
            del tensors[name]

    return replace(given, vit=checkpoint(given.vit, change, folder))


def extra_keys(given: Originals, folder: Path) -> Originals:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["blocks.0.attn.lora_a"] = torch.zeros(2)

    return replace(given, vit=checkpoint(given.vit, change, folder))


def a_projection_that_is_not_finite(given: Originals, folder: Path) -> Originals:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["llama_proj.weight"][0, 0] = float("nan")

    return replace(given, projection=checkpoint(given.projection, change, folder))


def a_projection_without_qformer(given: Originals, folder: Path) -> Originals:
    return replace(given, projection=given.projection.with_name("minigpt4_noqformer.pth"))


def the_released_geometry(given: Originals, _: Path) -> Originals:
    return replace(given, geometry=None)


def an_unknown_template(given: Originals, _: Path) -> Originals:
    return replace(given, template="vicuna")


def a_language_model_that_is_a_file(given: Originals, _: Path) -> Originals:
    return replace(given, llm=given.vit)


def a_language_model_cut_short(given: Originals, folder: Path) -> Originals:
    shutil.copytree(given.llm, folder / "cut")
    weights = folder / "cut" / "model.safetensors"
    os.truncate(weights, weights.stat().st_size - 1)
    return replace(given, llm=folder / "cut")


def another_models_tokenizer(given: Originals, folder: Path) -> Originals:
    shutil.copytree(given.llm, folder / "other")
    config = json.loads((folder / "other" / "config.json").read_text()) | {"vocab_size": 800}
    (folder / "other" / "config.json").write_text(json.dumps(config))
    return replace(given, llm=folder / "other")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (a_vit_that_is_a_projection, r"minigpt4.pth is a MiniGPT-4 checkpoint .*, not an EVA ViT"),
        (a_projection_that_is_a_vit, r"eva_vit.pth is a ViT's file, not a projection"),
        (a_pickle_with_code, r"evil.pth holds code .*mkdir.*was not opened"),
        (a_truncated_checkpoint, r"cut.pth is damaged, cut off"),
        (missing_keys, r"4 tensors missing \(blocks.1.mlp"),
        (extra_keys, r"1 tensor not known \(blocks.0.attn.lora_a\)"),
        (a_projection_that_is_not_finite, r"not finite \(NaN"),
        (a_projection_without_qformer, r"its 'weight' has the shape \(16, 128\) and \(16, 24\) is wanted"),
        (the_released_geometry, r"has the shape \(16, 24\) and \(16, 768\) is wanted"),
        (an_unknown_template, r"no prompt template 'vicuna' for MiniGPT-4; did you mean 'vicuna-v0'\?"),
        (a_language_model_that_is_a_file, r"eva_vit.pth is a file; --llm takes the Hugging Face folder"),
        (a_language_model_cut_short, r"model.safetensors is damaged"),
        (another_models_tokenizer, r"has 900 tokens, but the model has only 800 embedding rows"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_wrong_is_named_and_nothing_is_left_behind(
    originals: Originals, tmp_path: Path, damage: Damage, sentence: str
) -> None:
    with pytest.raises(Minigpt4Error, match=sentence):
        import_bundle("mine", damage(originals, tmp_path))
    assert home_files() == []
    assert not (tmp_path / "the-code-ran").exists()


@pytest.mark.parametrize(("there", "wanted", "model"), [(5120, 4096, "13B"), (4096, 5120, "7B")])
def test_a_projection_for_the_other_size_is_called_by_its_name(
    originals: Originals,
    tmp_path: Path,
    write_llama: Callable[..., Path],
    there: int,
    wanted: int,
    model: str,
) -> None:
    llm = write_llama(tmp_path / "llm", width=wanted, hollow=True)
    torch.save(
        {"model": {"llama_proj.weight": torch.ones(there, 24), "llama_proj.bias": torch.ones(there)}},
        tmp_path / "minigpt4.pth",
    )
    with pytest.raises(Minigpt4Error, match=f"this projection is for the {model} model"):
        import_bundle("mine", replace(originals, llm=llm, projection=tmp_path / "minigpt4.pth"))
    assert home_files() == []
