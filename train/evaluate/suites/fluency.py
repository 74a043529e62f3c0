"""Failures in the form of long answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

from minigpt4.train.evaluate.metrics.fluency import Failure, failures
from minigpt4.train.evaluate.paper import paper_figure
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import Record, Suite, SuiteOptions, Task, Verdict
from minigpt4.train.evaluate.suites.subjects import length

DETAIL_QUESTION = "Describe this image in detail."


@dataclass(frozen=True)
class LongQuestion:
    """A question with a long answer."""

    text: str
    is_verse: bool = False
    """Whether a poem is asked for, which may have refrains and lines without a full stop."""


class Fluency(Suite):
    """The share of long answers that fail in form."""

    name = "fluency"
    max_tokens = 300
    questions: ClassVar[Mapping[str, LongQuestion]] = {"": LongQuestion(DETAIL_QUESTION)}
    """The questions by name, which begins their scores' names; another prompt replaces all of them."""

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """Every question of the suite about each picture."""
        asked = self.questions if options.prompt is None else {"": LongQuestion(options.prompt)}
        for photo in photos:
            for name, question in asked.items():
                id_ = f"{photo.key}#{name}" if name else photo.key
                yield Task(
                    id_, photo, question.text, options.max_tokens or self.max_tokens, {"question": name}
                )

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """The share of answers that fail in form, overall and by reason; an answer may have several."""
        by_question: dict[str, list[Record]] = {}
        for record in records:
            by_question.setdefault(record.truth.get("question", ""), []).append(record)
        return [
            score for name, answers in by_question.items() for score in self._question_scores(name, answers)
        ]

    def _question_scores(self, name: str, records: Sequence[Record]) -> Iterator[Score]:
        question = self.questions.get(name, LongQuestion(""))
        prefix = f"{name}: " if name else ""
        found = {
            one.photo: failures(one.answer, ran_to_limit=one.finish == "length", is_verse=question.is_verse)
            for one in records
        }
        failed = {photo: (float(bool(reasons)), 1.0) for photo, reasons in found.items()}
        paper = paper_figure(self.name, f"{prefix}failed")
        yield Score(f"{prefix}failed", failed, is_rate=True, paper=paper, better="lower")
        for reason in get_args(Failure):
            hits = {photo: (float(reason in reasons), 1.0) for photo, reasons in found.items()}
            yield Score(f"{prefix}{reason}", hits, is_rate=True, better="lower")
        yield length(records, prefix)


class Failures(Fluency):
    """The paper's count of failed answers, of a detailed description and of a poem (section 4.3, table 3)."""

    name = "failures"
    questions: ClassVar[Mapping[str, LongQuestion]] = {
        "detail": LongQuestion("Describe the image in detail."),
        "poem": LongQuestion("Can you write a beautiful poem about this image?", is_verse=True),
    }
