"""Ask one question about every photo of some sets, and score the answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from minigpt4.core.errors import DataError, ImageError
from minigpt4.core.pixels import open_picture
from minigpt4.core.prompt import User
from minigpt4.core.types import Sampling
from minigpt4.train.data.dataset import PhotoError, PhotoSet, captions_in
from minigpt4.train.data.shards import ShardPhotos
from minigpt4.train.evaluate.bleu import bleu
from minigpt4.train.evaluate.cider import cider_d
from minigpt4.train.evaluate.fluency import Failure, failures
from minigpt4.train.evaluate.ptb_tokenizer import words
from minigpt4.train.evaluate.subjects import names_subject

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine

Stage = Literal[1, 2]

CAPTION_QUESTIONS: Mapping[Stage, str] = {1: "", 2: "Describe this image in one short sentence."}
"""The question for a caption after each training stage; the first stage is trained without questions."""

SUBJECT_QUESTION = "What is in this picture?"
DETAIL_QUESTION = "Describe this image in detail."

CAPTION_TOKENS = 40
"""Token limit of an answer that should be one sentence."""

Scores = dict[str, float]
"""By the names that the table shows: `photos`, then the suite's scores, `mean length (words)`, `photos/s`."""


@dataclass(frozen=True)
class Answer:
    """The answer about one photo, and its human captions. `file` is its shard or list; `seconds` is the time
    from the encoded image to the last token."""

    key: str
    file: str
    text: str
    captions: tuple[str, ...]
    tokens: int
    ran_to_limit: bool
    seconds: float


def answer_photos(
    model: Engine,
    sets: Sequence[PhotoSet],
    question: str,
    sampling: Sampling,
    *,
    skipped: Callable[[str], object],
) -> Iterator[Answer]:
    """Ask the question about each photo alone; `skipped` is called with reasons."""
    for photos in sets:
        for index in range(len(photos)):
            begun = time.perf_counter()
            key = photos.key(index)
            try:
                captions = captions_in(photos.meta(index))
                embedding = model.look(open_picture(photos.read(index), name=key))
            except (PhotoError, ImageError) as error:
                skipped(error.reason if isinstance(error, PhotoError) else str(error))
                continue
            reply = model.reply([User(question, images=[embedding])], sampling)
            text = reply.read().strip()
            yield Answer(
                key=key,
                file=photos.shard(index).name if isinstance(photos, ShardPhotos) else photos.name,
                text=text,
                captions=captions,
                tokens=reply.answer_tokens,
                ran_to_limit=reply.finish == "length",
                seconds=time.perf_counter() - begun,
            )


def caption_scores(answers: Sequence[Answer]) -> Scores:
    """CIDEr-D (0 to 10) and BLEU over all the answers, with the idf of their own captions."""
    candidates, references = _tokenized(answers)
    scores = {"CIDEr-D": sum(cider_d(candidates, references)) / len(answers)}
    scores |= {f"BLEU-{n}": value for n, value in enumerate(bleu(candidates, references), start=1)}
    scores |= {"mean length (words)": _mean_words(answers), "subject rate": _subject_rate(answers)}
    return _with_counts(answers, scores)


def subject_scores(answers: Sequence[Answer]) -> Scores:
    """How often the answers name the photo's subject."""
    rate = _subject_rate(_require(answers))
    return _with_counts(answers, {"subject rate": rate, "mean length (words)": _mean_words(answers)})


def fluency_scores(answers: Sequence[Answer]) -> Scores:
    """The number of answers that fail in form, in all and by reason; an answer may have several."""
    found = [failures(answer.text, ran_to_limit=answer.ran_to_limit) for answer in _require(answers)]
    reasons = {reason: sum(reason in reasons for reasons in found) for reason in get_args(Failure)}
    failed = {"failed": sum(bool(reasons) for reasons in found)}
    return _with_counts(answers, failed | reasons | {"mean length (words)": _mean_words(answers)})


def judged(answers: Sequence[Answer]) -> list[dict[str, object]]:
    """Every answer as a plain record, with its own scores in all three suites."""
    scores = cider_d(*_tokenized(answers))
    return [
        {
            "key": answer.key,
            "shard": answer.file,
            "answer": answer.text,
            "captions": list(answer.captions),
            "tokens": answer.tokens,
            "cider_d": round(score, 4),
            "names_subject": names_subject(answer.text, answer.captions),
            "failures": list(failures(answer.text, ran_to_limit=answer.ran_to_limit)),
        }
        for answer, score in zip(answers, scores, strict=True)
    ]


def _with_counts(answers: Sequence[Answer], scores: Mapping[str, float]) -> Scores:
    seconds = max(sum(answer.seconds for answer in answers), 1e-9)
    return {"photos": len(answers), **scores, "photos/s": len(answers) / seconds}


def _tokenized(answers: Sequence[Answer]) -> tuple[list[list[str]], list[list[list[str]]]]:
    candidates = [words(answer.text) for answer in _require(answers)]
    return candidates, [[words(caption) for caption in answer.captions] for answer in answers]


def _subject_rate(answers: Sequence[Answer]) -> float:
    return sum(names_subject(answer.text, answer.captions) for answer in answers) / len(answers)


def _mean_words(answers: Sequence[Answer]) -> float:
    return sum(len(words(answer.text)) for answer in answers) / len(answers)


def _require(answers: Sequence[Answer]) -> Sequence[Answer]:
    if not answers:
        raise DataError("No photo with a caption was answered; 'minigpt4 data inspect' says why.")
    return answers
