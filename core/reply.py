"""One answer while it is being said, and what is known of it afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal

from minigpt4.core.language.detokenizer import TextStream
from minigpt4.core.prompt import prompt_positions
from minigpt4.core.types import LanguageModel, PromptPiece, Sampling

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Piece:
    """Some more of the answer's text; never empty, and never a part of a character."""

    text: str


class Reply:
    """An answer, made while it is read: iterate once for its pieces, or `read()` it whole.

    Leaving the loop early, or closing the iterator, cancels; what was said stays in `text`.
    """

    text: str
    """What has been said so far; the pieces joined."""

    finish: Finish | None
    """Why it ended: the model or a stop string, `max_tokens` or the context, a cancel; None before."""

    prompt_tokens: int
    """Positions of the prompt, pictures included."""

    answer_tokens: int
    """Tokens generated, the end token not counted."""

    computed_tokens: int
    """Positions computed for it, those found in the key/value cache not counted."""

    dropped_messages: int
    """How many of the oldest messages were left out to fit the context; known from the start."""

    first_token_s: float | None
    """Seconds from the first request for a piece to the first token."""

    tokens_per_s: float | None
    """Speed after the first token, without the time that the reader took; None under two tokens.

    None, too, for a search over beams, which gives all its tokens at its end.
    """

    def __init__(
        self,
        language: LanguageModel,
        prompt: Sequence[PromptPiece],
        sampling: Sampling,
        *,
        stop: Sequence[str],
        opening: str | None = None,
        beams: int = 1,
        dropped_messages: int,
        cancelled: Callable[[], bool],
        starting: Callable[[Generator[Piece, None, None]], None],
    ) -> None:
        """`stop` and `opening` are the prompt template's; over 1, `beams` answers are searched at once.

        `starting` is called with the iterator before its first piece is made.
        """
        self.text = ""
        self.finish = None
        self.prompt_tokens = prompt_positions(prompt)
        self.answer_tokens = 0
        self.computed_tokens = 0
        self.dropped_messages = dropped_messages
        self.first_token_s = None
        self.tokens_per_s = None
        self._language = language
        self._prompt = prompt
        self._sampling = sampling
        self._stop = tuple(stop)
        self._beams = beams
        self._stream = TextStream(stop, opening=opening)
        self._cancelled = cancelled
        self._was_cancelled = False
        self._starting = starting
        self._is_read = False

    def __iter__(self) -> Iterator[Piece]:
        if self._is_read:
            raise RuntimeError("A reply is made while it is read, and this one has been; take its `text`.")
        self._is_read = True
        pieces = self._pieces()
        self._starting(pieces)
        return pieces

    def read(self) -> str:
        """Make the whole answer, where it has not been read yet, and return its text."""
        if not self._is_read:
            for _ in self:
                pass
        return self.text

    def _pieces(self) -> Generator[Piece, None, None]:
        finish: Finish = "cancelled"
        try:
            with closing(self._tokens()) as tokens:
                for token in tokens:
                    yield from self._say(self._stream.feed(self._language.piece(token)))
                    if self._stream.stopped:
                        break
            yield from self._say(self._stream.finish())
            finish = self._reason()
        finally:
            self.finish = finish
            self.computed_tokens = self._language.computed

    def _say(self, text: str) -> Iterator[Piece]:
        if text:
            self.text += text
            yield Piece(text)

    def _tokens(self) -> Generator[int, None, None]:
        """The generated tokens, counted and timed, without the time the reader takes between them."""
        spent = 0.0
        tokens = self._searched() if self._beams > 1 else self._sampled()
        try:
            while True:
                begun = time.perf_counter()
                token = next(tokens, None)
                spent += time.perf_counter() - begun
                if token is None:
                    return
                self.answer_tokens += 1
                if self.first_token_s is None:
                    self.first_token_s = spent
                elif self._beams == 1 and spent > self.first_token_s:
                    self.tokens_per_s = (self.answer_tokens - 1) / (spent - self.first_token_s)
                yield token
        finally:
            # The protocol promises only an iterator; a generator also has `close`, and stops at once.
            close = getattr(tokens, "close", None)
            if close is not None:
                close()

    def _sampled(self) -> Iterator[int]:
        return self._language.generate(self._prompt, self._sampling, self._asked)

    def _searched(self) -> Iterator[int]:
        """A search has no token before its last; a cancel is heeded before it begins."""
        if not self._asked():
            yield from self._language.beams(self._prompt, self._sampling, self._beams, stop=self._stop)

    def _asked(self) -> bool:
        self._was_cancelled = self._was_cancelled or self._cancelled()
        return self._was_cancelled

    def _reason(self) -> Finish:
        if self._stream.stopped:
            return "stop"
        if self._was_cancelled:
            return "cancelled"
        return "length" if self.answer_tokens >= self._sampling.max_tokens else "stop"
