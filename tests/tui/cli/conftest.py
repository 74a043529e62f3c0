"""What tests of training and of the ablations share: photos that take next to no time to learn from."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image

CAPTIONS = ("A {} square.", "A square that is {}.", "This is a {} square.")
COLOURS = ("red", "green", "blue", "white", "black", "orange")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Squares of one colour, where the recipes look for people's photos."""
    for name in ("train", "val"):
        folder = tmp_path / "data" / "flickr8k" / name
        folder.mkdir(parents=True)
        with tarfile.open(folder / "00000.tar", "w") as archive:
            for place, colour in enumerate(COLOURS):
                photo = io.BytesIO()
                Image.new("RGB", (32, 32), colour).save(photo, "JPEG")
                meta = json.dumps({"captions": [caption.format(colour) for caption in CAPTIONS]})
                for suffix, content in (("jpg", photo.getvalue()), ("json", meta.encode())):
                    member = tarfile.TarInfo(f"{name}{place}.{suffix}")
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
    return tmp_path / "data"
