"""Pictures are encoded ahead on another thread, in order, and a bad one fails alone."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any, cast

import numpy as np
import pytest

from minigpt4.core.batch.look_ahead import AHEAD, Look, look_ahead
from minigpt4.core.engine import Engine
from minigpt4.core.errors import BundleError, ImageError
from minigpt4.core.pixels import Picture
from minigpt4.core.types import ImageEmbedding


class Encoding:
    """Looks at pictures, and notes where and how many."""

    def __init__(self) -> None:
        self.threads: set[threading.Thread] = set()
        self.opened = 0

    def look(self, picture: Picture) -> ImageEmbedding:
        self.threads.add(threading.current_thread())
        if picture.name == "broken tower":
            raise BundleError("The tower is damaged.")
        return ImageEmbedding(np.zeros((1, 1), np.float32), picture.name)

    def opening(self, name: str) -> Callable[[], Picture]:
        def opened() -> Picture:
            self.opened += 1
            if name.startswith("bad"):
                raise ImageError(f"{name} is no picture.")
            return Picture(b"", name, name)

        return opened


@pytest.fixture
def encoding() -> Encoding:
    return Encoding()


def looks_at(encoding: Encoding, names: list[str]) -> Any:
    return closing(look_ahead(cast("Engine", encoding), map(encoding.opening, names)))


def test_pictures_come_in_order_each_with_its_own_embedding_and_a_bad_one_in_its_place(
    encoding: Encoding,
) -> None:
    names = ["one", "bad two", "three", "bad four", "five"]
    with looks_at(encoding, names) as looks:
        found = [one.embedding.key if isinstance(one, Look) else str(one) for one in looks]
    assert found == ["one", "bad two is no picture.", "three", "bad four is no picture.", "five"]
    assert threading.current_thread() not in encoding.threads
    assert len(encoding.threads) == 1


def test_no_more_are_opened_than_are_soon_needed_and_none_once_it_is_closed(encoding: Encoding) -> None:
    with looks_at(encoding, [str(number) for number in range(50)]) as looks:
        for taken in range(1, 5):
            next(looks)
            assert encoding.opened <= taken + AHEAD
    opened = encoding.opened
    assert not any(thread.is_alive() for thread in encoding.threads), "closing waits for the thread"
    assert encoding.opened == opened < 10


def test_what_concerns_all_pictures_ends_all(encoding: Encoding) -> None:
    with looks_at(encoding, ["one", "broken tower", "three"]) as looks:
        assert isinstance(next(looks), Look)
        with pytest.raises(BundleError):
            next(looks)
