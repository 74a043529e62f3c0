"""One question about many pictures, each on its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minigpt4.core.batch.look_ahead import Look, look_ahead
from minigpt4.core.batch.replies import Asked, replies
from minigpt4.core.errors import ImageError, Minigpt4Error
from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import System, User
from minigpt4.core.reply import Reply
from minigpt4.core.types import Sampling

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine


@dataclass(frozen=True, eq=False)
class Answer:
    """A reply, to be read before the next one is taken, and the notices about its picture."""

    reply: Reply
    notices: tuple[str, ...]


def answers(
    engine: Engine,
    pictures: Iterable[Callable[[], Picture]],
    question: str,
    system: str = "",
    sampling: Sampling | None = None,
    *,
    beams: int = 1,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generator[Answer | ImageError, None, None]:
    """The answer about each picture, in order, or in its place the error that makes it unusable.

    Each of `pictures` opens one, on the thread that encodes it while others are answered. Ends once
    `cancelled` is true. Raises errors that concern all pictures, from `Engine.look` and `Engine.reply`.
    """
    before = [System(system)] if system else []
    notices: deque[tuple[str, ...]] = deque()
    looks = look_ahead(engine, pictures)

    def asked() -> Iterator[Asked]:
        for look in looks:
            if isinstance(look, Look):
                notices.append(tuple(look.picture.info.notices))
                yield [*before, User(question, images=[look.embedding])]
            else:
                notices.append(())
                yield look

    with (
        closing(looks),
        closing(replies(engine, asked(), sampling, beams=beams, cancelled=cancelled)) as made,
    ):
        while not cancelled():
            one = next(made, None)
            if one is None:
                return
            own = notices.popleft()
            if isinstance(one, ImageError):
                yield one
            elif isinstance(one, Minigpt4Error):
                raise one
            else:
                yield Answer(one, own)
