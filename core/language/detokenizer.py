"""From the bytes of tokens to text that may be shown: whole characters, and no stop strings."""

from __future__ import annotations

import codecs
from collections.abc import Iterable


class TextStream:
    """Decodes an answer piece by piece and cuts it before the first stop string.

    What `feed` and `finish` return, joined, is the whole text up to where the first stop
    string begins, however the bytes were divided. Text that may be the beginning of a stop
    string is held back until that is decided. Bytes that are no UTF-8 become U+FFFD, one for
    each broken character; a character that is incomplete when the answer ends is dropped.

    With an `opening`, white space around the answer is left out, and so is the opening where the
    answer begins with it.
    """

    def __init__(self, stop: Iterable[str] = (), *, opening: str | None = None) -> None:
        self._stop = tuple(text for text in stop if text)
        self._edges = None if opening is None else _Edges(opening)
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self.stopped = False
        """Whether a stop string has ended the answer; what is fed from then on is ignored."""

    def feed(self, data: bytes) -> str:
        """Take the bytes of one more token; return the text that is safe to show now."""
        if self.stopped:
            return ""
        self._held += self._decoder.decode(data)
        found = self._first_stop()
        hopeful = self._first_beginning()
        if found < len(self._held) and found <= hopeful:
            return self._cut(found)
        safe, self._held = self._held[:hopeful], self._held[hopeful:]
        return self._edges.feed(safe) if self._edges else safe

    def finish(self) -> str:
        """The answer is over: return what was held back, unless a stop string is in it."""
        return "" if self.stopped else self._cut(self._first_stop())

    def _cut(self, end: int) -> str:
        self.stopped = end < len(self._held)
        text, self._held = self._held[:end], ""
        return self._edges.feed(text, is_last=True) if self._edges else text

    def _first_stop(self) -> int:
        """Where the first whole stop string begins, or the length of the held text."""
        places = (self._held.find(stop) for stop in self._stop)
        return min((place for place in places if place >= 0), default=len(self._held))

    def _first_beginning(self) -> int:
        """Where the first tail begins that more text could make a stop string, or the length."""
        longest = max((len(stop) for stop in self._stop), default=1) - 1
        for start in range(max(0, len(self._held) - longest), len(self._held)):
            tail = self._held[start:]
            if any(len(tail) < len(stop) and stop.startswith(tail) for stop in self._stop):
                return start
        return len(self._held)


class _Edges:
    """Leaves out white space around a text that comes in parts, and an opening before it."""

    def __init__(self, opening: str) -> None:
        self._opening = opening
        self._held = ""
        self._has_begun = False

    def feed(self, text: str, *, is_last: bool = False) -> str:
        """What of the text so far is certain to stay; white space waits for what follows it."""
        self._held += text
        if not self._has_begun:
            self._held = self._held.lstrip()
            while self._opening and self._held.startswith(self._opening):
                self._held = self._held[len(self._opening) :].lstrip()
            if self._opening.startswith(self._held) and not is_last:
                return ""
            self._has_begun = True
        shown = self._held.rstrip()
        self._held = self._held[len(shown) :]
        return shown
