"""Where captions go: the interface of both forms."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Literal, Protocol

from minigpt4.core.errors import Minigpt4Error

Existing = Literal["skip", "append", "overwrite"]
"""What happens to a picture that has a caption: nothing, a second one is added, or it is replaced."""


class CaptionError(Minigpt4Error):
    """The caption of one picture cannot be written; the rest may well be."""


class Output(Protocol):
    """The captions of a run. What is there stays there until its replacement is complete."""

    def check(self, picture: Path) -> None:
        """Raise CaptionError if no caption can be written for the picture."""
        ...

    def has_caption(self, picture: Path) -> bool:
        """Whether the picture has a caption."""
        ...

    def write(self, picture: Path, caption: str) -> None:
        """Keep a caption, safe from a kill when this returns; raises CaptionError or OSError."""
        ...

    def finish(self, captioned: Collection[Path]) -> None:
        """End the run, complete or not, in which these pictures got captions."""
        ...
