"""The base of both backends: the KV cache kept from call to call, prefill and the decoding loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BackendError, ContextError, UsageError
from minigpt4.core.language.kept_states import (
    KeptState,
    KeptStates,
    Key,
    decoded_key,
    is_decoded,
    pays,
    shared_length,
    within_whole,
)
from minigpt4.core.language.positions import Positions, positions_of
from minigpt4.core.language.sampling import Sampler
from minigpt4.core.types import PromptPiece, ResolvedSampling, Text

CHUNK = 256
"""Positions of a prompt computed at once; a 7B model takes 6 s on two cores, so a cancel interrupts them."""

END_TOKENS = ("<|im_end|>", "<|endoftext|>")
"""Control tokens that end an answer besides the model's own end token."""

Cancelled = Callable[[], bool]
"""Returns whether to stop; called between tokens, and many times during a prompt."""


class Slots(Protocol):
    """Slots for several answers that are decoded together; see `LanguageModel.slots`."""

    count: int

    positions: int
    """Most positions of a prompt and its answer in one of them."""

    def prefill(
        self, slot: int, prompt: Sequence[PromptPiece], cancelled: Cancelled
    ) -> tuple[NDArray[np.float32], int] | None:
        """Logits (V,) after a prompt, in place of what the slot held, and how many positions were computed.

        A prefix shared with any slot is reused, not computed. None if it was cancelled. Raises as
        `LanguageModel.generate`.
        """
        ...

    def step(self, tokens: Mapping[int, int]) -> dict[int, NDArray[np.float32]]:
        """Append a token to each of these slots, and return the logits (V,) after it."""
        ...

    def close(self) -> None:
        """Free the memory."""
        ...


