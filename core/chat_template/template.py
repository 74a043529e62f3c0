"""The prompt template of a GGUF bundle: its file's own chat template, in the form of core/prompt.py's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from minigpt4.core.chat_template.dialect import WORD, Dialect, Turn, find_dialect, rendered_parts
from minigpt4.core.chat_template.marks import Marks, Place, Typed
from minigpt4.core.chat_template.reasoning import MARKS
from minigpt4.core.chat_template.sandbox import Renderer, RenderError
from minigpt4.core.errors import BundleError
from minigpt4.core.prompt import Assistant, Image, Joined, Message, Segment, User, role_of
from minigpt4.core.types import ImageEmbedding, Reasoning, Text

MOST_SOURCE = 1 << 18
"""Characters of a template; the longest of the known families has about 20,000."""

RENDERS_REMEMBERED = 256
"""Conversations of the same shape are rendered once: a template does not see what is typed."""

ANOTHER = "choose another with `--template NAME` or `--template FILE` when you import the bundle"

MERGED = "\n\n"
"""Separates two texts that a template accepts only as one."""


@dataclass(frozen=True)
class ControlWords:
    """What a template needs to know about the model's vocabulary."""

    bos: str = ""
    eos: str = ""
    adds_bos: bool = False
    """Whether a prompt begins with `bos`, whether the template has it or not."""


class ChatTemplate:
    """A template in Jinja, with the interface of `SmolLM2` and `MiniGPT4Chat`.

    Nothing is rendered before it is used; then BundleError is raised for a template that cannot be.
    """

    opening: str | None = ""
    """White space around answers is stripped: LLaVA's begin with a space."""

    training = None

    def __init__(
        self, source: str, *, name: str, bundle: str = "", words: ControlWords | None = None
    ) -> None:
        """`name` says where the template is from (a file, or one of our names); `bundle` is for messages."""
        self.name = name
        self._of = f"the bundle '{bundle}'" if bundle else name
        self._source = source
        self._words = words or ControlWords()
        self._marks = Marks()
        self._renderer = Renderer(source)
        self._parts = lru_cache(RENDERS_REMEMBERED)(self._render_turns)

    def start(self) -> None:
        """Start the process that renders, so that it is ready when the model is loaded."""
        self._renderer.start()

    def check(self) -> None:
        """Raise BundleError if the template cannot be used for a conversation."""
        _ = self._dialect

    def close(self) -> None:
        """End the process that renders."""
        self._renderer.close()

    @property
    def has_system(self) -> bool:
        """Whether it has a place for a system prompt; otherwise that precedes the first question."""
        return self._dialect.has_system

    @property
    def begin(self) -> tuple[Text, ...]:
        """Texts that the model expects at the beginning of any prompt."""
        return (Text(self._words.bos, control=True),) if self._words.adds_bos and self._words.bos else ()

    @property
    def by_itself(self) -> bool:
        """False: every turn is read."""
        return False

    @cached_property
    def stop(self) -> tuple[str, ...]:
        """What the template writes after an answer: a control token's text, in most vocabularies."""
        turns = (Turn("user", self._marks.text(0)), Turn("assistant", self._marks.text(1)))
        try:
            parts = self._parts(turns, False)
        except BundleError:
            return ()
        last = parts[-1]
        ending = last.strip() if isinstance(last, str) else ""
        word = WORD.match(ending)
        return (word[0] if word else ending,) if ending else ()

    @cached_property
    def reasoning(self) -> Reasoning | None:
        """How reasoning is delimited, also if the prompt itself opens it; None: there is none."""
        try:
            parts = self._parts((Turn("user", self._marks.text(0)),), True)
        except BundleError:
            return Reasoning(MARKS)
        last = parts[-1]
        end = last.rstrip() if isinstance(last, str) else ""
        return Reasoning(MARKS, next((closing for opening, closing in MARKS if end.endswith(opening)), ""))

    def segments(self, conversation: Sequence[Message]) -> list[Segment]:
        """The whole prompt, up to where the answer begins; all text between two pictures is one segment.

        Raises BundleError if the template fails, with its own words if it refuses the conversation.
        """
        messages = list(conversation)
        if messages and isinstance(messages[-1], Assistant) and not messages[-1].text.strip():
            messages.pop()
        texts = [Typed.of(message.text) for message in messages]
        pictures: list[ImageEmbedding] = []
        turns: list[Turn] = []
        for number, (message, typed) in enumerate(zip(messages, texts, strict=True)):
            images = message.images if isinstance(message, User) else ()
            numbers = tuple(range(len(pictures), len(pictures) + len(images)))
            pictures += images
            mark = self._marks.text(number) if typed.text else ""
            turns.append(Turn(role_of(message), f"{typed.before}{mark}{typed.after}", numbers))
        is_continued = bool(messages) and isinstance(messages[-1], Assistant)
        parts = self._parts(tuple(turns), not is_continued)
        if is_continued:
            parts = [*_up_to_text(parts, len(texts) - 1), texts[-1].after]
        return self._joined(parts, texts, pictures)

    def learnt_answer(self, answer: str) -> tuple[Text, ...]:
        """An answer and its end, as a model is trained on them."""
        return (Text(answer), *(Text(text, control=True) for text in self.stop[:1]))

    @cached_property
    def _dialect(self) -> Dialect:
        if len(self._source) > MOST_SOURCE:
            raise BundleError(
                f"The chat template of {self._of} has {len(self._source)} characters, more than the "
                f"{MOST_SOURCE} that one may have; {ANOTHER}."
            )
        try:
            return find_dialect(self._render, self._marks)
        except RenderError as error:
            raise self._problem(error) from error

    def _render(self, messages: Sequence[object], answers: bool) -> str:
        return self._renderer.render(
            messages,  # type: ignore[arg-type]
            add_generation_prompt=answers,
            bos_token=self._words.bos,
            eos_token=self._words.eos,
            tools=None,
            documents=None,
        )

    def _render_turns(self, turns: tuple[Turn, ...], answers: bool) -> list[str | Place]:
        """Render the turns or, if the template refuses them, plainer turns with the same content."""
        dialect, refusal = self._dialect, None
        for one in _plainer_and_plainer(turns, has_system=dialect.has_system):
            try:
                return rendered_parts(dialect, one, self._render, self._marks, answers=answers)
            except RenderError as error:
                refusal = refusal or error
                if error.kind != "refused":
                    break
        assert refusal is not None
        raise self._problem(refusal) from refusal

    def _problem(self, error: RenderError) -> BundleError:
        what = {
            "refused": f"refuses the conversation: {error.reason}",
            "syntax": f"is not valid Jinja ({error.reason})",
        }.get(error.kind, f"cannot be used: {error.reason}")
        return BundleError(f"The chat template of {self._of} {what}; {ANOTHER}.")

    def _joined(
        self, parts: Sequence[str | Place], texts: Sequence[Typed], pictures: Sequence[ImageEmbedding]
    ) -> list[Segment]:
        """The parts as segments, with the prompt's first token once."""
        segments: list[Segment] = []
        stretch: list[Text] = list(self.begin)
        for index, part in enumerate(parts):
            if isinstance(part, str):
                if index == 0 and stretch:
                    part = part.removeprefix(self._words.bos)
                stretch.append(Text(part, control=True))
            elif part.is_picture:
                segments += [*_stretch(stretch), Image(pictures[part.number])]
                stretch = []
            else:
                stretch.append(Text(texts[part.number].text))
        return [*segments, *_stretch(stretch)]


