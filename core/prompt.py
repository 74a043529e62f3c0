"""A conversation as the language model reads it: messages, segments and prompt templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from minigpt4.core.errors import UsageError
from minigpt4.core.types import ImageEmbedding, PromptPiece, Reasoning, Text, Tokenize


@dataclass(frozen=True)
class System:
    """Instructions before the conversation."""

    text: str


@dataclass(frozen=True)
class User:
    """A user's message, with the pictures attached to it."""

    text: str
    images: Sequence[ImageEmbedding] = ()


@dataclass(frozen=True)
class Assistant:
    """The model's answer. As the last message it is continued, not answered."""

    text: str


Message = System | User | Assistant


@dataclass(frozen=True)
class Joined:
    """A segment of texts that are tokenised as one, whether from the user or the template."""

    texts: tuple[Text, ...]


@dataclass(frozen=True)
class Image:
    """A segment that is a picture."""

    embedding: ImageEmbedding


Segment = Text | Joined | Image


@dataclass(frozen=True)
class TrainingPrompt:
    """The form of stage 2's training (section 3.3 of arXiv 2304.10592): a picture and an instruction.

    It lacks the chat's introduction, and has a space before the assistant's mark.
    """

    before: str
    between: str
    after: str

    def segments(self, instruction: str, picture: ImageEmbedding) -> list[Segment]:
        """The whole prompt, up to where the answer begins."""
        first, middle, last = (Text(text, control=True) for text in (self.before, self.between, self.after))
        return [Joined((BOS, first)), Image(picture), Joined((middle, Text(instruction), last))]


@dataclass(frozen=True)
class SmolLM2:
    """The chat form of SmolLM2-Instruct (ChatML); a message begins with its pictures."""

    name: str = "smollm2"
    """Its name in manifests."""

    by_itself: bool = False
    """Whether a question about a picture is read without the turns before it, with the newest pictures: for
    a projection that was trained on single questions. With all turns, mini answered 144 of 144 second
    questions with no, which is chance; by itself, each is answered as well as the first."""

    stop: tuple[str, ...] = ("<|im_end|>",)
    """Texts that end an answer besides the model's own end token."""

    opening: str | None = None
    """A prefix to strip from answers, with white space around them; None: answers stay as they are."""

    begin: tuple[Text, ...] = ()
    """Texts that the model expects at the beginning of any prompt."""

    training: TrainingPrompt | None = None
    """The prompt of the paper's stage 2; None for a model family that was never trained with it."""

    reasoning: Reasoning | None = None
    """How reasoning is delimited at the beginning of answers; None: there is none."""

    system: str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

    def segments(self, conversation: Sequence[Message]) -> list[Segment]:
        """The whole prompt, up to where the answer begins."""
        messages = _by_itself(conversation) if self.by_itself else list(conversation)
        if not messages or not isinstance(messages[0], System):
            messages.insert(0, System(self.system))
        segments: list[Segment] = []
        for message in messages:
            segments.append(Text(f"<|im_start|>{role_of(message)}\n", control=True))
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

    def learnt_answer(self, answer: str) -> tuple[Text, ...]:
        """An answer and its end, as a model is trained on them."""
        return (Text(answer), Text(self.stop[0], control=True))


def _by_itself(conversation: Sequence[Message]) -> list[Message]:
    """The last question with the newest pictures, and its begun answer; without pictures, all messages."""
    messages = list(conversation)
    asked = {number: message for number, message in enumerate(messages) if isinstance(message, User)}
    pictures = next((message.images for message in reversed(asked.values()) if message.images), ())
    if not pictures:
        return messages
    last = max(asked)
    system = [message for message in messages[:1] if isinstance(message, System)]
    return [*system, User(asked[last].text, pictures), *messages[last + 1 :]]


BOS = Text("<s>", control=True)
"""The first text of a MiniGPT-4 prompt."""


