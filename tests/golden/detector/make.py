"""Make objects.json: what OpenCV's reader of TensorFlow's graph finds in the test pictures.

For development only, with any Python that has opencv-python-headless 4 or 5, numpy and Pillow:

    PYTHONPATH=src python tests/golden/detector/make.py GRAPH.pb GRAPH.pbtxt ../shared/data/coco80/00000.tar

GRAPH.pbtxt is the text that OpenCV needs beside the graph; the package that has the graph has it too.
The photos of the archive are not kept, only what was found in them, under the SHA-256 of their files. Both
sides see the same 300 x 300 pixels: those of `squashed`.
"""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import cv2  # type: ignore[import-not-found, unused-ignore]
import numpy as np

from minigpt4.core.pixels import open_picture, squashed

SIZE = 300
ARCHIVED = 20
LEAST_SCORE = 0.2
EXAMPLES = Path(__file__).parents[3] / "examples"


def main(graph: str, text: str, archive: str) -> None:
    """Look at the shipped examples and at the first photos of the archive."""
    network = cv2.dnn.readNetFromTensorflow(graph, text)
    pictures = [path.read_bytes() for path in sorted(EXAMPLES.iterdir()) if path.suffix in {".png", ".jpg"}]
    with tarfile.open(archive) as photos:
        names = sorted(name for name in photos.getnames() if name.endswith(".jpg"))[:ARCHIVED]
        pictures += [photos.extractfile(name).read() for name in names]  # type: ignore[union-attr]
    found: dict[str, Any] = {}
    for data in pictures:
        picture = open_picture(data)
        pixels = np.asarray(squashed(picture.image, SIZE), np.float32)
        network.setInput(np.ascontiguousarray(pixels.transpose(2, 0, 1)[None]))
        found[picture.digest] = [
            # Class, score, then top, left, bottom and right as fractions.
            [int(row[1]), *(round(float(value), 5) for value in (row[2], row[4], row[3], row[6], row[5]))]
            for row in network.forward()[0, 0]
            if row[2] > LEAST_SCORE
        ]
    rows = ",\n".join(f' "{digest}": {json.dumps(objects)}' for digest, objects in found.items())
    Path(__file__).with_name("objects.json").write_text(f"{{\n{rows}\n}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