def _stretch(texts: Sequence[Text]) -> list[Segment]:
    kept = tuple(text for text in texts if text.text)
    return [Joined(kept)] if kept else []


def _up_to_text(parts: Sequence[str | Place], number: int) -> list[str | Place]:
    """The parts up to the last place of a text."""
    last = max(index for index, part in enumerate(parts) if part == Place(number, is_picture=False))
    return list(parts[: last + 1])


def _plainer_and_plainer(turns: tuple[Turn, ...], *, has_system: bool) -> list[tuple[Turn, ...]]:
    """The turns; with neighbours of one role merged; and with the system prompt in the first question."""
    folded = turns
    if len(turns) > 1 and turns[0].role == "system" and turns[1].role == "user":
        first = replace(turns[1], text=turns[0].text + MERGED + turns[1].text)
        folded = (first, *turns[2:])
    candidates = [turns, _merged(turns)] if has_system else []
    candidates += [folded, _merged(folded)]
    return list(dict.fromkeys(candidates))


def _merged(turns: Sequence[Turn]) -> tuple[Turn, ...]:
    merged: list[Turn] = []
    for turn in turns:
        if merged and merged[-1].role == turn.role:
            before = merged.pop()
            turn = Turn(turn.role, before.text + MERGED + turn.text, before.pictures + turn.pictures)
        merged.append(turn)
    return tuple(merged)