@dataclass(frozen=True)
class MiniGPT4Chat:
    """The chat forms of MiniGPT-4 (conversation.py of Vision-CAIR/MiniGPT-4, its CONV_VISION_*).

    All text between two pictures is one segment, a picture is between `<Img>` and `</Img>`, and
    the text of its message follows it after a space. Every picture but the last of a message is a
    separate turn. An empty message is its role alone, without the separator.
    """

    name: str
    user: str
    assistant: str
    separator: str
    end: str
    """The end of an answer in training."""

    training: TrainingPrompt | None
    begin: tuple[Text, ...] = (BOS,)
    opening: str | None = "Assistant:"
    stop: tuple[str, ...] = ("###",)
    reasoning: Reasoning | None = None
    by_itself: bool = False
    system: str = (
        "Give the following image: <Img>ImageContent</Img>. You will be able to see the image once I "
        "provide it to you. Please answer my questions."
    )

    def segments(self, conversation: Sequence[Message]) -> list[Segment]:
        """The whole prompt, up to where the answer begins."""
        messages = list(conversation)
        system = Text(self.system, control=True)
        if messages and isinstance(messages[0], System):
            system = Text(messages.pop(0).text)
        parts: list[Text | Image] = [BOS, system, self._control(self.separator)]
        for turn in self._turns(messages):
            parts.append(self._control(turn.role))
            if any(isinstance(part, Image) or part.text for part in turn.parts):
                parts += [*turn.parts, self._control(self.separator)]
        if not messages or not isinstance(messages[-1], Assistant):
            parts.append(self._control(self.assistant))
        elif messages[-1].text:
            parts.pop()
        return _joined(parts)

    def learnt_answer(self, answer: str) -> tuple[Text, ...]:
        """An answer and its end, as a model is trained on them."""
        return (*answer_texts(answer), self._control(self.end))

    def _turns(self, messages: Sequence[Message]) -> list[_Turn]:
        turns: list[_Turn] = []
        for message in messages:
            match message:
                case System(text):
                    turns.append(_Turn("", [Text(text)]))
                case Assistant(text):
                    turns.append(_Turn(self.assistant, list(answer_texts(text))))
                case User(text, images):
                    for embedding in images:
                        marks = self._control("<Img>"), self._control("</Img>")
                        turns.append(_Turn(self.user, [marks[0], Image(embedding), marks[1]]))
                    if turns and turns[-1].role == self.user and turns[-1].text.endswith("</Img>"):
                        turns[-1].parts.extend([self._control(" "), Text(text)])
                    else:
                        turns.append(_Turn(self.user, [Text(text)]))
        return turns

    @staticmethod
    def _control(text: str) -> Text:
        return Text(text, control=True)


