"""Separate a reasoning model's thoughts from its answer while both are generated."""

from __future__ import annotations

from collections.abc import Iterator

from minigpt4.core.types import Reasoning

MARKS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"))
"""Delimiters of reasoning: Qwen, DeepSeek, GLM and most others; Mistral's Magistral; Kimi-VL."""


class ReasoningSplitter:
    """Splits text that arrives in chunks; the chunk boundaries do not change the result.

    Reasoning comes before the answer, if at all: marks within an answer are a part of it. White space
    around the marks is dropped. Without an end mark everything is reasoning.
    """

    def __init__(self, reasoning: Reasoning | None) -> None:
        """`reasoning` None: everything is the answer."""
        self._marks = reasoning.marks if reasoning else ()
        self._close = reasoning.closing if reasoning else ""
        self._is_undecided = bool(self._marks) and not self._close
        self._held = ""
        self._waits_for_text = bool(self._close)

    def feed(self, text: str, *, is_last: bool = False) -> Iterator[tuple[str, bool]]:
        """The parts that are certain by now, never empty, and whether each is reasoning."""
        self._held += text
        if self._is_undecided:
            self._decide(is_last)
        if self._is_undecided:
            return
        if self._close:
            yield from self._reasoning(is_last)
        if not self._close:
            yield from self._shown(self._held, is_reasoning=False)
            self._held = ""

    def _decide(self, is_last: bool) -> None:
        """Decide whether the text begins with reasoning, as soon as that is certain."""
        begun = self._held.lstrip()
        opened = next((marks for marks in self._marks if begun.startswith(marks[0])), None)
        if opened is not None:
            self._close, self._waits_for_text = opened[1], True
            self._held = begun.removeprefix(opened[0])
        elif not is_last and any(opening.startswith(begun) for opening, _ in self._marks):
            return
        self._is_undecided = False

    def _reasoning(self, is_last: bool) -> Iterator[tuple[str, bool]]:
        """The held text, up to the end mark or to a possible beginning of it."""
        before, mark, after = self._held.partition(self._close)
        if mark:
            yield from self._shown(before.rstrip(), is_reasoning=True)
            self._held, self._close, self._waits_for_text = after, "", True
            return
        end = len(before) if is_last else _end_before(before, self._close)
        shown = before[:end].rstrip()
        yield from self._shown(shown, is_reasoning=True)
        self._held = "" if is_last else before[len(shown) :]

    def _shown(self, text: str, *, is_reasoning: bool) -> Iterator[tuple[str, bool]]:
        if self._waits_for_text:
            text = text.lstrip()
        if text:
            self._waits_for_text = False
            yield text, is_reasoning


def _end_before(text: str, mark: str) -> int:
    """Where the longest suffix of `text` that is a prefix of `mark` begins; `len(text)` if there is none."""
    lengths = range(min(len(mark) - 1, len(text)), 0, -1)
    return len(text) - next((length for length in lengths if text.endswith(mark[:length])), 0)
