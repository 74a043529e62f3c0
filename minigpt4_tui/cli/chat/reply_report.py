"""What is reported and saved about a reply."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from minigpt4.core.prompt import Message, User
from minigpt4.core.reply import Piece, Reply
from minigpt4.core.types import ResolvedSampling
from minigpt4.tui.conversation.answering import REASONING
from minigpt4.tui.images.question import BY_ITSELF, NO_PICTURE
from minigpt4.tui.terminal.messages import say
from minigpt4.tui.terminal.sanitize import sanitize


def notice_before(earlier: Sequence[Message], asked: User, *, by_itself: bool) -> str:
    """The notice before the answer to a first or second question; "" if there is none.

    `by_itself` is the prompt template's.
    """
    if not earlier and not asked.images:
        return f"({NO_PICTURE}; /image PATH adds one.)"
    questions = [*(one for one in earlier if isinstance(one, User)), asked]
    is_second = len(questions) == 2 and any(one.images for one in questions)
    return f"({BY_ITSELF})" if by_itself and is_second else ""


def telling_reasoning(pieces: Iterable[Piece], quiet: Callable[[str], str]) -> Iterator[Piece]:
    """Yield the pieces of the answer; reasoning before it is streamed to stderr."""
    is_thinking = False
    for piece in pieces:
        if piece.is_reasoning:
            say(quiet(sanitize(piece.text)), end="")
        elif is_thinking:
            say("")
        is_thinking = piece.is_reasoning
        if not is_thinking:
            yield piece
    if is_thinking:
        say("")


def cut_short(reply: Reply, sampling: ResolvedSampling, way_out: str = "--max-tokens allows more") -> str:
    """The notice below an answer that reached a limit, and how to get more of it."""
    is_thinking = bool(reply.reasoning) and not reply.text
    what = "The model was still thinking" if is_thinking else "The answer was cut off"
    if reply.answer_tokens < sampling.max_tokens:
        return f"({what} after {reply.answer_tokens} tokens: the model's context is full.)"
    return f"({what} after {reply.answer_tokens} tokens; {way_out}.)"


def reply_stats(reply: Reply) -> dict[str, float | int | str | None]:
    """What the history keeps about a reply; None means unknown."""
    return {
        "finish": reply.finish,
        "answer_tokens": reply.answer_tokens,
        "prompt_tokens": reply.prompt_tokens,
        "tokens_per_s": reply.tokens_per_s,
        "first_token_s": reply.first_token_s,
        REASONING: reply.reasoning or None,
    }


def left_out(messages: int) -> str:
    """The notice about messages that the context had no room for."""
    count = "oldest message was" if messages == 1 else f"{messages} oldest messages were"
    return f"(The conversation outgrew the model's context: its {count} left out.)"
