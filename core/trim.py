"""Making a conversation fit the context: whole messages are dropped, the oldest first."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from minigpt4.core.errors import ContextError
from minigpt4.core.prompt import Message, System, User

LEAST_ANSWER = 32
"""Positions reserved for an answer however long the last message is."""


@dataclass(frozen=True)
class Trimmed:
    """The rest of a conversation, and the positions left for the answer."""

    messages: tuple[Message, ...]
    dropped: int
    room: int


def trim(
    conversation: Sequence[Message],
    positions: Callable[[Sequence[Message]], int],
    *,
    context: int,
    max_tokens: int,
) -> Trimmed:
    """Drop the oldest messages until the prompt and an answer of `max_tokens` fit `context`.

    `positions` counts the prompt of some messages, tokens and image embeddings together. A leading
    System message is kept, and the newest turns starting at a User message, each whole and with its
    pictures. `max_tokens` reserves at most half of the context; the answer's share shrinks further,
    down to LEAST_ANSWER, before the last message is rejected with ContextError.
    """
    head, body = _split(conversation)
    later = [index for index, message in enumerate(body) if index and isinstance(message, User)]
    cuts = [0, *later]
    wanted = context - min(max_tokens, context // 2)
    most = context - min(max_tokens, LEAST_ANSWER, context // 2)

    def taken(cut: int) -> int:
        return positions([*head, *body[cut:]])

    # A shorter conversation never has a longer prompt, so the first cut that fits can be bisected.
    first = bisect_left(cuts, True, key=lambda cut: taken(cut) <= wanted)
    cut = cuts[min(first, len(cuts) - 1)]
    needed = taken(cut)
    if needed > most:
        raise ContextError(
            f"The last message takes {needed} positions (text, pictures and the system prompt), "
            f"and {most} of the model's {context} are free for it; shorten it or send fewer pictures."
        )
    return Trimmed((*head, *body[cut:]), dropped=cut, room=min(max_tokens, context - needed))


def _split(conversation: Sequence[Message]) -> tuple[list[Message], list[Message]]:
    messages = list(conversation)
    leading = 1 if messages and isinstance(messages[0], System) else 0
    return messages[:leading], messages[leading:]
