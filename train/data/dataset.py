"""The interface of photo sets, and the check of captions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from minigpt4.core.errors import DataError
from minigpt4.train.events import PhotoSkipped

CAPTION_LIMIT = 20_000
"""Characters. No recipe reads more than a few thousand, and a longer text is a page mistaken for a
caption, all of which would be tokenized before it is truncated."""

NO_CAPTION = "no caption"

SHOWN = 40
"""Characters of an invalid value that are shown with its fault."""

MOST_REASONS = 3
"""The most reasons in the error that no photo is usable."""


class PhotoError(DataError):
    """One photo cannot be used; `reason` is a short phrase. The rest of its set may well be usable."""

    def __init__(self, name: str, key: str, reason: str) -> None:
        super().__init__(f"The photo '{key}' of '{name}' cannot be used: {reason}.")
        self.name, self.key, self.reason = name, key, reason


class PhotoSet(Protocol):
    """Photos with captions, indexed from 0. Reading is safe from several threads."""

    @property
    def name(self) -> str:
        """The name for display."""
        ...

    @property
    def fingerprint(self) -> str:
        """A hash of the photos and captions, independent of where they are stored."""
        ...

    def __len__(self) -> int: ...

    def key(self, index: int) -> str:
        """The photo's name in the set."""
        ...

    def meta(self, index: int) -> Mapping[str, Any]:
        """The photo's metadata, in which `captions_in` finds at least one caption.

        Raises PhotoError if there is none.
        """
        ...

    def content(self, index: int) -> Mapping[str, Any]:
        """The photo's metadata, with or without captions; raises PhotoError if it cannot be read."""
        ...

    def read(self, index: int) -> bytes:
        """The encoded image (JPEG or the like). Raises PhotoError if it cannot be read."""
        ...


def captions_in(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The usable captions in a photo's metadata, possibly none: `captions`, or else `caption`.

    Either may be one text or a list of texts.
    """
    return tuple(text.strip() for text in _texts(meta) if _fault(text) is None)


def lacks_captions(meta: Mapping[str, Any]) -> str:
    """Why `captions_in` found none, as a short phrase."""
    return next(iter(caption_faults(meta)), NO_CAPTION)


def caption_faults(meta: Mapping[str, Any]) -> list[str]:
    """What is wrong with the captions that `captions_in` leaves out, except for empty ones."""
    faults = (_fault(text) for text in _texts(meta))
    return [fault for fault in faults if fault not in (None, NO_CAPTION)]


def _fault(text: Any) -> str | None:
    """What is wrong with a caption, as a short phrase; None if it is usable."""
    if text is None or (isinstance(text, str) and not text.strip()):
        return NO_CAPTION
    if not isinstance(text, str):
        shown = json.dumps(text, default=repr)
        return f"a caption that is not a text: {shown[:SHOWN]}{'...' if len(shown) > SHOWN else ''}"
    if len(text) > CAPTION_LIMIT:
        return f"a caption of {len(text)} characters, more than {CAPTION_LIMIT}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # half of a surrogate pair, or bytes that were not UTF-8
        return "a caption that is not UTF-8"
    return None


def _texts(meta: Mapping[str, Any]) -> list[Any] | tuple[Any, ...]:
    captions = meta.get("captions")
    if isinstance(captions, list | tuple):
        return captions
    single = meta.get("caption", captions)
    return single if isinstance(single, list | tuple) else [single]


def first_reasons(skipped: Iterable[PhotoSkipped]) -> str:
    """The first photo of each reason, as the end of the error that no photo is usable; "" without any."""
    by_reason: dict[str, str] = {}
    for one in skipped:
        by_reason.setdefault(one.reason, one.key)
        if len(by_reason) == MOST_REASONS:
            break
    return "".join(f"; of '{key}': {reason}" for reason, key in by_reason.items())
