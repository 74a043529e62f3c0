"""Several answers decoded together by llama.cpp, each in a sequence with its own KV cache."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.errors import BackendError
from minigpt4.core.language.base import CHUNK, Cancelled
from minigpt4.core.language.kept_states import Key, decoded_key, shared_length
from minigpt4.core.language.llama_abort import ABORTED, Abort
from minigpt4.core.language.positions import ImageRun, Positions, Run
from minigpt4.core.memory import free_memory
from minigpt4.core.types import PromptPiece
from minigpt4.core.weights.llama_library import last_error

MOST_BYTES = 512 << 20
"""Most memory for the KV caches of all sequences together; a quarter of what is free, if that is less."""

Row = tuple[int, int, bool]
"""A row of a batch: its sequence, its position there, and whether its logits are needed."""


class LlamaCppSlots:
    """Sequences of one context of llama.cpp; see `Slots`.

    The attention of each sequence is computed separately, so that logits are the same bit for bit as those
    of one sequence alone. Where `LlamaCppLanguageModel` copies lone positions (LEAST_BATCH), so does this;
    the copies need no logits if other rows do. Where it drops decoded tokens, no other prompt reuses them
    here either, and the companion of a lone token (COMPANION) is in another slot.
    """

    def __init__(
        self,
        api: Any,
        context: Any,
        positions_of: Callable[[Sequence[PromptPiece]], Positions],
        *,
        count: int,
        positions: int,
        width: int,
        vocabulary_size: int,
        least_batch: int,
        drops_decoded: bool,
        needs_companion: bool,
    ) -> None:
        """`context` has `count` sequences and is freed by `close`; `positions_of` checks a prompt."""
        self.count = count
        self.positions = positions
        self._api, self._context = api, context
        self._close = weakref.finalize(self, api.llama_free, context)
        self._memory = api.llama_get_memory(context)
        self._abort = Abort(api, context)
        self._width, self._vocabulary_size = width, vocabulary_size
        self._least_batch, self._drops_decoded = least_batch, drops_decoded
        self._needs_companion = needs_companion
        self._positions_of = positions_of
        self._held: list[list[Key]] = [[] for _ in range(count)]

    @classmethod
    def open(
        cls,
        api: Any,
        model: Any,
        new_context: Callable[[int, int], Any],
        positions_of: Callable[[Sequence[PromptPiece]], Positions],
        *,
        count: int,
        positions: int,
        least_batch: int,
        drops_decoded: bool,
        needs_companion: bool,
    ) -> Self | None:
        """As many sequences of a model as memory allows, at most `count`; None for fewer than two.

        `new_context` makes a context of so many positions and sequences, or raises BackendError.
        """
        width = int(api.llama_model_n_embd(model))
        key_share = api.llama_model_n_head_kv(model) / api.llama_model_n_head(model)
        position_bytes = int(4 * api.llama_model_n_layer(model) * width * key_share)
        room = min(MOST_BYTES, (free_memory() or 4 * MOST_BYTES) // 4)
        count = min(count, room // (position_bytes * (positions + 1)))
        if count < 2:
            return None
        try:
            context = new_context(positions, count)
        except BackendError:
            return None
        return cls(
            api,
            context,
            positions_of,
            count=count,
            positions=positions,
            width=width,
            vocabulary_size=int(api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))),
            least_batch=least_batch,
            drops_decoded=drops_decoded,
            needs_companion=needs_companion,
        )

    def prefill(
        self, slot: int, prompt: Sequence[PromptPiece], cancelled: Cancelled
    ) -> tuple[NDArray[np.float32], int] | None:
        """See `Slots.prefill`."""
        positions = self._positions_of(prompt)
        shared = self._reuse(slot, positions.keys[:-1])
        held = self._held[slot]
        for start in range(shared, len(positions), CHUNK):
            for run in positions[start : start + CHUNK].runs:
                first, size = len(held), max(len(run), self._least_batch)
                is_last = first + len(run) == len(positions)
                wanted = size - self._least_batch if is_last else size
                rows = [(slot, first + row, row >= wanted) for row in range(size)]
                if not self._decode(run, rows, cancelled):
                    self._crop(slot, first)
                    return None
                held.extend(positions.keys[first : first + len(run)])
                if size > len(run):
                    self._crop(slot, len(held))
        return self._logits(len(run) - 1), len(positions) - shared

    def step(self, tokens: Mapping[int, int]) -> dict[int, NDArray[np.float32]]:
        """See `Slots.step`; slots are in ascending order, so that the library computes them in one batch."""
        if self._drops_decoded:
            return self._step_without_copies(tokens)
        copies = self._least_batch
        needs_all = len(tokens) < copies
        rows = [
            (slot, len(self._held[slot]) + copy, copy == 0 or needs_all)
            for slot in tokens
            for copy in range(copies)
        ]
        self._decode([token for token in tokens.values() for _ in range(copies)], rows)
        for slot, token in tokens.items():
            self._held[slot].append(token)
            if copies > 1:
                self._crop(slot, len(self._held[slot]))
        return {slot: self._logits(place * copies) for place, slot in enumerate(tokens)}

    def _step_without_copies(self, tokens: Mapping[int, int]) -> dict[int, NDArray[np.float32]]:
        order, companions = sorted(tokens), set[int]()
        if self._needs_companion and len(order) == 1:
            companions = {(order[0] + 1) % self.count}
            order = sorted({*order, *companions})
        lone = next(iter(tokens.values()))
        rows = [(slot, len(self._held[slot]), True) for slot in order]
        self._decode([tokens.get(slot, lone) for slot in order], rows)
        for slot, token in tokens.items():
            self._held[slot].append(decoded_key(token))
        for slot in companions:
            self._crop(slot, len(self._held[slot]))
        return {slot: self._logits(order.index(slot)) for slot in tokens}

    def close(self) -> None:
        """Free the context."""
        self._close()

    def _reuse(self, slot: int, keys: Sequence[Key]) -> int:
        """Make the slot hold the longest prefix of `keys` that any slot holds; returns its length."""
        shared = [shared_length(held, keys) for held in self._held]
        longest = max(shared)
        if shared[slot] < longest:
            # Copies the whole sequence, whose cells keep their places, in 1 % of the time of a short prompt.
            source = shared.index(longest)
            self._api.llama_memory_seq_cp(self._memory, source, slot, -1, -1)
            self._held[slot] = list(self._held[source])
        self._crop(slot, longest)
        return longest

    def _crop(self, slot: int, length: int) -> None:
        del self._held[slot][length:]
        self._api.llama_memory_seq_rm(self._memory, slot, length, -1)

    def _logits(self, row: int) -> NDArray[np.float32]:
        logits = self._api.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(logits, shape=(self._vocabulary_size,)).copy()

    def _decode(self, run: Run, rows: Sequence[Row], cancelled: Cancelled = lambda: False) -> bool:
        """Compute a run of one kind, repeated up to the number of rows; False if it was cancelled."""
        if not self._close.alive:
            raise BackendError("The language model has been closed; load it again.")
        batch = self._api.llama_batch_init(len(rows), 0 if isinstance(run, list) else self._width, 1)
        try:
            if isinstance(run, list):
                for place in range(len(rows)):
                    batch.token[place] = run[place % len(run)]
            else:
                assert not isinstance(run, ImageRun)  # a model of such images has no slots
                vectors_ND = np.ascontiguousarray(np.resize(run, (len(rows), self._width)), np.float32)
                ctypes.memmove(batch.embd, vectors_ND.ctypes.data, vectors_ND.nbytes)
            batch.n_tokens = len(rows)
            for place, (slot, position, is_wanted) in enumerate(rows):
                batch.pos[place] = position
                batch.n_seq_id[place] = 1
                batch.seq_id[place][0] = slot
                batch.logits[place] = is_wanted
            with self._abort.when(cancelled, len(rows)):
                status = self._api.llama_decode(self._context, batch)
        finally:
            self._api.llama_batch_free(batch)
        if status not in (0, ABORTED):
            raise BackendError(f"llama.cpp failed to compute {len(rows)} positions ({status}).{last_error()}")
        return bool(status == 0)
