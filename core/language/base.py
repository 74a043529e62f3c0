"""What both backends share: the key/value cache kept from call to call, and the decoding loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BackendError, BundleError, ContextError, UsageError
from minigpt4.core.language.sampling import Sampler
from minigpt4.core.types import ImageEmbedding, PromptPiece, Sampling, Text

CHUNK = 256
"""Positions of a prompt computed between two questions whether to stop."""

END_TOKENS = ("<|im_end|>", "<|endoftext|>")
"""Control tokens that end an answer besides the model's own end token."""


class Position(NamedTuple):
    """One place in the context: a token id, or one vector of a picture.

    `key` is the id, or (image key, index); equal keys at equal places mean equal content.
    """

    key: int | tuple[str, int]
    vector_D: NDArray[np.float32] | None = None


class LanguageTrace(NamedTuple):
    """A prompt's input embeddings (S, D), None where the backend keeps them to itself, and the
    logits (V,) of the token after it."""

    inputs_SD: NDArray[np.float32] | None
    logits_V: NDArray[np.float32]


class CachedLanguageModel(ABC):
    """The LanguageModel protocol over three operations that a backend provides.

    `_slots` names, in order, exactly the positions whose keys and values are in the backend's
    cache; whatever goes wrong while that is uncertain empties both.
    """

    width: int
    context: int

    def __init__(self) -> None:
        self._slots: list[int | tuple[str, int]] = []
        self._computed = 0
        self._call = 0

    @abstractmethod
    def tokenize(self, *texts: Text) -> list[int]:
        """Token ids of texts that stand side by side; only `control` text may become a control token."""

    @abstractmethod
    def piece(self, token: int) -> bytes:
        """The bytes a token stands for; control tokens stand for none."""

    @abstractmethod
    def is_end(self, token: int) -> bool:
        """Whether the token ends an answer."""

    @abstractmethod
    def close(self) -> None:
        """Free the model's memory; computing with it afterwards raises BackendError."""

    def beams(
        self,
        prompt: Sequence[PromptPiece],
        sampling: Sampling,
        beams: int,
        length_penalty: float = 1.0,
        stop: Sequence[str] = (),
    ) -> list[int]:
        """The answer that a search over `beams` parallel ones finds, where the backend has one."""
        raise BackendError(
            "Beam search needs the torch backend: choose `--backend torch`, or leave `--beams` out."
        )

    @abstractmethod
    def _evaluate(self, positions: Sequence[Position]) -> NDArray[np.float32]:
        """Append the positions to the cache; logits (V,) after the last one."""

    @abstractmethod
    def _keep(self, length: int) -> None:
        """Drop everything in the cache from position `length` on."""

    @property
    def computed(self) -> int:
        """Positions computed by the last `generate` or `logits` call, cached ones not counted."""
        return self._computed

    def reset(self) -> None:
        """Forget the key/value cache."""
        self._slots.clear()
        self._keep(0)

    def generate(
        self,
        prompt: Sequence[PromptPiece],
        sampling: Sampling,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        """Yield token ids, without the end token, until it, `max_tokens`, a full context or a cancel.

        Raises at once, not at the first token: UsageError for an empty prompt or a setting outside
        its range, ContextError for a prompt that fills the context, BundleError for an image
        embedding of another width. A generator must not be continued after another call began.
        """
        positions = self._flatten(prompt)
        sampler = Sampler(sampling)
        self._call += 1
        return self._decode(positions, sampler, sampling.max_tokens, cancelled, self._call)

    def logits(self, prompt: Sequence[PromptPiece]) -> NDArray[np.float32]:
        """Logits (V,) of the token after the prompt; raises as `generate` does."""
        positions = self._flatten(prompt)
        self._call += 1
        logits_V = self._advance(self._reuse(positions), lambda: False)
        assert logits_V is not None
        return logits_V

    def trace(self, prompt: Sequence[PromptPiece]) -> LanguageTrace:
        """What `logits` computes, with what went into it; raises as `generate` does."""
        positions = self._flatten(prompt)
        return LanguageTrace(self._inputs(positions), self.logits(prompt))

    def _inputs(self, positions: Sequence[Position]) -> NDArray[np.float32] | None:
        """Input embeddings (S, D) of the positions, where the backend can tell them."""
        return None

    def _decode(
        self,
        positions: list[Position],
        sampler: Sampler,
        max_tokens: int,
        cancelled: Callable[[], bool],
        call: int,
    ) -> Iterator[int]:
        self._computed = 0
        pending: list[Position] | None = None
        for _ in range(max_tokens):
            if call != self._call:
                raise BackendError("This answer cannot go on: the language model has begun another one.")
            if pending is None:
                pending = self._reuse(positions)
            if len(self._slots) + len(pending) > self.context:
                return
            logits_V = self._advance(pending, cancelled)
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
            pending = [Position(token)]

    def _flatten(self, prompt: Sequence[PromptPiece]) -> list[Position]:
        positions: list[Position] = []
        for piece in prompt:
            if isinstance(piece, ImageEmbedding):
                if piece.tokens_ND.ndim != 2 or piece.tokens_ND.shape[1] != self.width:
                    raise BundleError(
                        f"An image embedding has the shape {piece.tokens_ND.shape}, but the language model "
                        f"reads vectors of width {self.width}; projection and language model do not fit."
                    )
                positions += [
                    Position((piece.key, index), vector_D) for index, vector_D in enumerate(piece.tokens_ND)
                ]
            else:
                positions.append(Position(piece))
        if not positions:
            raise UsageError("The prompt is empty; there is nothing to answer.")
        if len(positions) > self.context:
            raise ContextError(
                f"The prompt takes {len(positions)} positions, but the language model has {self.context}; "
                "shorten the question or attach fewer pictures."
            )
        return positions

    def _reuse(self, positions: list[Position]) -> list[Position]:
        """Cut the cache back to what the prompt shares with it; what is left to compute.

        The last position is always computed anew, for its logits.
        """
        shared = 0
        for slot, position in zip(self._slots, positions[:-1], strict=False):
            if slot != position.key:
                break
            shared += 1
        if shared < len(self._slots):
            del self._slots[shared:]
            try:
                self._keep(shared)
            except BaseException:
                self.reset()
                raise
        self._computed = 0
        return positions[shared:]

    def _advance(
        self, positions: Sequence[Position], cancelled: Callable[[], bool]
    ) -> NDArray[np.float32] | None:
        """Compute the positions chunk by chunk; None where cancelled in between."""
        logits_V: NDArray[np.float32] | None = None
        for start in range(0, len(positions), CHUNK):
            if cancelled():
                return None
            chunk = positions[start : start + CHUNK]
            try:
                logits_V = self._evaluate(chunk)
                self._slots += [position.key for position in chunk]
            except BaseException:
                # Layers may disagree about their length after an interrupt or a lack of memory.
                self.reset()
                raise
            self._computed += len(chunk)
        return logits_V


def encodable(text: str) -> str:
    """`text` with lone surrogates (bytes of a command line that were not UTF-8) as question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
