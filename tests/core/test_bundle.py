"""Manifests: what they say, and what is said when they are wrong."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt4.core.bundle import SHIPPED_BUNDLES, bundle_names, load_bundle
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.home import config_home

Edit = Callable[[str, str], Path]


@pytest.fixture
def edited() -> Edit:
    """Writes mini's manifest as the user's bundle `mine`, with one passage replaced."""

    def write(old: str, new: str) -> Path:
        text = (SHIPPED_BUNDLES / "mini.toml").read_text(encoding="utf-8")
        assert text.count(old) >= 1
        manifest = config_home() / "bundles" / "mine.toml"
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(text.replace(old, new, 1), encoding="utf-8")
        return manifest

    return write


def test_mini_is_whole_and_its_parts_fit() -> None:
    mini = load_bundle("mini")
    assert [file.name for file in mini.files] == [mini.vision.file.name, mini.language.file.name]
    assert mini.projection.outputs == mini.language.width == 576
    assert mini.projection.path.is_absolute()
    assert mini.projection.path.parent == SHIPPED_BUNDLES.absolute()
    assert mini.vision.mean == (127 / 255,) * 3
    assert mini.vision.std == (128 / 255,) * 3


def test_mini_answers_greedily_unless_told_otherwise() -> None:
    assert load_bundle("mini").sampling.temperature == 0.0


def test_a_bundle_travels_to_another_process() -> None:
    mini = load_bundle("mini")
    assert pickle.loads(pickle.dumps(mini)) == mini


def test_reading_a_bundle_imports_no_torch() -> None:
    code = (
        "import sys; import minigpt4.core.fetch; from minigpt4.core.bundle import load_bundle;"
        "load_bundle('mini'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_users_bundle_stands_beside_the_shipped_ones(edited: Edit) -> None:
    manifest = edited("[vision.options]", "[vision.options]\nname = 'x'\nis_wide = true\nscale = 1.5")
    assert bundle_names() == ["mine", "mini"]
    mine = load_bundle("mine")
    own = {"name": "x", "is_wide": True, "scale": 1.5}
    assert mine.vision.options == {**load_bundle("mini").vision.options, **own}
    assert mine.projection.path == manifest.parent / "mini-projection.safetensors"


def test_the_users_bundle_takes_the_place_of_a_shipped_one(edited: Edit) -> None:
    edited("EfficientNet-Lite2, one", "My own, one").rename(config_home() / "bundles" / "mini.toml")
    assert bundle_names() == ["mini"]
    assert load_bundle("mini").summary.startswith("My own")


@pytest.mark.parametrize("name", ["minni", "Mini", "mini2"])
def test_an_unknown_name_suggests_the_nearest(name: str) -> None:
    with pytest.raises(UsageError, match=rf"no bundle '{name}'; did you mean 'mini'\?"):
        load_bundle(name)


def test_a_name_like_no_other_lists_what_there_is() -> None:
    with pytest.raises(UsageError, match="'zebra'; there is mini"):
        load_bundle("zebra")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("summary", "sumary", r"'summary' is missing \(there is 'sumary': a misspelling\?\)"),
        (
            "image_size = 260",
            "image_size = 260\nimage_seize = 1",
            r"'vision.image_seize' is not a known key; did",
        ),
        ("image_size = 260", "image_size = 260\nzzz = 1", r"'vision.zzz' is not a known key; known here: "),
        ("image_size = 260", "image_size = '260'", r"'vision.image_size' must be a whole number, not '260'"),
        ("image_size = 260", "image_size = 0", r"'vision.image_size' is 0; it must be at least 1"),
        ("image_size = 260", "image_size = true", r"'vision.image_size' must be a whole number, not True"),
        (
            "[vision.options]",
            "[vision.options]\nsides = [4]",
            r"'vision.options.sides' must be a text, a number",
        ),
        ("std = [0.5019607843137255, ", "std = [0, ", r"'vision.std' is 0; it must lie between"),
        ("mean = [0.4980392156862745, ", "mean = [", r"'vision.mean' must be a list of three numbers"),
        ("mean = [0.4980392156862745, ", "mean = [nan, ", r"'vision.mean' is nan; it must lie between"),
        ('template = "smollm2"', 'template = "vicuna"', r"'template' is 'vicuna'; known templates: smollm2"),
        ('template = "smollm2"', 'template = ""', r"'template' is empty"),
        ('kind = "wheel"', 'kind = "ftp"', r"'vision.file.sources\[0\].kind' is 'ftp'; known kinds: wheel"),
        (
            'kind = "wheel"',
            'kind = "url"\nurl = "file:///etc"',
            r"'vision.file.sources\[0\].url' is 'file:///etc'",
        ),
        (
            'kind = "wheel"',
            'kind = "path"\npath = "x"',
            r"'vision.file.sources\[0\].package' is not a known key",
        ),
        ('name = "eff', 'name = "../eff', r"'vision.file.name' is '../eff"),
        ('sha256 = "9656', 'sha256 = "xyz', r"'vision.file.sha256' is 'xyz"),
        (
            "outputs = 576",
            "outputs = 512",
            r"'projection.outputs' is 512, but 'language.width' is 576; they must agree",
        ),
        ("top_p = 0.9", "top_p = 1.5", r"'sampling.top_p' is 1.5; it must lie between 0 and 1"),
        ("[sampling]", "[samplings]", r"'samplings' is not a known key; did you mean 'sampling'\?"),
        ("[projection]", "[[projection]]", r"'projection' must be a table: \[projection\]"),
        ("[sampling]", "[sampling", r"is not valid TOML: .*line"),
    ],
)
def test_a_wrong_key_is_named_with_its_file(edited: Edit, old: str, new: str, message: str) -> None:
    manifest = edited(old, new)
    with pytest.raises(BundleError, match=rf"^{re.escape(str(manifest))}: .*{message}") as caught:
        load_bundle("mine")
    assert "\n" not in str(caught.value)


def test_sampling_may_be_left_out(edited: Edit) -> None:
    manifest = edited("[sampling]", "[sampling]")
    text = manifest.read_text(encoding="utf-8")
    manifest.write_text(text[: text.index("[sampling]")], encoding="utf-8")
    assert load_bundle("mine").sampling.max_tokens > 0


def test_a_manifest_that_is_not_text_is_said_so(edited: Edit) -> None:
    edited("grid", "grid").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match="not UTF-8 text"):
        load_bundle("mine")
