"""The paper's four tasks that earlier models failed at: memes, recipes, advertisements, poems."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from minigpt4.core.errors import UsageError
from minigpt4.train.evaluate.paper import paper_figure
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import JudgeTask, Record, SuiteOptions, Task
from minigpt4.train.evaluate.suites.judged import JudgedSuite

EACH = 25
"""Pictures for each task, as in the paper."""


@dataclass(frozen=True)
class Kind:
    """One of the tasks."""

    prompt: str
    ask: str
    """What a judge is asked."""


KINDS: Mapping[str, Kind] = {
    "meme": Kind("Explain why this meme is funny.", "Does the answer explain why this meme is funny?"),
    "recipe": Kind("How should I make something like this?", "Does the answer say how to make this dish?"),
    "advertisement": Kind(
        "Help me draft a professional advertisement for this.",
        "Is the answer an advertisement for what the picture shows?",
    ),
    "poem": Kind(
        "Can you craft a beautiful poem about this image?", "Is the answer a poem about this picture?"
    ),
}
"""By the names of their folders (section 4.2 of arXiv 2304.10592)."""

JUDGE_PROMPT = (
    "Someone asked about this image: '{prompt}' The answer was: '{answer}' {ask} Only answer yes or no "
    "without any explanation."
)


class Tasks(JudgedSuite):
    """The share of successful answers to each task, judged by judges who see the picture."""

    name = "tasks"
    max_tokens = 300

    def limited(self, photos: Sequence[EvalPhoto], limit: int | None) -> Sequence[EvalPhoto]:
        """The first pictures of each task: 25, or `limit`."""
        of_kind: dict[str, list[EvalPhoto]] = {}
        for photo in photos:
            of_kind.setdefault(kind_of(photo), []).append(photo)
        return [photo for kind in KINDS for photo in of_kind.get(kind, [])[: limit or EACH]]

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """Each picture's task, known from its folder; raises UsageError for a picture in another folder."""
        for photo in photos:
            kind = kind_of(photo)
            prompt = KINDS[kind].prompt if options.prompt is None else options.prompt
            yield Task(photo.key, photo, prompt, options.max_tokens or self.max_tokens, {"kind": kind})

    def questions(self, record: Record, answer: str, *, is_negative: bool) -> list[JudgeTask]:
        """Whether the task was done; the question is named after the task."""
        kind = record.truth["kind"]
        ask = KINDS[kind].ask
        prompt = JUDGE_PROMPT.format(prompt=record.prompt, answer=answer, ask=ask)
        return [JudgeTask(record.id, kind, prompt, ask, answer, True, is_negative)]

    def may_replace(self, record: Record, other: Record) -> bool:
        """Whether the other answer is to the same task about another picture."""
        return super().may_replace(record, other) and other.truth["kind"] == record.truth["kind"]

    def judged_scores(self, said: Mapping[str, Mapping[str, float]]) -> list[Score]:
        """The share of successes, overall and by task."""
        of_kind = {
            kind: {key: (found[kind], 1.0) for key, found in said.items() if kind in found} for kind in KINDS
        }
        every = {key: part for parts in of_kind.values() for key, part in parts.items()}
        paper = paper_figure(self.name, "successful")
        return [
            *([Score("successful", every, is_rate=True, paper=paper)] if every else []),
            *(
                Score(kind, parts, is_rate=True, paper=paper_figure(self.name, kind))
                for kind, parts in of_kind.items()
                if parts
            ),
        ]


def kind_of(photo: EvalPhoto) -> str:
    """The task that a picture's folder names; raises UsageError if it names none."""
    for name in (photo.key.partition("/")[0], photo.set):
        if name in KINDS:
            return name
    raise UsageError(
        f"'{photo.key}' lies in none of the folders {', '.join(KINDS)}, so its task is not known; move "
        "it, or give one of these folders to --data."
    )
