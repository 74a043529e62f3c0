"""Answers to many conversations, decoded together where the backend can.

A decoding step reads all weights of the language model, whether for one answer or for eight: with eight, mini
takes 15 ms of processor time per token, with one 26. The steps are also larger, which two threads share
better. Each answer equals that of `Engine.reply` bit for bit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import Minigpt4Error
from minigpt4.core.language.base import LanguageModel, Slots
from minigpt4.core.language.detokenizer import Detokenizer
from minigpt4.core.language.sampling import Sampler
from minigpt4.core.prompt import Message
from minigpt4.core.reply import Reply
from minigpt4.core.types import PromptPiece, ResolvedSampling, Sampling

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine

SLOTS = 8
"""Answers decoded together. With sixteen, mini takes as much processor time per answer."""

BEGUN_AT_ONCE = 2
"""Most prompts computed between two tokens of the answers."""

UNREAD = 2 * SLOTS
"""Most answers begun before the first of them is read."""

Asked = Sequence[Message] | Minigpt4Error
"""A conversation, or the error that keeps it from being asked."""


def replies(
    engine: Engine,
    conversations: Iterable[Asked],
    sampling: Sampling | None = None,
    *,
    beams: int = 1,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generator[Reply | Minigpt4Error, None, None]:
    """A reply to each conversation, in order, to be read before the next one is taken.

    An error among the conversations, or one that a conversation causes (see `Engine.reply`), takes its place.
    Conversations are taken when there is room to answer them. Nothing is decoded once `cancelled` is true.
    """

    def reply(asked: Asked) -> Reply | Minigpt4Error:
        if isinstance(asked, Minigpt4Error):
            return asked
        try:
            return engine.reply(asked, sampling, beams=beams, cancelled=cancelled)
        except Minigpt4Error as error:
            return error

    made = map(reply, conversations)
    first = deque[Reply | Minigpt4Error]()
    slots = None
    for one in made:
        first.append(one)
        if isinstance(one, Minigpt4Error):
            continue
        if isinstance(one, Reply) and beams == 1:
            slots = engine.language.slots(SLOTS, one.prompt_tokens + one.sampling.max_tokens)
        break
    if slots is None:
        yield from chain(first, made)
        return
    with closing(slots):
        yield from _Batch(engine.language, slots, chain(first, made), cancelled).replies()


class _Batch:
    """The answers that are being decoded, and those that are waiting to be read."""

    def __init__(
        self,
        language: LanguageModel,
        slots: Slots,
        waiting: Iterator[Reply | Minigpt4Error],
        cancelled: Callable[[], bool],
    ) -> None:
        self.language = language
        self._slots = slots
        self._free = list(range(slots.count))
        self._active: dict[int, _Answer] = {}
        self._waiting = waiting
        self._unread: deque[Reply | Minigpt4Error] = deque()
        self._cancelled = cancelled

    def replies(self) -> Iterator[Reply | Minigpt4Error]:
        """The replies, in order."""
        while True:
            if not self._unread:
                self._begin_next()
            if not self._unread:
                return
            yield self._unread.popleft()

    def advance(self) -> None:
        """Decode one more token of each answer, and begin a few more, so that the first need not wait."""
        for _ in range(BEGUN_AT_ONCE):
            if self._free and len(self._unread) < UNREAD:
                self._begin_next()
        last = {slot: answer.tokens[-1] for slot, answer in sorted(self._active.items())}
        for slot, logits_V in self._slots.step(last).items():
            self._active[slot].computed += 1
            self._take(slot, self._active.pop(slot), logits_V)

    def _begin_next(self) -> None:
        reply = None if self._cancelled() else next(self._waiting, None)
        if reply is None:
            return
        self._unread.append(reply)
        if not isinstance(reply, Reply):
            return
        # An answer longer than the first, for which the slots were sized, is decoded alone.
        if self._free and reply.prompt_tokens + reply.sampling.max_tokens <= self._slots.positions:
            answer = _Answer(self, reply)
            reply.decoded_by(answer, answer.clock)
            slot = self._free.pop()
            computed = self._slots.prefill(slot, reply.prompt, self._cancelled)
            if computed is None:
                answer.is_done = True
                self._free.append(slot)
            else:
                logits_V, answer.computed = computed
                self._take(slot, answer, logits_V)

    def _take(self, slot: int, answer: _Answer, logits_V: NDArray[np.float32]) -> None:
        answer.take(logits_V)
        if answer.is_done:
            self._free.append(slot)
        else:
            self._active[slot] = answer


class _Answer:
    """The tokens of one answer, decoded with others and later read by its `Reply`."""

    def __init__(self, batch: _Batch, reply: Reply) -> None:
        self.tokens: list[int] = []
        self.is_done = False
        self.computed = 0
        self._batch = batch
        self._sampler = Sampler(reply.sampling)
        self._most = reply.sampling.max_tokens
        # Like the reply's own, which gets tokens only when it is read: this one stops in time.
        self._text = Detokenizer(reply.stop)
        self._begun = time.perf_counter()
        self._times: list[float] = []
        self._read = 0

    def take(self, logits_V: NDArray[np.float32]) -> None:
        """Choose the next token from its logits (V,)."""
        token = self._sampler.next(logits_V)
        if self._batch.language.is_end(token):
            self.is_done = True
            return
        self.tokens.append(token)
        self._times.append(time.perf_counter() - self._begun)
        self._text.feed(self._batch.language.piece(token))
        self.is_done = self._text.stopped or len(self.tokens) == self._most

    def generate(
        self, _prompt: Sequence[PromptPiece], _sampling: ResolvedSampling, cancelled: Callable[[], bool]
    ) -> Iterator[int]:
        """As `LanguageModel.generate`."""
        while not cancelled():
            while self._read == len(self.tokens) and not self.is_done:
                self._batch.advance()
            if self._read == len(self.tokens):
                return
            self._read += 1
            yield self.tokens[self._read - 1]

    def clock(self) -> float:
        """When the last token that was read was decoded: seconds since the answer was begun."""
        return self._times[self._read - 1] if self._read else 0.0
