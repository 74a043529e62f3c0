"""How fast batches of photos are loaded: read, decoded, resized and normalized, or read from the cache.

python benchmarks/loading.py [--data PLACE] [--workers 2] [--batch-size 64] [--steps 60]

Without --data it creates a shard of 224-pixel JPEGs: smooth shapes with a little noise.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.train.batches.loader import Loader
from minigpt4.train.batches.run_data import RunData
from minigpt4.train.batches.samples import Sample
from minigpt4.train.batches.shuffle import Order
from minigpt4.train.data.open import open_photos
from minigpt4.train.data.subset import Selection
from minigpt4.train.features.cache import Features, FeatureSet

BUNDLE = "minigpt4-vicuna-7b"
"""Its images are 224 x 224 pixels, as in the paper."""

SIDE, PHOTOS, QUALITY = 224, 500, 90


def write_shard(path: Path) -> None:
    """Write a shard of images that compress like photographs, about 20 KB each."""
    rng = np.random.default_rng(0)
    with tarfile.open(path, "w") as archive:
        for number in range(PHOTOS):
            coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8))
            smooth = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32)
            noisy = np.clip(smooth + rng.normal(0, 8, smooth.shape), 0, 255).astype(np.uint8)
            photo = io.BytesIO()
            Image.fromarray(noisy).save(photo, "JPEG", quality=QUALITY)
            meta = json.dumps({"caption": "Shapes."}).encode()
            for suffix, content in (("jpg", photo.getvalue()), ("json", meta)):
                member = tarfile.TarInfo(f"{number:06d}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def photos_per_second(loader: Loader, batch_size: int, steps: int) -> float:
    """Photos loaded per second while nothing else runs; the first step is not counted."""
    loader.batch(0)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        loader.batch(step)
    return batch_size * steps / (time.perf_counter() - start)


def main() -> None:
    """Measure both and print the rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="your own photos, in any form that train accepts")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    vision = load_bundle(BUNDLE).vision
    with tempfile.TemporaryDirectory() as folder:
        place = arguments.data
        if place is None:
            place = str(Path(folder) / "shapes.tar")
            write_shard(Path(place))
        photos = open_photos(place)
        data = RunData((Selection(photos.name, (photos,)),), Selection("none", ()), ((photos, 1),))
        order = Order(0, [len(photos)], [1])
        # The size of a Q-Former's output: 32 vectors of 768 numbers for each photo.
        feature_set = FeatureSet(photos, 1, "none", 32, 768, vision)
        chunks = [np.ones((len(chunk.places), 1, 32, 768), np.float16) for chunk in feature_set.chunks]
        for name, features in (("decoded", None), ("cached", [Features(feature_set, chunks)])):
            loader = Loader(
                lambda number: Sample(0, order.at(number).photo, 0, (), number),
                data,
                features,
                vision,
                batch_size=arguments.batch_size,
                workers=arguments.workers,
            )
            with loader:
                rate = photos_per_second(loader, arguments.batch_size, arguments.steps)
            print(f"{name}: {rate:.0f} photos/s with {arguments.workers} workers ({len(photos)} photos)")


if __name__ == "__main__":
    main()