class LanguageModel(ABC):
    """A frozen language model whose KV cache lives from one call to the next, over a backend's operations.

    `_cached` holds the keys of exactly the positions that are in the backend's KV cache, in order;
    an error while that is uncertain empties both. Positions that a prompt would evict are copied first
    if recomputing them would cost more, and restored for a prompt that shares more with the copy.
    """

    backend: ClassVar[str]
    """The backend's public name."""

    width: int
    """Width of its input embeddings."""

    context: int
    """Most positions (tokens and image embedding vectors) that a prompt and its answer may take."""

    def __init__(self, context: int) -> None:
        self.context = context
        self._cached: list[Key] = []
        # Half a context: three to five conversations about a picture, in 512 MiB for a 7B model.
        self._states = KeptStates(context // 2)
        self._computed = 0
        self._call = 0
        # Whether decoded tokens use other kernels than a prompt's, and are therefore not reused.
        self._drops_decoded = False

    @abstractmethod
    def tokenize(self, *texts: Text) -> list[int]:
        """Token ids of adjacent texts, joined first if the tokenizer's family does so.

        Only `control` text may become a control token or a separator of turns.
        """

    @abstractmethod
    def piece(self, token: int) -> bytes:
        """The bytes of a token; none for control tokens."""

    @abstractmethod
    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer."""

    @abstractmethod
    def close(self) -> None:
        """Free the model's memory; computing with it afterwards raises BackendError."""

    def beams(
        self,
        prompt: Sequence[PromptPiece],
        sampling: ResolvedSampling,
        beams: int,
        length_penalty: float = 1.0,
        stop: Sequence[str] = (),
    ) -> list[int]:
        """The answer of a beam search, without the end token.

        The search also ends when all beams end with the same one of the texts `stop`, which then stays
        in the answer. Raises BackendError if the backend has no beam search, UsageError for fewer than
        one beam or a `sampling` that is not greedy.
        """
        raise BackendError(
            "Beam search needs the torch backend: choose `--backend torch`, or leave `--beams` out."
        )

    def slots(self, count: int, positions: int) -> Slots | None:
        """Up to `count` slots for answers that are decoded together, each of so many positions.

        None if the backend decodes one answer at a time, or memory has no room for two. They share only
        the weights with the model, and must be closed before it.
        """
        return None

    @abstractmethod
    def _forward(self, positions: Positions, cancelled: Cancelled) -> NDArray[np.float32] | None:
        """Append at most CHUNK positions to the KV cache; logits (V,) after the last one.

        None if it was cancelled, which takes effect within one matrix product; some of the positions
        may then be in the cache, but nothing else has changed.
        """

    @abstractmethod
    def _crop_cache(self, length: int) -> None:
        """Remove everything from position `length` on from the KV cache."""

    @abstractmethod
    def _copy_cache(self) -> Any | None:
        """A copy of the whole KV cache in main memory; None if there is too little of it."""

    @abstractmethod
    def _restore_cache(self, copy: Any) -> bool:
        """Replace the KV cache, bit for bit, by a copy of it; False if that failed and the cache is empty."""

    @property
    def choices(self) -> Mapping[str, str]:
        """The values that the model chose while it was loaded, by option name."""
        return {}

    @property
    def computed(self) -> int:
        """Positions computed by the last `generate` or `logits` call, without cached ones."""
        return self._computed

    def reset(self) -> None:
        """Empty the KV cache, and discard the copies of it."""
        self._states.clear()
        self._empty_cache()

    def prefill(self, prompt: Sequence[PromptPiece], cancelled: Cancelled = lambda: False) -> bool:
        """Compute the beginning of a later prompt in advance; False if it was cancelled.

        Raises as `generate` does.
        """
        positions = self._positions(prompt)
        self._call += 1
        self._computed = 0
        if shared_length(self._cached, positions.keys) == len(positions):
            return True
        return self._prefill(self._reuse_cache(positions), cancelled) is not None

    def generate(
        self,
        prompt: Sequence[PromptPiece],
        sampling: ResolvedSampling,
        cancelled: Cancelled = lambda: False,
    ) -> Iterator[int]:
        """Yield token ids, without the end token, until it, `max_tokens`, a full context or a cancel.

        Only the part after the longest prefix shared with the cache, or with a copy of it, is computed;
        `cancelled` is called before every token, and about every 10 ms during the prompt.
        Raises at once, not at the first token: UsageError for an empty prompt or a setting outside
        its range, ContextError for a prompt that fills the context, BundleError for an image
        embedding of another width. A generator must not be continued after another call began.
        """
        positions = self._positions(prompt)
        sampler = Sampler(sampling)
        self._call += 1
        return self._decode(positions, sampler, sampling.max_tokens, cancelled, self._call)

    def logits(self, prompt: Sequence[PromptPiece]) -> NDArray[np.float32]:
        """Logits (V,) of the token after the prompt; raises as `generate` does."""
        positions = self._positions(prompt)
        self._call += 1
        logits_V = self._prefill(self._reuse_cache(positions), lambda: False)
        assert logits_V is not None
        return logits_V

    def log_likelihood(self, prompt: Sequence[PromptPiece], continuation: Sequence[int]) -> float:
        """The natural logarithm of the probability that the prompt is followed by these tokens.

        Only what follows the prefix shared with the cache is computed. Raises as `generate` does.
        """
        positions = self._positions(prompt)
        self._positions([*prompt, *continuation])  # so that a full context is reported before the work
        self._call += 1
        total = 0.0
        pending = self._reuse_cache(positions)
        for token in continuation:
            logits_V = self._prefill(pending, lambda: False)
            assert logits_V is not None
            logits = logits_V.astype(np.float64)
            highest = logits.max()
            total += float(logits[token] - highest - np.log(np.exp(logits - highest).sum()))
            pending = self._decoded(token)
        return total

    def trace(self, prompt: Sequence[PromptPiece]) -> tuple[NDArray[np.float32] | None, NDArray[np.float32]]:
        """The prompt's input embeddings (S, D), None if the backend does not expose them, and logits (V,).

        Raises as `generate` does.
        """
        return self._inputs(self._positions(prompt)), self.logits(prompt)

    def _inputs(self, positions: Positions) -> NDArray[np.float32] | None:
        """Input embeddings (S, D) of the positions; None if the backend does not expose them."""
        return None

    def _decode(
        self,
        prompt: Positions,
        sampler: Sampler,
        max_tokens: int,
        cancelled: Cancelled,
        call: int,
    ) -> Iterator[int]:
        self._computed = 0
        pending: Positions | None = None
        for _ in range(max_tokens):
            if call != self._call:
                raise BackendError("This answer cannot be continued: the model has begun another one.")
            if pending is None:
                pending = self._reuse_cache(prompt)
            if len(self._cached) + len(pending) > self.context:
                return
            logits_V = self._prefill(pending, cancelled)
            if logits_V is None or cancelled():
                return
            try:
                token = sampler.next(logits_V)
            except BackendError:
                self.reset()
                raise
            if self.is_end(token):
                return
            yield token
            pending = self._decoded(token)

    def _decoded(self, token: int) -> Positions:
        """A token that the model itself has generated, as the next position."""
        return Positions([decoded_key(token) if self._drops_decoded else token], [[token]])

    def _positions(self, prompt: Sequence[PromptPiece]) -> Positions:
        positions = positions_of(prompt, self.width)
        if not positions:
            raise UsageError("The prompt is empty; there is nothing to answer.")
        if len(positions) > self.context:
            raise ContextError(
                f"The prompt takes {len(positions)} positions, but the language model has {self.context}; "
                "shorten the question or attach fewer pictures."
            )
        return positions

    def _reuse_cache(self, prompt: Positions) -> Positions:
        """Make the KV cache the longest known prefix of the prompt; return the rest, to be computed.

        The last position is always recomputed, for its logits.
        """
        self._computed = 0
        keys = prompt.keys[:-1]
        shared = shared_length(self._cached, keys)
        try:
            nearest = self._states.nearest(keys)
            if nearest is not None and pays(nearest[1] - shared, copied=len(nearest[0].keys)):
                shared = self._restore(*nearest)
            else:
                self._keep_cache(shared)
            self._crop(shared - within_whole(prompt.keys[shared]))
        except BaseException:
            self._empty_cache()
            raise
        return prompt[len(self._cached) :]  # all of it, if this model's cache could only be emptied

    def _restore(self, state: KeptState, shared: int) -> int:
        """Replace the KV cache by a kept state; returns how many of its `shared` positions are usable."""
        self._states.use(state)
        self._keep_cache(0)
        self._cached.clear()
        if not self._restore_cache(state.copy):
            self._states.forget(state)
            return 0
        self._cached = list(state.keys)
        return shared

    def _keep_cache(self, remaining: int) -> None:
        """Copy the KV cache before all but its first `remaining` positions are lost, if that pays off."""
        most = self._states.most_positions
        if most < len(self._cached):
            most -= within_whole(self._cached[most])
        keys = [key for key in self._cached[:most] if not is_decoded(key)]
        nearest = self._states.nearest(keys)
        known = max(remaining, nearest[1] if nearest is not None else 0)
        if pays(len(keys) - known, copied=len(keys)):
            self._crop(len(keys))
            if (copy := self._copy_cache()) is not None:
                self._states.keep(KeptState(keys, copy))

    def _crop(self, length: int) -> None:
        if length < len(self._cached):
            del self._cached[length:]
            self._crop_cache(length)

    def _empty_cache(self) -> None:
        self._cached.clear()
        self._crop_cache(0)

    def _chunks(self, positions: Positions) -> Iterator[Positions]:
        """The positions in parts that are computed at once."""
        for start in range(0, len(positions), CHUNK):
            yield positions[start : start + CHUNK]

    def _prefill(self, positions: Positions, cancelled: Cancelled) -> NDArray[np.float32] | None:
        """Compute positions chunk by chunk, a prompt's or one decoded token; None if cancelled."""
        logits_V: NDArray[np.float32] | None = None
        for chunk in self._chunks(positions):
            if cancelled():
                return None
            try:
                logits_V = self._forward(chunk, cancelled)
                if logits_V is None:
                    self._crop_cache(len(self._cached))
                    return None
                self._cached += chunk.keys
            except BaseException:
                # Layers may disagree about their length after an interrupt or a lack of memory.
                self._empty_cache()
                raise
            self._computed += len(chunk)
        return logits_V


def encodable(text: str) -> str:
    """`text` with lone surrogates (bytes of a command line that were not UTF-8) as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
