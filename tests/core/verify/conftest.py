"""An imported bundle that tests may damage."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from minigpt4.core.bundle_making.import_bundle import Originals, import_bundle
from minigpt4.core.bundles.bundle import Bundle, load_bundle, manifest_path, write_manifest
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import bundles_folder


@pytest.fixture
def mine(vectors: Path, tmp_path: Path, write_llama: Callable[..., Path]) -> Bundle:
    """The reference's tiny towers with a LLaMA in the folder `vicuna`."""
    originals = Originals(
        vit=vectors / "eva_vit.pth",
        qformer=vectors / "blip2_pretrained.pth",
        projection=vectors / "minigpt4.pth",
        llm=write_llama(tmp_path / "vicuna"),
        template="vicuna-v0",
        geometry=vectors / "tiny_config.json",
    )
    return import_bundle("mine", originals)


Rewrite = Callable[..., None]


@pytest.fixture
def rewrite(mine: Bundle) -> Rewrite:
    """Change the tensors of one of the bundle's files; the manifest then has the new file's checksum."""

    def change(name: str, damage: Callable[[dict[str, torch.Tensor]], None]) -> None:
        path = bundles_folder() / mine.name / name
        tensors = load_file(path)
        damage(tensors)
        path.unlink()
        save_file(tensors, path)
        content = path.read_bytes()
        file = File(name, len(content), hashlib.sha256(content).hexdigest(), ())
        bundle = load_bundle(mine.name)
        parts = {
            "vision.safetensors": lambda: replace(bundle, vision=replace(bundle.vision, file=file)),
            "projection.safetensors": lambda: replace(
                bundle, projection=replace(bundle.projection, file=file)
            ),
        }
        write_manifest(parts[name](), manifest_path(mine.name))

    return change