@dataclass(frozen=True)
class _Turn:
    """One turn of a MiniGPT-4 conversation while it grows."""

    role: str
    parts: list[Text | Image]

    @property
    def text(self) -> str:
        """Its text, without pictures."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def answer_texts(answer: str) -> tuple[Text, ...]:
    """An answer in the forms of MiniGPT-4, whose separator may follow it.

    One or two # at its end are tokenised together with the separator, as in training: they are too few
    to be read as a separator, and the model wrote them.
    """
    body = answer.rstrip("#")
    hashes = answer[len(body) :]
    if len(hashes) > 2:
        return (Text(answer),)
    return (Text(body), Text(hashes, control=True))


def _joined(parts: Sequence[Text | Image]) -> list[Segment]:
    """Texts between pictures as one segment each, without empty ones."""
    segments: list[Segment] = []
    for is_text, run in groupby(parts, key=lambda part: isinstance(part, Text)):
        if is_text:
            segments.append(Joined(tuple(part for part in run if isinstance(part, Text) and part.text)))
        else:
            segments += [part for part in run if isinstance(part, Image)]
    return segments


VICUNA_V0 = MiniGPT4Chat(
    "vicuna-v0",
    user="Human: ",
    assistant="Assistant: ",
    separator="###",
    end="###",
    training=TrainingPrompt("###Human: <Img>", "</Img> ", " ###Assistant: "),
)
LLAMA2 = MiniGPT4Chat(
    "llama2",
    user="<s>[INST] ",
    assistant=" [/INST] ",
    separator="",
    end="</s>",
    training=TrainingPrompt("[INST] <Img>", "</Img> ", " [/INST] "),
)


def is_begun(last: Message) -> bool:
    """Whether the message is an answer that is continued."""
    return isinstance(last, Assistant) and bool(last.text.strip())


LLAVA_SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, "
    "detailed, and polite answers to the human's questions."
)


@dataclass(frozen=True)
class Llava:
    """The chat form of LLaVA-1.5 (`conv_vicuna_v1` in conversation.py of haotian-liu/LLaVA).

    A message begins with its pictures, each on a line of its own. All text between two pictures is one
    segment.
    """

    name: str = "llava-1.5"
    begin: tuple[Text, ...] = (BOS,)
    opening: str | None = None
    stop: tuple[str, ...] = ("</s>",)
    reasoning: Reasoning | None = None
    by_itself: bool = False
    system: str = LLAVA_SYSTEM
    training: TrainingPrompt | None = TrainingPrompt(f"{LLAVA_SYSTEM} USER: ", "\n", " ASSISTANT:")

    def segments(self, conversation: Sequence[Message]) -> list[Segment]:
        """The whole prompt, up to where the answer begins."""
        messages = list(conversation)
        if not messages or not isinstance(messages[0], System):
            messages.insert(0, System(self.system))
        parts: list[Text | Image] = [BOS]
        for message in messages:
            match message:
                case System(text):
                    parts += [Text(text), Text(" ", control=True)] if text else []
                case User(text, images):
                    parts.append(Text("USER: ", control=True))
                    for embedding in images:
                        parts += [Image(embedding), Text("\n", control=True)]
                    parts += [Text(text), Text(" ", control=True)]
                case Assistant(text):
                    parts += [Text("ASSISTANT: ", control=True), Text(text), Text("</s>", control=True)]
        if isinstance(messages[-1], Assistant):
            parts.pop()
        else:
            parts.append(Text("ASSISTANT:", control=True))
        return _joined(parts)

    def learnt_answer(self, answer: str) -> tuple[Text, ...]:
        """An answer and its end, as a model is trained on them."""
        return (Text(answer), Text("</s>", control=True))


def prompt_pieces(segments: Sequence[Segment], tokenize: Tokenize) -> list[PromptPiece]:
    """Segments as token ids and pictures, each segment tokenised on its own."""
    pieces: list[PromptPiece] = []
    for segment in segments:
        match segment:
            case Text():
                pieces.extend(tokenize(segment))
            case Joined(texts):
                pieces.extend(tokenize(*texts))
            case Image(embedding):
                pieces.append(embedding)
    return pieces


def prompt_positions(pieces: Sequence[PromptPiece]) -> int:
    """How many positions of the context the pieces take; a picture takes one for each vector."""
    return sum(1 if isinstance(piece, int) else len(piece) for piece in pieces)


def role_of(message: Message) -> str:
    """Its name in chat templates."""
    match message:
        case System():
            return "system"
        case User():
            return "user"
        case Assistant():
            return "assistant"


class ChatForm(Protocol):
    """What an engine needs of a template: those in this module, and the chat templates of GGUF files."""

    @property
    def begin(self) -> tuple[Text, ...]:
        """Texts that the model expects at the beginning of any prompt."""

    @property
    def stop(self) -> tuple[str, ...]:
        """Texts that end an answer besides the model's own end token."""

    @property
    def opening(self) -> str | None:
        """A prefix to strip from answers, with white space around them; None: answers stay as they are."""

    @property
    def reasoning(self) -> Reasoning | None:
        """How reasoning is delimited at the beginning of answers; None: there is none."""

    @property
    def by_itself(self) -> bool:
        """Whether a question about a picture is read without the turns before it."""

    def segments(self, conversation: Sequence[Message], /) -> list[Segment]:
        """The whole prompt, up to where the answer begins."""


PromptTemplate = SmolLM2 | MiniGPT4Chat | Llava
"""How one model family marks turns."""

BY_ITSELF = SmolLM2("smollm2-by-itself", by_itself=True)
"""mini's template."""

TEMPLATES: dict[str, PromptTemplate] = {
    template.name: template for template in (SmolLM2(), BY_ITSELF, VICUNA_V0, LLAMA2, Llava())
}


def template_named(name: str) -> PromptTemplate:
    """The template of that name; raises UsageError naming the known ones."""
    try:
        return TEMPLATES[name]
    except KeyError:
        known = ", ".join(TEMPLATES)
        raise UsageError(f"There is no prompt template '{name}'; there is {known}.") from None
