"""The interface of both outputs for captions."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal, Protocol

from minigpt4.core.errors import Minigpt4Error

Existing = Literal["skip", "append", "overwrite"]
"""What happens to a picture that has a caption: nothing, a second one is added, or it is replaced."""


class CaptionError(Minigpt4Error):
    """The caption of one picture cannot be written; the others are not affected."""


class Output(Protocol):
    """The captions of a run. An existing caption stays until its replacement is complete."""

    def check(self, picture: Path) -> None:
        """Raise CaptionError if no caption can be written for the picture."""
        ...

    def has_caption(self, picture: Path) -> bool:
        """Whether the picture has a caption."""
        ...

    def write(self, picture: Path, caption: str) -> None:
        """Write a caption, which survives a kill once this returns; raises CaptionError or OSError."""
        ...

    def finish(self, captioned: Collection[Path]) -> None:
        """End the run, complete or not; `captioned` are the pictures that got captions."""
        ...
