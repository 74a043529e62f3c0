"""A bundle made of LLaVA's Hugging Face folder computes what transformers computes with that folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tests.core.llava.conftest import SIZE, reference_embedding, save_llava

from minigpt4.core.bundle_making.import_llava import import_llava
from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.download.fetch import bundles_folder, projection_path
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.language.hf_load import load_causal_lm
from minigpt4.core.llava.export import export_mmproj
from minigpt4.core.memory import geometry_of, memory_needed
from minigpt4.core.pixels import open_picture
from minigpt4.core.verify.verify import verify
from minigpt4.core.vision.encoder import ImageEncoder
from minigpt4.core.weights.hf_folder import LlamaFolder

WEIGHTS = "model.safetensors"
IDS = [[1, 500, 20, 7, 31_000]]


def older_names(name: str) -> str:
    """As transformers 4 wrote them, and the hub has them."""
    return name.replace("vision_tower.", "vision_tower.vision_model.")


def newer_names(name: str) -> str:
    """As transformers has them in memory."""
    name = name.removeprefix("language_model.") if name.endswith("lm_head.weight") else name
    name = name.replace("language_model.model.", "language_model.")
    return name if name.startswith("lm_head") else f"model.{name}"


@pytest.mark.parametrize("class_row", [True, False], ids=["CLIP", "SigLIP"])
@pytest.mark.parametrize("renamed", [None, older_names, newer_names])
def test_tower_projection_and_language_model_are_transformers_own(
    tmp_path: Path, class_row: bool, renamed: Callable[[str], str] | None
) -> None:
    folder = tmp_path / "llava"
    model = save_llava(folder, class_row=class_row)
    if renamed is not None:
        tensors = {renamed(name): tensor for name, tensor in load_file(folder / WEIGHTS).items()}
        save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    bundle = import_llava("mine", folder)
    assert load_bundle("mine") == bundle
    picture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    encoder = ImageEncoder(bundle, projection_path(bundle), dtype="fp32")
    found = encoder(open_picture(Image.fromarray(picture)))
    wanted = reference_embedding(model, picture)
    assert np.abs(found - wanted).max() < 1e-5 * np.abs(wanted).max()
    with torch.no_grad():
        ids = torch.tensor(IDS)
        ours = load_causal_lm(bundle, quant="fp32")(input_ids=ids).logits
        assert torch.equal(ours, model(input_ids=ids).logits)
    assert [check for check in verify("mine") if check.state != "ok"] == []


def test_sizes_that_the_settings_omit_are_the_defaults(tmp_path: Path) -> None:
    """The hub's llava-1.5 names the few that differ."""
    folder = tmp_path / "llava"
    save_llava(folder, class_row=True)
    settings = json.loads((folder / "config.json").read_text())
    settings["text_config"] = {"model_type": "llama", "vocab_size": 32_000, "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BundleError, match="not a whole LLaMA of 32 layers"):
        LlamaFolder(folder)


def test_the_bundle_says_what_it_needs(tmp_path: Path) -> None:
    folder = tmp_path / "llava"
    save_llava(folder, class_row=True)
    bundle = import_llava("mine", folder)
    geometry = geometry_of(bundle)
    assert geometry is not None
    assert (geometry.layers, bundle.projection.layers, bundle.vision.fit) == (2, 2, "letterboxed")
    file = bundle.vision.file.bytes or 0
    assert 0 < file - memory_needed(bundle, "bf16", tower_dtype="fp32")["vision tower"] < 10_000


def change(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda settings: settings.update(values)


def change_vision(**values: Any) -> Callable[[dict[str, Any]], None]:
    return lambda settings: settings["vision_config"].update(values)


@pytest.fixture(scope="module")
def settings_of_llava(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llava")
    save_llava(folder, class_row=True)
    return folder


@pytest.mark.parametrize(
    ("spoilt", "reason"),
    [
        (change(model_type="llama"), "says 'llama'; --llava takes a folder of the kind 'llava'"),
        (change_vision(model_type="pixtral"), "a tower of the kind 'pixtral'"),
        (change(vision_feature_layer=[-2, -5]), "several layers"),
        (change(vision_feature_layer=-9), "'vision_feature_layer' is -9 of 3"),
        (change(vision_feature_select_strategy="full"), "'full', which does not fit"),
        (change(projector_hidden_act="relu"), "GELU between its layers"),
        (change(multimodal_projector_bias=False), "must have biases"),
        (change_vision(hidden_act="tanh"), "activation"),
        (change_vision(num_attention_heads=5), "does not divide the width 32"),
        (change_vision(patch_size=13), "whole patches of 13"),
        (change_vision(image_size=70), "'embeddings.position_embedding.weight' has the shape (17, 32)"),
        (change_vision(hidden_size="wide"), "wide"),
        (change(vision_config=7), "config.json"),
    ],
)
def test_another_form_is_refused_with_its_reason(
    settings_of_llava: Path, tmp_path: Path, spoilt: Callable[[dict[str, Any]], None], reason: str
) -> None:
    for path in settings_of_llava.iterdir():
        (tmp_path / path.name).symlink_to(path)
    settings = json.loads((tmp_path / "config.json").read_text())
    spoilt(settings)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(BundleError) as raised:
        import_llava("mine", tmp_path)
    assert reason in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (bundles_folder() / "mine").exists()


def test_weights_that_are_missing_or_of_another_model_are_named(
    settings_of_llava: Path, tmp_path: Path
) -> None:
    for path in settings_of_llava.iterdir():
        if path.name != WEIGHTS:
            (tmp_path / path.name).symlink_to(path)
    whole = load_file(settings_of_llava / WEIGHTS)
    first = next(name for name in whole if name.startswith("vision_tower."))
    narrow = "multi_modal_projector.linear_1.bias"
    for tensors, reason in (
        ({name: tensor for name, tensor in whole.items() if name != first}, "lacks 1 tensors"),
        (whole | {narrow: torch.zeros(7)}, "'linear_1.bias' has the shape (7,)"),
    ):
        save_file(tensors, tmp_path / WEIGHTS)
        with pytest.raises(BundleError, match=r"lacks 1|linear_1") as raised:
            import_llava("mine", tmp_path)
        assert reason in str(raised.value)


def test_names_and_folders_are_checked_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="comes with minigpt4"):
        import_llava("mini", tmp_path)
    with pytest.raises(BundleError, match=r"There is no .*config\.json"):
        import_llava("mine", tmp_path)


def test_a_folder_that_force_would_delete_is_refused() -> None:
    folder = bundles_folder() / "mine" / "llava"
    folder.mkdir(parents=True)
    with pytest.raises(UsageError, match="lies in the folder of 'mine' itself"):
        import_llava("mine", folder, force=True)
    assert folder.is_dir()


def test_other_towers_have_no_mmproj(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="a tower 'efficientnet-lite2', for which llama"):
        export_mmproj(load_bundle("mini"), tmp_path / "mmproj.gguf")
    assert list(tmp_path.iterdir()) == []
