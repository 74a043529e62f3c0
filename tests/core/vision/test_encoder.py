"""Tower and projection together, as a picture passes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import projection_path
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.pixels import open_picture, to_pixels
from minigpt4.core.vision.encoder import ImageEncoder, on_device

TOLERANCE = {"atol": 1e-5, "rtol": 0.0}


def encoder_of(bundle: Bundle) -> ImageEncoder:
    return ImageEncoder(bundle, projection_path(bundle), device="cpu", dtype="fp32")


def test_a_trace_holds_every_step_of_the_original(tiny_bundle: Callable[..., Bundle], vectors: Path) -> None:
    reference = load_file(vectors / "vision.safetensors")
    trace = encoder_of(tiny_bundle()).trace(reference["pixel_values"])
    for found, wanted in (
        ("pixels_BCHW", "pixel_values"),
        ("vision_BND", "vit_ln_out"),
        ("qformer_BND", "qformer_out"),
        ("image_BND", "image_embeds"),
    ):
        torch.testing.assert_close(torch.from_numpy(trace[found]), reference[wanted], **TOLERANCE)


def test_a_trace_without_a_qformer_has_none(tiny_bundle: Callable[..., Bundle], vectors: Path) -> None:
    reference = load_file(vectors / "vision.safetensors")
    trace = encoder_of(tiny_bundle(has_qformer=False)).trace(reference["pixel_values"])
    assert "qformer_BND" not in trace
    for found, wanted in (("vision_BND", "noqformer_vit_ln_out"), ("image_BND", "noqformer_image_embeds")):
        torch.testing.assert_close(torch.from_numpy(trace[found]), reference[wanted], **TOLERANCE)


def test_a_picture_is_encoded_as_its_pixels_are(tiny_bundle: Callable[..., Bundle], vectors: Path) -> None:
    bundle = tiny_bundle()
    encoder = encoder_of(bundle)
    picture = open_picture(vectors / "preprocess" / "rgb_wide.png")
    pixels = to_pixels(picture.image, 56, bundle.vision.mean, bundle.vision.std)
    tokens_ND = encoder(picture)
    assert tokens_ND.dtype == np.float32 and tokens_ND.shape == (4, 16)
    assert np.array_equal(tokens_ND, encoder.trace(torch.from_numpy(pixels)[None])["image_BND"][0])


@pytest.mark.parametrize("shape", [(3, 56, 56), (1, 3, 56, 57), (1, 1, 56, 56)])
def test_pixels_of_another_shape_are_refused(
    tiny_bundle: Callable[..., Bundle], shape: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match=r"reads \(pictures, 3, 56, 56\)"):
        encoder_of(tiny_bundle()).trace(torch.zeros(shape))


def test_a_tower_and_a_projection_that_do_not_fit_are_refused(tiny_bundle: Callable[..., Bundle]) -> None:
    bundle = tiny_bundle()
    wrong = dataclasses.replace(bundle.projection, image_tokens=5)
    with pytest.raises(BundleError, match=r"gives \(N, D\) = \(4, 24\) and its projection reads \(5, 24\)"):
        encoder_of(dataclasses.replace(bundle, projection=wrong))


def test_lent_weights_come_home_without_a_copy_even_after_an_error() -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    homes = [parameter.data_ptr() for parameter in network.parameters()]
    with on_device(network, "meta"):
        assert all(parameter.is_meta for parameter in network.parameters())
    assert [parameter.data_ptr() for parameter in network.parameters()] == homes
    with pytest.raises(ZeroDivisionError), on_device(network, "meta"):
        raise ZeroDivisionError
    assert [parameter.data_ptr() for parameter in network.parameters()] == homes
