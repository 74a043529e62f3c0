"""Decode token bytes to displayable text: whole characters, without stop strings."""

from __future__ import annotations

import codecs
from collections.abc import Iterable


class Detokenizer:
    """Decodes an answer token by token and cuts it before the first stop string.

    The results of `feed` and `finish`, joined, are the whole text up to the first stop string,
    however the bytes were split. Text that may be the beginning of a stop string is held back
    until that is decided. Invalid UTF-8 becomes U+FFFD, one for each broken character; a character
    that is incomplete when the answer ends is dropped.

    With an `opening`, white space around the answer is stripped, and so is the opening if the
    answer begins with it.
    """

    def __init__(self, stop: Iterable[str] = (), *, opening: str | None = None) -> None:
        self._stop = tuple(text for text in stop if text)
        self._stripper = None if opening is None else _Stripper(opening)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False
        """Whether a stop string has ended the answer; further bytes are ignored."""

    def feed(self, data: bytes) -> str:
        """Take the bytes of one more token; return the text that is safe to show now."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data)
        found = self._first_stop()
        partial = self._first_partial_stop()
        if found < len(self._held) and found <= partial:
            return self._cut(found)
        safe, self._held = self._held[:partial], self._held[partial:]
        return self._stripper.feed(safe) if self._stripper else safe

    def finish(self) -> str:
        """End of the answer: return what was held back, up to a stop string in it."""
        return "" if self.stopped else self._cut(self._first_stop())

    def _cut(self, end: int) -> str:
        self.stopped = end < len(self._held)
        text, self._held = self._held[:end], ""
        return self._stripper.feed(text, is_last=True) if self._stripper else text

    def _first_stop(self) -> int:
        """Start of the first whole stop string, or the length of the held text."""
        places = (self._held.find(stop) for stop in self._stop)
        return min((place for place in places if place >= 0), default=len(self._held))

    def _first_partial_stop(self) -> int:
        """Start of the first tail that more text could complete to a stop string, or the length."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for start in range(max(0, len(self._held) - longest), len(self._held)):
            tail = self._held[start:]
            if any(len(tail) < len(stop) and stop.startswith(tail) for stop in self._stop):
                return start
        return len(self._held)


class _Stripper:
    """Strips white space around a text that arrives in parts, and an opening before it."""

    def __init__(self, opening: str) -> None:
        self._opening = opening
        self._held = ""
        self._has_started = False

    def feed(self, text: str, *, is_last: bool = False) -> str:
        """The text so far that is certain to stay; white space is held until more text follows."""
        self._held += text
        if not self._has_started:
            self._held = self._held.lstrip()
            while self._opening and self._held.startswith(self._opening):
                self._held = self._held[len(self._opening) :].lstrip()
            if self._opening.startswith(self._held) and not is_last:
                return ""
            self._has_started = True
        shown = self._held.rstrip()
        self._held = self._held[len(shown) :]
        return shown
