"""What a conversation requests from the engine: its messages, and the sampling of another answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from minigpt4.tui.history.store import StoredMessage, StoredPicture

if TYPE_CHECKING:
    from minigpt4.core.types import ResolvedSampling, Sampling
    from minigpt4.core.worker.messages import ChatMessage

AnySampling = TypeVar("AnySampling", "Sampling", "ResolvedSampling")

REGENERATE_TEMPERATURE = 0.7
"""Used in place of temperature 0 when an answer is regenerated: greedy decoding would repeat it."""


def chat_messages(path: Iterable[StoredMessage], system_prompt: str) -> list[ChatMessage]:
    """The path as the input of the engine, without empty answers."""
    from minigpt4.core.worker.messages import ChatMessage

    messages = [ChatMessage("system", system_prompt)] if system_prompt else []
    included = (message for message in path if message.role == "user" or message.text)
    return messages + [
        ChatMessage(one.role, one.text, tuple(kept.path for kept in one.pictures)) for one in included
    ]


def question_begun(
    path: Sequence[StoredMessage], pictures: Sequence[StoredPicture], editing: str | None, system_prompt: str
) -> list[ChatMessage]:
    """The path with a question whose text is not known yet, at its end or in place of `editing`."""
    from minigpt4.core.worker.messages import ChatMessage

    place = next((at for at, one in enumerate(path) if one.id == editing), len(path))
    kept = [picture for one in path[place : place + 1] for picture in one.pictures]
    question = ChatMessage("user", "", tuple(picture.path for picture in (*kept, *pictures)))
    return [*chat_messages(path[:place], system_prompt), question]


def varied(sampling: AnySampling, temperature: float, earlier: int) -> AnySampling:
    """Sampling with which a regenerated answer can differ: a temperature above 0 and another seed.

    `temperature` is the one in force; `earlier` counts the answers that the question has.
    """
    if temperature == 0:
        sampling = replace(sampling, temperature=REGENERATE_TEMPERATURE)
    return sampling if sampling.seed is None else replace(sampling, seed=sampling.seed + earlier)
