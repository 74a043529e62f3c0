"""Whether descriptions cover human captions, according to judges (section 4.3 of arXiv 2304.10592)."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from minigpt4.train.evaluate.metrics.subjects import names_subject
from minigpt4.train.evaluate.paper import paper_figure
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import JudgeTask, Record, SuiteOptions, Task
from minigpt4.train.evaluate.suites.fluency import DETAIL_QUESTION
from minigpt4.train.evaluate.suites.judged import JudgedSuite

DRAWN = "one caption"
"""The question about the drawn caption; the questions about the others are numbered."""

JUDGE_PROMPT = (
    "There is one image caption1 '{caption}', and there is another image caption2 '{answer}'. Does image "
    "caption2 cover all the objects and visual relations shown in image caption1? Only answer yes or no "
    "without any explanation."
)

CAPTIONS = 5


class Coverage(JudgedSuite):
    """The share of answers that cover a caption, and how many of five captions they cover.

    A judge answers yes or no about each caption: the share comes from the drawn one, the number from all
    five. Known negatives are judged with the drawn caption only.
    """

    name = "coverage"
    need = "captions"
    max_tokens = 300
    negative_question = DRAWN

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """One question per picture."""
        prompt = DETAIL_QUESTION if options.prompt is None else options.prompt
        for photo in photos:
            rng = random.Random(f"caption {options.seed} {photo.key}")
            truth = {"captions": photo.captions, "drawn": rng.randrange(len(photo.captions))}
            yield Task(photo.key, photo, prompt, options.max_tokens or self.max_tokens, truth)

    def questions(self, record: Record, answer: str, *, is_negative: bool) -> list[JudgeTask]:
        """One about the drawn caption, and if there are five, one about each of the others."""
        captions, drawn = record.truth["captions"], record.truth["drawn"]
        return [
            JudgeTask(
                record.id,
                DRAWN if number == drawn else f"caption {number + 1}",
                JUDGE_PROMPT.format(caption=caption, answer=answer),
                f"Does the answer cover all objects and visual relations of this caption? {caption}",
                answer,
                is_negative=is_negative,
            )
            for number, caption in enumerate(captions)
            if number == drawn or len(captions) == CAPTIONS
        ]

    def may_replace(self, record: Record, other: Record) -> bool:
        """Whether the other answer is about another picture and does not name this one's subject."""
        return super().may_replace(record, other) and not names_subject(
            other.answer, record.truth["captions"]
        )

    def judged_scores(self, said: Mapping[str, Mapping[str, float]]) -> list[Score]:
        """The share of drawn captions covered, and how many of five where all are judged."""
        drawn = {key: (found[DRAWN], 1.0) for key, found in said.items() if DRAWN in found}
        all_five = {key: (sum(found.values()), 1.0) for key, found in said.items() if len(found) == CAPTIONS}
        share, number = "captions covered", f"captions covered, of {CAPTIONS}"
        papers = [paper_figure(self.name, name) for name in (share, number)]
        return [
            *([Score(share, drawn, is_rate=True, paper=papers[0])] if drawn else []),
            *([Score(number, all_five, digits=2, paper=papers[1])] if all_five else []),
        ]
