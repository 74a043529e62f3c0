"""The validation split: decided by the keys alone, disjoint from training, never empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.errors import DataError
from minigpt4.train.data.subset import HELD_OUT_FRACTION, MAX_HELD_OUT, Selection, held_out


class Named:
    """A set with keys alone."""

    name, fingerprint = "named", "f1"

    def __init__(self, keys: list[str]) -> None:
        self._keys = keys

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, place: int) -> str:
        return self._keys[place]

    def meta(self, place: int) -> dict[str, str]:
        return {"caption": f"caption of {self._keys[place]}"}

    def read(self, place: int) -> bytes:
        return self._keys[place].encode()


@given(keys=st.lists(st.text(max_size=6), min_size=2, max_size=60))
def test_every_photo_is_in_one_part_of_the_split_and_neither_is_empty(keys: list[str]) -> None:
    learnt, measured = held_out(Named(keys))
    assert sorted([*learnt, *measured]) == list(range(len(keys)))
    assert len(learnt)
    assert len(measured)


def test_a_twentieth_is_held_out_up_to_a_maximum() -> None:
    _, some = held_out(Named([f"photo{number}.jpg" for number in range(4000)]))
    assert len(some) / 4000 == pytest.approx(HELD_OUT_FRACTION, abs=0.01)
    _, few = held_out(Named([f"photo{number}.jpg" for number in range(80_000)]))
    assert len(few) == pytest.approx(MAX_HELD_OUT, rel=0.1)


def test_held_out_photos_stay_held_out_when_photos_are_added_or_moved() -> None:
    keys = [f"photo{number}.jpg" for number in range(1000)]
    before = {keys[place] for place in held_out(Named(keys))[1]}
    more = [f"new{number}.jpg" for number in range(500)] + keys[::-1]
    assert before <= {more[place] for place in held_out(Named(more))[1]}


def test_a_single_photo_cannot_be_split() -> None:
    with pytest.raises(DataError, match="'named' has one photo, and one to learn from and one to measure"):
        held_out(Named(["a"]))


def test_a_selection_gives_the_origin_of_its_photos() -> None:
    one, other = Named(["a", "b", "c"]), Named(["x", "y"])
    some = Selection("some", (one, other), np.array([2, 0, 1]), np.array([0, 1, 0]))
    assert len(some) == 3
    assert [some.key(place) for place in range(3)] == ["c", "x", "b"]
    assert some.origin(1) == (other, 0)
    assert some.read(2) == b"b"
    assert some.meta(0) == {"caption": "caption of c"}
    whole = Selection("all", (one,))
    assert [whole.key(place) for place in range(len(whole))] == ["a", "b", "c"]
    assert len(Selection("none", ())) == 0
    assert len({some.fingerprint, whole.fingerprint, Selection("", (one,), np.array([0])).fingerprint}) == 3
