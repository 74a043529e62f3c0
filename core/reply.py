"""One answer: a stream of text while it is generated, and its statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, Protocol

from minigpt4.core.chat_template.reasoning import ReasoningSplitter
from minigpt4.core.language.base import LanguageModel
from minigpt4.core.language.detokenizer import Detokenizer
from minigpt4.core.prompt import prompt_positions
from minigpt4.core.types import PromptPiece, Reasoning, ResolvedSampling

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Piece:
    """A chunk of the answer, or of the reasoning before it; never empty, and never a part of a character."""

    text: str
    is_reasoning: bool = False


class Decoder(Protocol):
    """Generates a reply's tokens: a language model, or a decoder of several answers in one batch."""

    @property
    def computed(self) -> int:
        """Positions computed for the answer."""
        ...

    def generate(
        self, prompt: Sequence[PromptPiece], sampling: ResolvedSampling, cancelled: Callable[[], bool], /
    ) -> Iterator[int]:
        """As `LanguageModel.generate`."""
        ...


class Reply:
    """An answer, generated while it is read: iterate once for its pieces, or `read()` all of it.

    Leaving the loop early, or closing the iterator, cancels; the text so far stays in `text`.
    """

    text: str
    """The text so far: the pieces joined, without reasoning."""

    reasoning: str
    """The model's reasoning before the answer, so far; it is not a part of the conversation."""

    finish: Finish | None
    """Why it ended: end token or stop string, `max_tokens` or the context, cancellation; None before."""

    prompt: Sequence[PromptPiece]

    sampling: ResolvedSampling

    stop: tuple[str, ...]
    """Texts that end the answer."""

    prompt_tokens: int
    """Positions of the prompt, image embeddings included."""

    answer_tokens: int
    """Tokens generated, without the end token."""

    computed_tokens: int
    """Positions computed for the answer, without those reused from the KV cache."""

    dropped_messages: int
    """How many of the oldest messages were dropped to fit the context; known from the start."""

    first_token_s: float | None
    """Seconds from the start of the iteration to the first token."""

    tokens_per_s: float | None
    """Speed after the first token, without the reader's own time; None for fewer than two tokens.

    Also None for a beam search, which yields all its tokens at the end.
    """

    def __init__(
        self,
        language: LanguageModel,
        prompt: Sequence[PromptPiece],
        sampling: ResolvedSampling,
        *,
        stop: Sequence[str],
        opening: str | None = None,
        reasoning: Reasoning | None = None,
        beams: int = 1,
        dropped_messages: int,
        cancelled: Callable[[], bool],
        on_start: Callable[[Generator[Piece, None, None]], None],
    ) -> None:
        """`stop`, `opening` and `reasoning` are the template's; `beams` above 1 is a beam search.

        `on_start` is called with the iterator before its first piece is generated.
        """
        self.text = self.reasoning = ""
        self.finish = None
        self.prompt_tokens = prompt_positions(prompt)
        self.answer_tokens = 0
        self.computed_tokens = 0
        self.dropped_messages = dropped_messages
        self.first_token_s = None
        self.tokens_per_s = None
        self.prompt = prompt
        self.sampling = sampling
        self.stop = tuple(stop)
        self._language = language
        self._decoder: Decoder = language
        self._clock = time.perf_counter
        self._beams = beams
        self._stream = Detokenizer(stop, opening=opening)
        self._splitter = ReasoningSplitter(reasoning)
        self._cancelled = cancelled
        self._was_cancelled = False
        self._on_start = on_start
        self._is_read = False

    def decoded_by(self, decoder: Decoder, clock: Callable[[], float]) -> None:
        """Take the tokens from another decoder; its `clock` returns the seconds when the last was ready."""
        self._decoder, self._clock = decoder, clock

    def __iter__(self) -> Iterator[Piece]:
        if self._is_read:
            raise RuntimeError("A reply can be iterated only once, and this one has been; use its `text`.")
        self._is_read = True
        pieces = self._pieces()
        self._on_start(pieces)
        return pieces

    def read(self) -> str:
        """Generate the whole answer, unless it has been read already, and return its text."""
        if not self._is_read:
            for _ in self:
                pass
        return self.text

    def _pieces(self) -> Generator[Piece, None, None]:
        finish: Finish = "cancelled"
        try:
            with closing(self._tokens()) as tokens:
                for token in tokens:
                    yield from self._append(self._stream.feed(self._language.piece(token)))
                    if self._stream.stopped:
                        break
            yield from self._append(self._stream.finish(), is_last=True)
            finish = self._finish_reason()
        finally:
            self.finish = finish
            self.computed_tokens = self._decoder.computed

    def _append(self, text: str, *, is_last: bool = False) -> Iterator[Piece]:
        for part, is_reasoning in self._splitter.feed(text, is_last=is_last):
            if is_reasoning:
                self.reasoning += part
            else:
                self.text += part
            yield Piece(part, is_reasoning)

    def _tokens(self) -> Generator[int, None, None]:
        """The generated tokens, counted and timed without the reader's own time between them."""
        spent = 0.0
        tokens = self._beam_search() if self._beams > 1 else self._sample()
        try:
            while True:
                started = self._clock()
                token = next(tokens, None)
                spent += self._clock() - started
                if token is None:
                    return
                self.answer_tokens += 1
                if self.first_token_s is None:
                    self.first_token_s = spent
                elif self._beams == 1 and spent > self.first_token_s:
                    self.tokens_per_s = (self.answer_tokens - 1) / (spent - self.first_token_s)
                yield token
        finally:
            # Not every iterator has `close`; a generator does, and stops at once.
            close = getattr(tokens, "close", None)
            if close is not None:
                close()

    def _sample(self) -> Iterator[int]:
        return self._decoder.generate(self.prompt, self.sampling, self._check_cancelled)

    def _beam_search(self) -> Iterator[int]:
        """A beam search yields nothing before its end, so a cancel is checked only before it starts."""
        if not self._check_cancelled():
            yield from self._language.beams(self.prompt, self.sampling, self._beams, stop=self.stop)

    def _check_cancelled(self) -> bool:
        self._was_cancelled = self._was_cancelled or self._cancelled()
        return self._was_cancelled

    def _finish_reason(self) -> Finish:
        if self._stream.stopped:
            return "stop"
        if self._was_cancelled:
            return "cancelled"
        return "length" if self.answer_tokens >= self.sampling.max_tokens else "stop"
