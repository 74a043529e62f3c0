"""Questions about pictures from A-OKVQA and GQA, with their official measures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from minigpt4.core.errors import UsageError
from minigpt4.train.evaluate.metrics.vqa import is_equal, soft_accuracy
from minigpt4.train.evaluate.paper import paper_figure
from minigpt4.train.evaluate.photos import EvalPhoto, Question
from minigpt4.train.evaluate.scores import Score
from minigpt4.train.evaluate.suite import Record, Suite, SuiteOptions, Task, Verdict

PROMPT = "Question: {question} Short answer:"
"""BLIP-2's prompt for these data sets (Li et al. 2023, arXiv 2301.12597, section 4.2)."""


class Vqa(Suite):
    """A-OKVQA by choice and by direct answer, and GQA."""

    name = "vqa"
    need = "questions"
    max_tokens = 10

    def tasks(self, photos: Sequence[EvalPhoto], options: SuiteOptions) -> Iterator[Task]:
        """A question with choices is asked with them and, if people answered it, without."""
        form = PROMPT if options.prompt is None else options.prompt
        if "{question}" not in form:
            raise UsageError("The --prompt of vqa must say where the question goes, as {question}.")
        for photo in photos:
            for question in photo.questions:
                yield from self._tasks_of(photo, question, form, options)

    def _tasks_of(
        self, photo: EvalPhoto, question: Question, form: str, options: SuiteOptions
    ) -> Iterator[Task]:
        prompt = form.replace("{question}", question.text)
        most = options.max_tokens or self.max_tokens
        if question.choices:
            truth = {"kind": "choice", "answers": [question.right_choice]}
            yield Task(f"{question.id}#choice", photo, prompt, most, truth, question.choices)
        if question.answers:
            truth = {"kind": question.kind or "direct", "answers": list(question.answers)}
            yield Task(question.id, photo, prompt, most, truth)

    def scores(self, records: Sequence[Record], verdicts: Sequence[Verdict] = ()) -> list[Score]:
        """The accuracies of what was asked; GQA's also by binary and open questions."""
        by_kind: dict[str, list[Record]] = {}
        for record in records:
            by_kind.setdefault(record.truth["kind"], []).append(record)
        gqa = [*by_kind.get("binary", []), *by_kind.get("open", [])]
        return [
            score
            for score in (
                _exact("A-OKVQA, multiple choice", by_kind.get("choice", [])),
                _score("A-OKVQA, direct answer", by_kind.get("direct", [])),
                _exact("GQA", gqa),
                _exact("GQA, binary questions", by_kind.get("binary", [])),
                _exact("GQA, open questions", by_kind.get("open", [])),
            )
            if score.parts
        ]


def _exact(name: str, records: Sequence[Record]) -> Score:
    hits = ((record.photo, float(is_equal(record.answer, record.truth["answers"][0]))) for record in records)
    return Score(name, _by_photo(hits), is_rate=True, paper=paper_figure(Vqa.name, name))


def _score(name: str, records: Sequence[Record]) -> Score:
    found = ((record.photo, soft_accuracy(record.answer, record.truth["answers"])) for record in records)
    return Score(name, _by_photo(found))


def _by_photo(found: Iterator[tuple[str, float]]) -> dict[str, tuple[float, float]]:
    """Sum and number by picture, since questions about the same picture are not independent."""
    parts: dict[str, tuple[float, float]] = {}
    for photo, value in found:
        total, number = parts.get(photo, (0.0, 0.0))
        parts[photo] = total + value, number + 1
    return parts
