"""Ask the questions of a suite and save every answer; the answering model is an `Answerer`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Protocol

from minigpt4.core.batch.look_ahead import Look, look_ahead
from minigpt4.core.errors import ContextError, ImageError
from minigpt4.core.pixels import Picture, open_picture
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.types import ImageEmbedding, ResolvedSampling
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.train.evaluate.suite import Record, Task

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine

MOST_BEFORE = 60
"""Most tokens of the answer that precedes the measured one."""


class Answerer(Protocol):
    """A model that answers questions about pictures: a bundle, or one behind an endpoint."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What distinguishes its answers from another model's: names, digests, versions."""
        ...

    def answers(self, tasks: Sequence[Task]) -> Iterator[Record]:
        """A record of every task, in any order; with an `error` if its picture cannot be used.

        Raises Minigpt4Error for a failure that concerns all tasks.
        """
        ...


class BundleAnswerer:
    """A loaded bundle. Pictures are encoded on another thread while answers are generated."""

    def __init__(
        self,
        engine: Engine,
        identity: Mapping[str, str],
        sampling: ResolvedSampling,
        after: str | None = None,
    ) -> None:
        """`sampling` is the suite's; each task sets its own token limit.

        `after` is asked first about every picture: each task is then the second question of a conversation.
        """
        self.identity = identity
        self._engine = engine
        self._sampling = sampling
        self._after = after

    def answers(self, tasks: Sequence[Task]) -> Iterator[Record]:
        """The records in the tasks' order; tasks about the same picture should be adjacent."""
        groups = [list(group) for _, group in groupby(tasks, lambda task: task.photo)]
        looks = looked_at(self._engine, [group[0].photo for group in groups])
        with closing(looks):
            for group, look in zip(groups, looks, strict=True):
                if isinstance(look, str):
                    yield from (failed(task, look) for task in group)
                    continue
                earlier = self._earlier(look.embedding)
                for task in group:
                    yield self._answer(task, look.picture.digest, look.embedding, earlier)

    def _earlier(self, embedding: ImageEmbedding) -> list[Message]:
        """The first question about a picture and its answer, if there is one."""
        if self._after is None:
            return []
        question = User(self._after, images=[embedding])
        sampling = replace(self._sampling, max_tokens=MOST_BEFORE)
        return [question, Assistant(self._engine.reply([question], sampling).read().strip())]

    def _answer(
        self, task: Task, digest: str, embedding: ImageEmbedding, earlier: Sequence[Message]
    ) -> Record:
        begun = time.perf_counter()
        question = [*earlier, User(task.prompt, images=[] if earlier else [embedding])]
        sampling = replace(self._sampling, max_tokens=task.max_tokens)
        try:
            if task.choices:
                likelihoods = self._engine.log_likelihoods(question, task.choices)
                best = task.choices[likelihoods.index(max(likelihoods))]
                return answered(task, digest, best, 0, "stop", time.perf_counter() - begun)
            reply = self._engine.reply(question, sampling)
            text = reply.read().strip()
        except ContextError as error:
            return failed(task, str(error), digest)
        seconds = time.perf_counter() - begun
        return answered(task, digest, text, reply.answer_tokens, reply.finish or "stop", seconds)


def looked_at(engine: Engine, photos: Sequence[EvalPhoto]) -> Generator[Look | str, None, None]:
    """Each picture, encoded on another thread ahead of its use, or a sentence why it cannot be used."""

    def opening(photo: EvalPhoto) -> Callable[[], Picture]:
        return lambda: open_picture(photo.read(), name=photo.key)

    with closing(look_ahead(engine, map(opening, photos), faults=(PhotoError, ImageError))) as looks:
        for look in looks:
            yield look if isinstance(look, Look) else str(look)


def answered(task: Task, digest: str, text: str, tokens: int, finish: str, seconds: float) -> Record:
    """The record of an answer."""
    photo = task.photo
    return Record(
        task.id, photo.key, photo.set, digest, task.prompt, text, tokens, finish, seconds, task.truth
    )


def failed(task: Task, sentence: str, digest: str = "") -> Record:
    """The record of a question that could not be asked."""
    photo = task.photo
    return Record(task.id, photo.key, photo.set, digest, task.prompt, "", truth=task.truth, error=sentence)


def tasks_fingerprint(tasks: Sequence[Task]) -> str:
    """A fingerprint of the questions: their texts, order and truth, but not the pictures' pixels."""
    content = hashlib.sha256()
    for task in tasks:
        content.update(json.dumps([task.id, task.prompt, task.max_tokens, task.truth, task.choices]).encode())
    return content.hexdigest()[:16]


def unanswered(run: EvalRun, tasks: Sequence[Task]) -> list[Task]:
    """The questions to which the run has no answer."""
    done = {record.id for record in run.records() if not record.error}
    return [task for task in tasks if task.id not in done]


def share_of(tasks: Sequence[Task], process: int, processes: int) -> list[Task]:
    """The questions of one of several processes: those about every `processes`-th picture."""
    photos = list(dict.fromkeys(task.photo for task in tasks))
    share = set(photos[process::processes])
    return [task for task in tasks if task.photo in share]


def ask(
    run: EvalRun,
    tasks: Sequence[Task],
    answerer: Answerer,
    *,
    advance: Callable[[Record], object] = lambda _record: None,
    process: int = 0,
) -> None:
    """Ask the questions and save each answer at once; `process` is this process's number in the run.

    Raises Minigpt4Error for a failure that concerns all questions.
    """
    with run.answers_file(process) as file:
        for record in answerer.answers(tasks):
            file.add(record)
            advance(record)
