"""Copies of the KV cache for prompts that recur: other conversations, branches, edited questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from minigpt4.core.memory import free_memory

Key = int | tuple[str, int] | tuple[str, int, int]
"""Content of one position: a token id, or (image key, index of the vector); equal keys mean equal content.

A negative token id marks a decoded token, see `decoded_key`.

A third item is the number of positions of an indivisible image, which is computed and dropped as a whole.
"""

LEAST_GAIN = 32
"""Fewest positions worth a copy: fewer than a turn's marks and a short question take."""

COPIED_AT_ONCE = 32
"""How many positions are copied in the time of computing one, with a wide margin.

A state may be kept in vain, so this is a fraction of the measured number: 210 for mini in processor time of
one core with AVX-512 (copied in 21 us and restored in 9, computed in 6.4 ms). For a 7B model in Q4_0 it is
estimated as 100: 512 KiB at 5 GB/s, twice, against 22 ms.
"""

FREE_TIMES = 4
"""A copy is made only while this many times its size is free in memory."""


@dataclass(frozen=True, eq=False)
class KeptState:
    """A backend's copy of its KV cache, and the keys of the positions in it."""

    keys: list[Key]
    copy: Any


class KeptStates:
    """States of at most `most_positions` positions in all; the least recently used is dropped first.

    All positions of a model take the same memory, so this bounds the bytes.
    """

    def __init__(self, most_positions: int) -> None:
        self.most_positions = most_positions
        self._states: list[KeptState] = []  # the most recently used is last

    @property
    def positions(self) -> int:
        """Positions in all states together."""
        return sum(len(state.keys) for state in self._states)

    def nearest(self, keys: Sequence[Key]) -> tuple[KeptState, int] | None:
        """The state that shares the longest prefix with `keys`, and the prefix's length."""
        shared = [(shared_length(state.keys, keys), state) for state in self._states]
        length, state = max(shared, key=lambda one: one[0], default=(0, None))
        return (state, length) if state is not None else None

    def keep(self, state: KeptState) -> None:
        """Keep a state of at most `most_positions` in place of states that are prefixes of it."""
        size = len(state.keys)
        self._states = [one for one in self._states if shared_length(one.keys, state.keys) < len(one.keys)]
        while self._states and self.positions + size > self.most_positions:
            del self._states[0]
        self._states.append(state)

    def use(self, state: KeptState) -> None:
        """Make a state the most recently used one."""
        self._states.remove(state)
        self._states.append(state)

    def forget(self, state: KeptState) -> None:
        """Drop a state, if it is still there."""
        self._states = [one for one in self._states if one is not state]

    def clear(self) -> None:
        """Drop all states."""
        self._states.clear()


def decoded_key(token: int) -> Key:
    """The key of a decoded token that was computed differently from a prompt's token: no prompt has it."""
    return ~token


def is_decoded(key: Key) -> bool:
    """Whether `decoded_key` made this key."""
    return isinstance(key, int) and key < 0


def within_whole(key: Key) -> int:
    """How many keys before this one its indivisible image begins; 0 if it belongs to none."""
    return key[1] if isinstance(key, tuple) and len(key) == 3 else 0


def pays(gained: int, *, copied: int) -> bool:
    """Whether saving the computation of `gained` positions is worth a copy of `copied`."""
    return gained >= LEAST_GAIN and gained * COPIED_AT_ONCE >= copied


def has_room(size: int) -> bool:
    """Whether a copy of `size` bytes leaves enough memory free."""
    free = free_memory()
    return free is None or size * FREE_TIMES <= free


def shared_length(one: Sequence[object], other: Sequence[object]) -> int:
    """The length of the common prefix of keys, or pieces of a prompt."""
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
