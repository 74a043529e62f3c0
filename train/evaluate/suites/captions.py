"""Short captions against human captions: CIDEr-D, BLEU, length, distinct words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

from minigpt4.core.types import ResolvedSampling
from minigpt4.train.evaluate.metrics.bleu import bleu_counts, bleu_of
from minigpt4.train.evaluate.metrics.cider import LONGEST, cider_d
from minigpt4.train.evaluate.metrics.ptb_tokenizer import words
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import Record, Suite, SuiteOptions, Task, Verdict
from minigpt4.train.evaluate.suites.subjects import length, subject_rate

CAPTION_QUESTIONS: Mapping[Literal[1, 2], str] = {1: "", 2: "Describe this image in one short sentence."}
"""The question for a caption after each training stage; the first stage is trained without questions."""


class Captions(Suite):
    """Short captions."""

    name = "captions"
    need = "captions"

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """One question per picture."""
        prompt = CAPTION_QUESTIONS[options.stage] if options.prompt is None else options.prompt
        for photo in photos:
            yield Task(
                photo.key, photo, prompt, options.max_tokens or self.max_tokens, {"captions": photo.captions}
            )

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """CIDEr-D (0 to 10) with the idf of the run's own captions, BLEU, length, distinct words."""
        candidates = [words(record.answer) for record in records]
        references = [[words(caption) for caption in record.truth["captions"]] for record in records]
        keys = [record.id for record in records]
        cider = zip(keys, cider_d(candidates, references), strict=True)
        counts = {
            key: bleu_counts(answer, captions)
            for key, answer, captions in zip(keys, candidates, references, strict=True)
        }
        return [
            Score("CIDEr-D", {key: (score, 1) for key, score in cider}),
            *(Score(f"BLEU-{n}", counts, partial(bleu_of, order=n)) for n in range(1, LONGEST + 1)),
            length(records),
            Score(
                "distinct words",
                {"": (len({word for answer in candidates for word in answer}), 1)},
                has_interval=False,
                digits=0,
                better=None,
            ),
            subject_rate(records),
        ]

    def sampling(self, own: ResolvedSampling) -> ResolvedSampling:
        """Greedy without a repetition penalty, which pushes articles out of short captions."""
        return own.greedy()
