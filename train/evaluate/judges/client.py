"""One interface to models that complete prompts: bundles, and models behind OpenAI-compatible endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn, Protocol

from minigpt4.core.errors import ContextError, ImageError, Minigpt4Error
from minigpt4.core.pixels import open_picture
from minigpt4.core.prompt import User
from minigpt4.core.types import Sampling

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine


class ModelError(Minigpt4Error):
    """A model cannot complete a prompt, or any at all."""


@dataclass(frozen=True)
class Request:
    """A prompt to be completed greedily; `picture` is an encoded image file."""

    prompt: str
    picture: bytes | None = None
    max_tokens: int = 64


@dataclass(frozen=True)
class Completion:
    """A model's response to a request."""

    text: str
    tokens: int = 0
    finish: str = "stop"
    seconds: float = 0.0
    refusal: str = ""
    """Why there is no text, as a sentence."""


Refused = Callable[[int, str], object]
"""Called with a request's index and why it has no completion, as a sentence."""


def raise_refusal(_index: int, sentence: str) -> NoReturn:
    """The `Refused` of callers that cannot continue without a completion: raises ModelError."""
    raise ModelError(sentence)


class TextModel(Protocol):
    """A model that completes prompts."""

    @property
    def name(self) -> str:
        """The model's unique name in files and reports."""
        ...

    def complete(
        self, requests: Sequence[Request], refused: Refused = raise_refusal
    ) -> Iterator[tuple[int, str]]:
        """The index of each request and the model's text, in any order.

        A request that alone is impossible, such as one that is too long, is passed to `refused`, by default
        an error. Raises Minigpt4Error for errors that affect all requests; completions yielded before are
        valid, and the rest can be requested again.
        """
        ...


class BundleModel:
    """A loaded bundle, one request at a time."""

    def __init__(self, engine: Engine, name: str | None = None) -> None:
        """`name` defaults to the bundle's."""
        self.name = name or engine.bundle.name
        self._engine = engine

    def complete(
        self, requests: Sequence[Request], refused: Refused = raise_refusal
    ) -> Iterator[tuple[int, str]]:
        """In the order of the requests; without a picture the bundle's language model answers alone."""
        for index, request in enumerate(requests):
            sampling = replace(Sampling().greedy(), max_tokens=request.max_tokens)
            try:
                images = [] if request.picture is None else [self._engine.look(open_picture(request.picture))]
                text = self._engine.reply([User(request.prompt, images=images)], sampling).read()
            except (ContextError, ImageError) as error:
                refused(index, str(error))
                continue
            yield index, text.strip()


def texts(completions: Iterator[tuple[int, Completion]], refused: Refused) -> Iterator[tuple[int, str]]:
    """The texts of completions; refusals go to `refused`."""
    for index, completion in completions:
        if completion.refusal:
            refused(index, completion.refusal)
        else:
            yield index, completion.text
