"""Hallucinated objects: CHAIR, for a short and a long description as in the paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from minigpt4.train.evaluate.metrics.chair import chair_counts, kind_of, truth_of
from minigpt4.train.evaluate.metrics.ptb_tokenizer import words
from minigpt4.train.evaluate.paper import paper_figure
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import Record, Suite, SuiteOptions, Task, Verdict


@dataclass(frozen=True)
class Description:
    """A prompt for a description, and the token limit of the answer."""

    question: str
    max_tokens: int


DESCRIPTIONS = {
    "short": Description("Please describe the image shortly and precisely, in less than 20 words.", 60),
    "long": Description("Please describe this image as detailed as possible.", 300),
}
"""The paper's two prompts (section 6 of its appendix, on hallucination)."""


class Chair(Suite):
    """The share of named objects that are not in the picture."""

    name = "chair"
    need = "objects"

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """Both descriptions of each picture, or the one of `options.prompt` instead."""
        asked = DESCRIPTIONS
        if options.prompt is not None:
            asked = {"own": Description(options.prompt, DESCRIPTIONS["long"].max_tokens)}
        for photo in photos:
            labels = sorted({one.label for one in photo.objects})
            for name, one in asked.items():
                truth = {"description": name, "objects": labels, "captions": photo.captions}
                limit = options.max_tokens or one.max_tokens
                yield Task(f"{photo.key} {name}", photo, one.question, limit, truth)

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """For each description: objects made up, per named object and per answer, recall, and lengths."""
        # Labels besides COCO's are further objects that an answer can name rightly or wrongly.
        others = {kind_of(label) for record in records for label in record.truth["objects"]}
        found: list[Score] = []
        for name in dict.fromkeys(str(record.truth["description"]) for record in records):
            own = [record for record in records if record.truth["description"] == name]
            found += _scores(name, own, sorted(others))
        return found


def _scores(name: str, records: Sequence[Record], others: Sequence[str]) -> Iterator[Score]:
    truths = {one.photo: truth_of(one.truth["objects"], one.truth["captions"]) for one in records}
    counts = {one.photo: chair_counts(one.answer, truths[one.photo], others) for one in records}

    def ratio(what: str, of: str) -> dict[str, tuple[float, ...]]:
        return {photo: (found[what], found[of]) for photo, found in counts.items()}

    chair_i = f"{name}: CHAIRi"
    paper = paper_figure(Chair.name, chair_i)
    yield Score(chair_i, ratio("made up", "named"), paper=paper, better="lower")
    hits = {photo: (float(found["made up"] > 0), 1.0) for photo, found in counts.items()}
    yield Score(f"{name}: CHAIRs", hits, is_rate=True, better="lower")
    recall = {photo: (found["found"], len(truths[photo])) for photo, found in counts.items()}
    yield Score(f"{name}: recall", recall)
    named = {photo: (found["named"], 1) for photo, found in counts.items()}
    yield Score(f"{name}: objects named", named, digits=1, better=None)
    lengths = {one.photo: (len(words(one.answer)), 1) for one in records}
    spoken = f"{name}: words"
    yield Score(spoken, lengths, paper=paper_figure(Chair.name, spoken), digits=1, better=None)
