"""A conversation as the language model reads it: messages, segments and prompt templates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from minigpt4.core.errors import UsageError
from minigpt4.core.language.protocol import ImageEmbedding, PromptPiece


@dataclass(frozen=True)
class System:
    """Instructions that stand before the conversation."""

    text: str


@dataclass(frozen=True)
class User:
    """What a person said, with the pictures that came along."""

    text: str
    images: Sequence[ImageEmbedding] = ()


@dataclass(frozen=True)
class Assistant:
    """What the model answered. As the last message it is continued, not answered."""

    text: str


Message = System | User | Assistant


@dataclass(frozen=True)
class Text:
    """A segment of text; only a template's own text is `control`, never a person's."""

    text: str
    control: bool = False


@dataclass(frozen=True)
class Image:
    """A segment that is a picture."""

    embedding: ImageEmbedding


Segment = Text | Image


class PromptTemplate(Protocol):
    """How one model family marks turns."""

    @property
    def name(self) -> str:
        """What manifests call it."""
        ...

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer besides the model's own end token."""
        ...

    def segments(self, conversation: Sequence[Message]) -> list[Segment]:
        """The whole prompt, up to where the answer begins."""
        ...


@dataclass(frozen=True)
class SmolLM2:
    """The chat form of SmolLM2-Instruct (ChatML), pictures first in the message they belong to."""

    name: str = "smollm2"
    stop: tuple[str, ...] = ("<|im_end|>",)
    system: str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

    def segments(self, conversation: Sequence[Message]) -> list[Segment]:
        messages = list(conversation)
        if not messages or not isinstance(messages[0], System):
            messages.insert(0, System(self.system))
        segments: list[Segment] = []
        for message in messages:
            segments.append(Text(f"<|im_start|>{_role(message)}\n", control=True))
            if isinstance(message, User):
                for embedding in message.images:
                    segments += [Image(embedding), Text("\n", control=True)]
            segments.append(Text(message.text))
            segments.append(Text("<|im_end|>\n", control=True))
        if isinstance(messages[-1], Assistant):
            segments.pop()
        else:
            segments.append(Text("<|im_start|>assistant\n", control=True))
        return segments


def prompt_pieces(
    segments: Sequence[Segment], tokenize: Callable[[str, bool], Sequence[int]]
) -> list[PromptPiece]:
    """Segments as token ids and pictures; `tokenize` takes a text and whether it is control text.

    Each segment is tokenised on its own: a person's text can neither become a control token
    nor change how the template's text around it is cut.
    """
    pieces: list[PromptPiece] = []
    for segment in segments:
        match segment:
            case Text(text, control):
                pieces.extend(tokenize(text, control))
            case Image(embedding):
                pieces.append(embedding)
    return pieces


def prompt_positions(pieces: Sequence[PromptPiece]) -> int:
    """How many positions of the context the pieces take; a picture takes one for each vector."""
    return sum(1 if isinstance(piece, int) else len(piece) for piece in pieces)


def _role(message: Message) -> str:
    match message:
        case System():
            return "system"
        case User():
            return "user"
        case Assistant():
            return "assistant"


TEMPLATES: dict[str, PromptTemplate] = {template.name: template for template in (SmolLM2(),)}


def template_named(name: str) -> PromptTemplate:
    """The template of that name; raises UsageError naming the known ones."""
    try:
        return TEMPLATES[name]
    except KeyError:
        known = ", ".join(TEMPLATES)
        raise UsageError(f"There is no prompt template '{name}'; there is {known}.") from None
