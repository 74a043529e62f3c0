"""Failures in the form of long answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import get_args

from minigpt4.train.evaluate.metrics.fluency import Failure, failures
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import Record, Suite, SuiteOptions, Task, Verdict
from minigpt4.train.evaluate.suites.subjects import length

DETAIL_QUESTION = "Describe this image in detail."


class Fluency(Suite):
    """The share of long answers that repeat or break off."""

    name = "fluency"
    max_tokens = 300

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """One question a picture."""
        prompt = DETAIL_QUESTION if options.prompt is None else options.prompt
        for photo in photos:
            yield Task(photo.key, photo, prompt, options.max_tokens or self.max_tokens)

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """How many answers fail in form, in all and by reason; an answer may have several."""
        found = {one.id: failures(one.answer, ran_to_limit=one.finish == "length") for one in records}
        rates = {"failed": {key: bool(reasons) for key, reasons in found.items()}} | {
            reason: {key: reason in reasons for key, reasons in found.items()} for reason in get_args(Failure)
        }
        return [
            *(
                Score(name, {key: (float(hit), 1.0) for key, hit in hits.items()}, is_rate=True)
                for name, hits in rates.items()
            ),
            length(records),
        ]
