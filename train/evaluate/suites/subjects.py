"""Whether answers name what human captions name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minigpt4.train.evaluate.metrics.ptb_tokenizer import words
from minigpt4.train.evaluate.metrics.subjects import names_subject
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import Record, Suite, SuiteOptions, Task, Verdict

SUBJECT_QUESTION = "What is in this picture?"


class Subjects(Suite):
    """The share of answers that name the picture's subject."""

    name = "subjects"
    need = "captions"

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """One question per picture."""
        prompt = SUBJECT_QUESTION if options.prompt is None else options.prompt
        for photo in photos:
            yield Task(
                photo.key, photo, prompt, options.max_tokens or self.max_tokens, {"captions": photo.captions}
            )

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """The subject rate, and the length of the answers."""
        return [subject_rate(records), length(records)]


def subject_rate(records: Sequence[Record]) -> Score:
    """The share of answers that name the subject (see `metrics/subjects.py`)."""
    named = {one.id: (float(names_subject(one.answer, one.truth["captions"])), 1.0) for one in records}
    return Score("subject rate", named, is_rate=True)


def length(records: Sequence[Record], prefix: str = "") -> Score:
    """The mean length of the answers; `prefix` begins its name."""
    return Score(
        f"{prefix}mean length (words)",
        {one.id: (len(words(one.answer)), 1) for one in records},
        digits=1,
        better=None,
    )
