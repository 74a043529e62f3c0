"""A MiniGPT-4 of a few thousand weights, in the forms of the released files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import (
    Bundle,
    LanguageSpec,
    ProjectionSpec,
    QFormerSpec,
    VisionSpec,
    load_bundle,
)
from minigpt4.core.bundles.geometry import QFormerGeometry
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import path_of
from minigpt4.core.types import ResolvedSampling

VECTORS = Path(__file__).parents[1] / "golden"
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class TinyWeights:
    """The reference's tiny weights and their geometry, as a manifest's options."""

    vit: Path
    qformer: Path
    projection: Path
    projection_without_qformer: Path
    vision_options: dict[str, int]
    qformer_geometry: QFormerGeometry
    image_size: int


@pytest.fixture(scope="session")
def mini(mini_home: Path) -> Bundle:
    """The shipped bundle, its files here."""
    return load_bundle("mini")


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of vectors that the original code made."""
    return VECTORS


@pytest.fixture(scope="session")
def tiny_weights(vectors: Path) -> TinyWeights:
    config = json.loads((vectors / "tiny_config.json").read_text())
    vision, qformer = config["vision"], config["qformer"]
    return TinyWeights(
        vit=vectors / "eva_vit.pth",
        qformer=vectors / "blip2_pretrained.pth",
        projection=vectors / "minigpt4.pth",
        projection_without_qformer=vectors / "minigpt4_noqformer.pth",
        vision_options={
            "width": vision["embed_dim"],
            "depth": vision["depth"],
            "heads": vision["num_heads"],
            "mlp": int(vision["embed_dim"] * vision["mlp_ratio"]),
            "patch": vision["patch_size"],
        },
        qformer_geometry=QFormerGeometry(
            queries=qformer["num_query_tokens"],
            width=qformer["hidden_size"],
            layers=qformer["num_hidden_layers"],
            heads=qformer["num_attention_heads"],
            mlp=qformer["intermediate_size"],
            cross_attention_every=qformer["cross_attention_freq"],
        ),
        image_size=vision["img_size"],
    )


@pytest.fixture
def tiny_bundle(tiny_weights: TinyWeights) -> Callable[..., Bundle]:
    """A bundle whose vision files are there; `has_qformer=False` for the form that joins four patches."""

    def build(*, has_qformer: bool = True) -> Bundle:
        vit, qformer = File("eva_vit.pth", None, None, ()), File("blip2.pth", None, None, ())
        options = dict(tiny_weights.vision_options)
        if not has_qformer:
            options["patches_joined"] = 4
        bundle = Bundle(
            name="tiny",
            summary="A small one",
            license="none",
            vision=VisionSpec("eva-vit-g", vit, tiny_weights.image_size, CLIP_MEAN, CLIP_STD, options),
            qformer=QFormerSpec(qformer, tiny_weights.qformer_geometry) if has_qformer else None,
            projection=ProjectionSpec(
                tiny_weights.projection if has_qformer else tiny_weights.projection_without_qformer,
                file=None,
                inputs=24 if has_qformer else 128,
                outputs=16,
                image_tokens=4,
            ),
            language=LanguageSpec("llama", 64, 16, files=()),
            template="smollm2",
            sampling=ResolvedSampling(),
        )
        for file, source in ((vit, tiny_weights.vit), (qformer, tiny_weights.qformer)):
            place = path_of(file, bundle)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
        return bundle

    return build


@pytest.fixture
def mini_without_detector(mini_home: Path) -> Bundle:
    """mini's tower and language model alone, with the files of mini."""
    return replace(load_bundle("mini-without-detector"), name="mini")
