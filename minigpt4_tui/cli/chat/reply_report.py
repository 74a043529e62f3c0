"""What is told and saved about a reply once its text is there."""

from __future__ import annotations

from minigpt4.core.reply import Reply
from minigpt4.core.types import ResolvedSampling


def cut_short(reply: Reply, sampling: ResolvedSampling, way_out: str = "--max-tokens allows more") -> str:
    """The notice under an answer that ran to its limit, with the way to more of it."""
    if reply.answer_tokens < sampling.max_tokens:
        return f"(The answer was cut off after {reply.answer_tokens} tokens: the model's context is full.)"
    return f"(The answer was cut off after {reply.answer_tokens} tokens; {way_out}.)"


def reply_stats(reply: Reply) -> dict[str, float | int | str | None]:
    """What the history keeps of it; None is not known."""
    return {
        "finish": reply.finish,
        "answer_tokens": reply.answer_tokens,
        "prompt_tokens": reply.prompt_tokens,
        "tokens_per_s": reply.tokens_per_s,
        "first_token_s": reply.first_token_s,
    }


def left_out(messages: int) -> str:
    """The notice about messages that the context had no room for."""
    count = "oldest message was" if messages == 1 else f"{messages} oldest messages were"
    return f"(The conversation outgrew the model's context: its {count} left out.)"
