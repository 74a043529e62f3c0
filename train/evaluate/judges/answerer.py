"""Models behind an endpoint as answerers of suites: a baseline for bundles."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

from minigpt4.core.errors import ImageError
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.evaluate.answering import answered, failed
from minigpt4.train.evaluate.judges.client import Request
from minigpt4.train.evaluate.judges.endpoint import EndpointModel
from minigpt4.train.evaluate.suite import Record, Task

AT_ONCE = 64
"""Questions whose pictures are held in memory at once."""


class EndpointAnswerer:
    """A vision-language model behind an endpoint; greedy, as bundles are."""

    def __init__(self, model: EndpointModel) -> None:
        self.identity = {"endpoint": model.endpoint.base_url, "model": model.endpoint.model}
        self._model = model

    def answers(self, tasks: Sequence[Task]) -> Iterator[Record]:
        """In any order. Choices are part of the question: an endpoint does not report likelihoods."""
        rest = iter(tasks)
        while chunk := list(islice(rest, AT_ONCE)):
            asked: list[tuple[Task, str]] = []
            requests: list[Request] = []
            for task in chunk:
                try:
                    content = task.photo.read()
                except (PhotoError, ImageError) as error:
                    yield failed(task, str(error))
                    continue
                asked.append((task, hashlib.sha256(content).hexdigest()))
                requests.append(Request(task.prompt_with_choices, content, task.max_tokens))
            for index, one in self._model.completions(requests):
                task, digest = asked[index]
                if one.refusal:
                    yield failed(task, f"{task.photo.key}: {one.refusal}", digest)
                else:
                    yield answered(task, digest, one.text, one.tokens, one.finish, one.seconds)
