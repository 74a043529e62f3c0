"""One question put to every photo of some shards, and the scores of the answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, Protocol, get_args

from minigpt4.core.errors import DataError, ImageError
from minigpt4.core.pixels import Picture, open_picture
from minigpt4.core.prompt import Message, User
from minigpt4.core.types import ImageEmbedding, Sampling
from minigpt4.train.data.webdataset import RawSample, Skip, read_shard
from minigpt4.train.evaluate.bleu import bleu
from minigpt4.train.evaluate.cider import cider_d_each
from minigpt4.train.evaluate.fluency import Failure, failures
from minigpt4.train.evaluate.ptb_tokenizer import words
from minigpt4.train.evaluate.subjects import names_subject, subject_rate

Stage = Literal[1, 2]

CAPTION_QUESTIONS: Mapping[Stage, str] = {1: "", 2: "Describe this image in one short sentence."}
"""How a projection of each stage is asked for a caption; the first stage knows no questions."""

SUBJECT_QUESTION = "What is in this picture?"
DETAIL_QUESTION = "Describe this image in detail."

CAPTION_TOKENS = 40
"""Most tokens of an answer that should be one sentence."""


class SpokenReply(Protocol):
    """What is asked of a reply, such as `core.reply.Reply`."""

    finish: Literal["stop", "length", "cancelled"] | None
    answer_tokens: int

    def read(self) -> str:
        """The whole answer."""
        ...


class Sighted(Protocol):
    """Who is measured, such as `core.engine.Engine`."""

    def look(self, source: Picture) -> ImageEmbedding:
        """The picture as the language model reads it."""
        ...

    def reply(self, conversation: Sequence[Message], sampling: Sampling | None = None) -> SpokenReply:
        """The answer to the last message."""
        ...


@dataclass(frozen=True)
class Answer:
    """What was answered about one photo, beside what people wrote about it; `seconds` is the whole time."""

    key: str
    shard: str
    text: str
    captions: tuple[str, ...]
    tokens: int
    ran_to_limit: bool
    seconds: float


@dataclass(frozen=True)
class CaptionScores:
    """`cider_d` in 0..10, `bleu` (1 to 4 words) and `subject_rate` in 0..1, `words` the mean length."""

    photos: int
    cider_d: float
    bleu: tuple[float, float, float, float]
    words: float
    subject_rate: float
    photos_per_s: float


@dataclass(frozen=True)
class SubjectScores:
    """`subject_rate` in 0..1, `words` the mean length."""

    photos: int
    subject_rate: float
    words: float
    photos_per_s: float


@dataclass(frozen=True)
class FluencyScores:
    """`failed` answers have one or more of the `reasons` (all named), which may add up to more."""

    photos: int
    failed: int
    reasons: Mapping[str, int]
    words: float
    photos_per_s: float


def samples_in(shards: Iterable[Path], *, skipped: Skip) -> Iterator[RawSample]:
    """The samples of all shards, one after the other."""
    for shard in shards:
        yield from read_shard(shard, skipped=skipped)


def answer_photos(
    model: Sighted,
    samples: Iterable[RawSample],
    question: str,
    sampling: Sampling,
    *,
    skipped: Skip,
    limit: int | None = None,
) -> Iterator[Answer]:
    """Put the question to each photo alone, to `limit` of them; unreadable photos are told to `skipped`."""
    return islice(_answers(model, samples, question, sampling, skipped), limit)


def _answers(
    model: Sighted, samples: Iterable[RawSample], question: str, sampling: Sampling, skipped: Skip
) -> Iterator[Answer]:
    for sample in samples:
        begun = time.perf_counter()
        try:
            embedding = model.look(open_picture(sample.jpg, name=sample.key))
        except ImageError as error:
            skipped(sample.key, str(error))
            continue
        reply = model.reply([User(question, images=[embedding])], sampling)
        text = reply.read().strip()
        yield Answer(
            key=sample.key,
            shard=sample.shard.name,
            text=text,
            captions=sample.captions,
            tokens=reply.answer_tokens,
            ran_to_limit=reply.finish == "length",
            seconds=time.perf_counter() - begun,
        )


def caption_scores(answers: Sequence[Answer]) -> CaptionScores:
    """CIDEr-D and BLEU over all the answers, with the idf of their own captions."""
    candidates, references = _tokenised(answers)
    return CaptionScores(
        photos=len(answers),
        cider_d=sum(cider_d_each(candidates, references)) / len(answers),
        bleu=bleu(candidates, references),
        words=_mean_words(answers),
        subject_rate=_subject_rate(answers),
        photos_per_s=_photos_per_s(answers),
    )


def subject_scores(answers: Sequence[Answer]) -> SubjectScores:
    """How often the answers name what people see."""
    return SubjectScores(
        photos=len(_some(answers)),
        subject_rate=_subject_rate(answers),
        words=_mean_words(answers),
        photos_per_s=_photos_per_s(answers),
    )


def fluency_scores(answers: Sequence[Answer]) -> FluencyScores:
    """How many of the answers fail in form, and why."""
    found = [failures(answer.text, ran_to_limit=answer.ran_to_limit) for answer in _some(answers)]
    return FluencyScores(
        photos=len(answers),
        failed=sum(bool(reasons) for reasons in found),
        reasons={reason: sum(reason in reasons for reasons in found) for reason in get_args(Failure)},
        words=_mean_words(answers),
        photos_per_s=_photos_per_s(answers),
    )


def judged(answers: Sequence[Answer]) -> list[dict[str, object]]:
    """Every answer as a plain record, with its own scores under all three measurements."""
    scores = cider_d_each(*_tokenised(answers))
    return [
        {
            "key": answer.key,
            "shard": answer.shard,
            "answer": answer.text,
            "captions": list(answer.captions),
            "tokens": answer.tokens,
            "cider_d": round(score, 4),
            "names_subject": names_subject(answer.text, answer.captions),
            "failures": list(failures(answer.text, ran_to_limit=answer.ran_to_limit)),
        }
        for answer, score in zip(answers, scores, strict=True)
    ]


def _tokenised(answers: Sequence[Answer]) -> tuple[list[list[str]], list[list[list[str]]]]:
    candidates = [words(answer.text) for answer in _some(answers)]
    return candidates, [[words(caption) for caption in answer.captions] for answer in answers]


def _subject_rate(answers: Sequence[Answer]) -> float:
    return subject_rate([answer.text for answer in answers], [answer.captions for answer in answers])


def _mean_words(answers: Sequence[Answer]) -> float:
    return sum(len(words(answer.text)) for answer in answers) / len(answers)


def _photos_per_s(answers: Sequence[Answer]) -> float:
    return len(answers) / max(sum(answer.seconds for answer in answers), 1e-9)


def _some(answers: Sequence[Answer]) -> Sequence[Answer]:
    if not answers:
        raise DataError("No photo with a caption was answered; give shards of KEY.jpg and KEY.json.")
    return answers
