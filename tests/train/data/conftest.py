"""Small photos, and tar files of them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from minigpt4.train.events import Event, PhotoSkipped


def jpeg(colour: str) -> bytes:
    """A photo of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, "JPEG")
    return file.getvalue()


class Events:
    """Records the reported events."""

    def __init__(self) -> None:
        self.reported: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.reported.append(event)

    @property
    def skipped(self) -> list[tuple[str, str]]:
        """Keys and reasons."""
        return [(event.key, event.reason) for event in self.reported if isinstance(event, PhotoSkipped)]


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def photo() -> Callable[[str], bytes]:
    return jpeg


@pytest.fixture
def write_tar(tmp_path: Path) -> Callable[..., Path]:
    """Write a tar below `tmp_path` of these members, in this order."""

    def write(name: str, files: Sequence[tuple[str, bytes]]) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with tarfile.open(path, "w") as archive:
            for member_name, content in files:
                member = tarfile.TarInfo(member_name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        return path

    return write


@pytest.fixture
def sample() -> Callable[..., list[tuple[str, bytes]]]:
    """The members of one sample: its photo, and its captions as JSON."""

    def members(key: str, *captions: object, **more: Any) -> list[tuple[str, bytes]]:
        meta: Mapping[str, Any] = {"captions": captions, **more}
        return [(f"{key}.jpg", jpeg("red") + key.encode()), (f"{key}.json", json.dumps(meta).encode())]

    return members
