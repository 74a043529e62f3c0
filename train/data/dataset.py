"""A set of photos with captions, wherever they lie, and what makes a caption usable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from minigpt4.core.errors import DataError

CAPTION_LIMIT = 20_000
"""Characters. No recipe reads more than a few thousand, and what is longer is a page that was taken
for a caption; it would be turned into tokens whole before all but the first were cut off."""


class PhotoError(DataError):
    """One photo cannot be used; `reason` is a short phrase. The others of its set may well be."""

    def __init__(self, name: str, key: str, reason: str) -> None:
        super().__init__(f"The photo '{key}' of '{name}' cannot be used: {reason}.")
        self.name, self.key, self.reason = name, key, reason


class PhotoSet(Protocol):
    """Photos with captions, each at a place from 0. Reading is safe from several threads."""

    @property
    def name(self) -> str:
        """What a person calls it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Another one whenever a photo or a caption is another; the same wherever the set lies."""
        ...

    def __len__(self) -> int: ...

    def key(self, place: int) -> str:
        """The photo's name in the set."""
        ...

    def meta(self, place: int) -> Mapping[str, Any]:
        """What is known of the photo; `captions_in` finds at least one caption in it.

        Raises PhotoError where there is none.
        """
        ...

    def read(self, place: int) -> bytes:
        """The encoded picture (JPEG or the like). Raises PhotoError where it cannot be read."""
        ...


def captions_in(meta: Mapping[str, Any]) -> tuple[str, ...]:
    """The usable captions that a photo's metadata holds, possibly none: `captions`, or else `caption`."""
    return tuple(text.strip() for text in _texts(meta) if fault_of(text) is None)


def lacks_captions(meta: Mapping[str, Any]) -> str:
    """Why `captions_in` found none, as a short phrase."""
    faults = (fault_of(text) for text in _texts(meta))
    return next((fault for fault in faults if fault not in (None, NO_CAPTION)), None) or NO_CAPTION


def fault_of(text: Any) -> str | None:
    """What is wrong with a caption, as a short phrase; None where it can be learnt."""
    if not isinstance(text, str) or not text.strip():
        return NO_CAPTION
    if len(text) > CAPTION_LIMIT:
        return f"a caption of {len(text)} characters, more than {CAPTION_LIMIT}"
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a half of a surrogate pair, or bytes that were no UTF-8
        return "a caption that is not UTF-8"
    return None


NO_CAPTION = "no caption"


def _texts(meta: Mapping[str, Any]) -> Iterable[Any]:
    captions = meta.get("captions")
    return captions if isinstance(captions, list | tuple) else [meta.get("caption")]
