"""The user's earlier questions, walked through as in a shell, and the texts that were put aside."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

MAX_LISTED = 500
"""Questions that can be walked through."""

MAX_PUT_ASIDE = 50


class QuestionHistory:
    """Walks from the text being typed, the draft, to older and older questions, and back to it."""

    def __init__(
        self, sent: Callable[[], Iterable[tuple[float, str]]], clock: Callable[[], float] = time.time
    ) -> None:
        """`sent` returns the questions that were sent, each with its time in Unix seconds."""
        self.put_aside: list[tuple[float, str]] = []
        """Texts that were not sent, the oldest first."""
        self._sent = sent
        self._clock = clock
        self._entries: list[str] = []
        self._place = -1  # of the entry that is shown; -1 is the draft
        self._draft = ""

    def keep(self, text: str) -> None:
        """Put aside a text that is neither sent nor edited further."""
        if text.strip():
            others = [one for one in self.put_aside if one[1] != text]
            self.put_aside = [*others, (self._clock(), text)][-MAX_PUT_ASIDE:]

    def earlier(self, text: str) -> str | None:
        """The question before the one shown, None at the oldest; `text` is what the composer holds."""
        self._heed_changes(text)
        if self._place < 0:
            self._draft, self._entries = text, self._list(text)
        if self._place + 1 >= len(self._entries):
            return None
        self._place += 1
        return self._entries[self._place]

    def later(self, text: str) -> str | None:
        """The question after the one shown, at last the draft; None if that is shown already."""
        self._heed_changes(text)
        if self._place < 0:
            return None
        self._place -= 1
        return self._draft if self._place < 0 else self._entries[self._place]

    def end(self) -> str:
        """End the walk, and return the draft that it started from; "" without a walk."""
        draft = self._draft if self._place >= 0 else ""
        self._place, self._draft = -1, ""
        return draft

    def shows(self, text: str) -> bool:
        """Whether the text is the earlier question that is shown, unchanged."""
        return self._place >= 0 and text == self._entries[self._place]

    def unsent(self, text: str) -> tuple[str, str]:
        """The draft, and another text that only this walk still has; `text` is what the composer holds."""
        if self.shows(text):
            return self._draft, ""
        return text, self._draft if self._place >= 0 else ""

    def _heed_changes(self, text: str) -> None:
        """End the walk if the earlier question was changed, which makes it the draft."""
        if self._place >= 0 and not self.shows(text):
            self.keep(self.end())

    def _list(self, draft: str) -> list[str]:
        """The texts from newest to oldest, without consecutive duplicates; the draft counts as the first."""
        found: list[str] = []
        for _, text in sorted([*self._sent(), *self.put_aside], key=lambda one: one[0], reverse=True):
            if text.strip() and text != (found[-1] if found else draft):
                found.append(text)
        return found[:MAX_LISTED]
