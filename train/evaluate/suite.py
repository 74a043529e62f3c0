"""The base class of suites: the questions about a picture, and the scores of the answers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Literal

from minigpt4.core.errors import UsageError
from minigpt4.core.types import ResolvedSampling
from minigpt4.train.evaluate.photos import EvalPhoto, Need
from minigpt4.train.evaluate.scores import Score


@dataclass(frozen=True)
class SuiteOptions:
    """The options of a suite; None leaves the choice to the suite."""

    prompt: str | None = None
    max_tokens: int | None = None
    stage: Literal[1, 2] = 2
    """Ask as this training stage did: the first one had no question."""

    seed: int = 0
    """The seed of everything drawn at random: negatives, subsets."""

    after: str | None = None
    """A question asked and answered about every picture before the suite's own, in the same conversation;
    None: each of the suite's questions begins a conversation."""

    @property
    def stated(self) -> dict[str, Any]:
        """The options as a run records them; without an `after` of None, which earlier runs lack."""
        return {name: value for name, value in asdict(self).items() if name != "after" or value is not None}

    def template(self, own: str, name: str, example: str) -> str:
        """The prompt, or else the suite's own, with the placeholder `{name}`.

        Raises UsageError, with an example of its value, for a prompt without the placeholder.
        """
        chosen = own if self.prompt is None else self.prompt
        if f"{{{name}}}" not in chosen:
            raise UsageError(
                f"The question '{chosen}' names no {name}; write {{{name}}} where '{example}' stands in it."
            )
        return chosen


@dataclass(frozen=True, eq=False)
class Task:
    """One question to be asked about one picture; `id` names it in its run."""

    id: str
    photo: EvalPhoto
    prompt: str
    max_tokens: int
    truth: Mapping[str, Any] = field(default_factory=dict)
    """What scoring needs to know, as JSON; it is kept with the answer."""

    choices: tuple[str, ...] = ()
    """Answers of which the likeliest is chosen, instead of generating one."""

    @property
    def prompt_with_choices(self) -> str:
        """The prompt with the choices, for a model that returns no likelihoods."""
        if not self.choices:
            return self.prompt
        return f"{self.prompt}\nAnswer with one of these, and nothing else: {'; '.join(self.choices)}."


@dataclass(frozen=True)
class Record:
    """An answer as a run keeps it: a line of answers.jsonl."""

    id: str
    photo: str
    set: str
    digest: str
    """SHA-256 of the picture's file."""

    prompt: str
    answer: str
    tokens: int = 0
    finish: str = "stop"
    seconds: float = 0.0
    """From the encoded image to the last token."""

    truth: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    """Why there is no answer, as a sentence."""


@dataclass(frozen=True)
class JudgeTask:
    """A question to a judge about one answer."""

    id: str
    """The id of the record."""

    question: str
    """Which of the suite's judge questions it is: `Verdict.question`."""

    prompt: str
    """For a model: the question and everything that it needs to know, except the picture."""

    ask: str
    """The question for a person, who sees the picture and the answer."""

    answer: str
    """The judged text: the record's answer or, as a known negative, the answer about another picture."""

    needs_picture: bool = False
    """Whether it cannot be judged from the prompt alone."""

    is_negative: bool = False
    """Whether it is the answer about another picture: a judge who accepts it accepts anything."""


@dataclass(frozen=True)
class Verdict:
    """A judge's verdict on an answer; `value` is None if its words could not be understood."""

    id: str
    """The id of the answer."""

    judge: str
    question: str
    """Which of the suite's judge questions it answers."""

    value: float | None
    words: str
    """What the judge said."""

    is_negative: bool = False
    """Whether the judge was shown the answer about another picture, which it should reject."""

    is_withdrawn: bool = False
    """Whether the judge withdrew its earlier verdict."""


class Suite(ABC):
    """A kind of question, and the scores of its answers, from records and verdicts alone."""

    name: ClassVar[str]
    need: ClassVar[Need | None] = None
    max_tokens: ClassVar[int] = 40
    is_judged: ClassVar[bool] = False
    """Whether its scores come from judges' verdicts."""

    @abstractmethod
    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """The questions about each picture, in the pictures' order."""

    @abstractmethod
    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """The scores of the answers; `records` has at least one, and none with an error."""

    def limited(self, photos: Sequence[EvalPhoto], limit: int | None) -> Sequence[EvalPhoto]:
        """The pictures to ask about if only some are wanted: the first ones."""
        return photos[:limit]

    def sampling(self, own: ResolvedSampling) -> ResolvedSampling:
        """Greedy, so that answers can be reproduced, otherwise the bundle's own."""
        return replace(own, temperature=0.0)

    def judge_tasks(self, records: Sequence[Record], seed: int = 0) -> list[JudgeTask]:
        """The judges' tasks about these answers, including known negatives; none if nothing is judged."""
        return []

    def verdict(self, task: JudgeTask, words: str) -> float | None:
        """What a judge's words mean for a task: 1 for yes, 0 for no; None if they cannot be understood."""
        raise NotImplementedError(f"{self.name} has no judge questions")
