"""Let a model judge the answers of a run; each verdict is saved at once, and a stopped run resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

from minigpt4.core.errors import DataError, UsageError
from minigpt4.core.storage.atomic import replacing
from minigpt4.train.data.dataset import PhotoError
from minigpt4.train.evaluate.judges.client import Request, TextModel
from minigpt4.train.evaluate.run_folder import EvalRun
from minigpt4.train.evaluate.suite import JudgeTask, Record, Suite, Verdict

JUDGES = "judges.json"
"""The file of a run with the identity of each judge that is a model."""

READ_AHEAD = 32
"""Requests whose pictures are held in memory at once."""

Pictures = Callable[[Record], bytes]
"""The encoded image that an answer is about; raises PhotoError."""


def unjudged(run: EvalRun, tasks: Sequence[JudgeTask], judge: str) -> list[JudgeTask]:
    """The tasks that this judge has not judged yet."""
    said = {(one.question, one.id, one.is_negative) for one in run.verdicts() if one.judge == judge}
    return [task for task in tasks if (task.question, task.id, task.is_negative) not in said]


def models_of(run: EvalRun) -> dict[str, Mapping[str, str]]:
    """The models among the run's judges, by their names; the others are people. Raises DataError."""
    path = run.path / JUDGES
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read ({error}).") from error


def require_same_judge(run: EvalRun, judge: str, identity: Mapping[str, str]) -> None:
    """Record which model a judge is; raises UsageError if it was another, so that none are mixed."""
    known = models_of(run)
    before = known.get(judge)
    if before == identity:
        return
    if before is not None:
        name = next(name for name in {**before, **identity} if before.get(name) != identity.get(name))
        raise UsageError(
            f"The judge '{judge}' of '{run.path}' had another {name}: '{before.get(name)}', and now it would "
            f"be '{identity.get(name)}'; give the new one another name with --judge."
        )
    if any(one.judge == judge for one in run.verdicts()):
        raise UsageError(
            f"'{run.path}' has verdicts of a person called '{judge}'; give the model another name with "
            "--judge."
        )
    with replacing(run.path / JUDGES) as draft:
        draft.write_text(json.dumps({**known, judge: identity}, indent=1) + "\n", encoding="utf-8")


def judge(
    run: EvalRun,
    suite: Suite,
    tasks: Sequence[JudgeTask],
    model: TextModel,
    name: str,
    *,
    pictures: Pictures | None = None,
    max_tokens: int = 64,
    advance: Callable[[str], object] = lambda _said: None,
) -> None:
    """Ask a model about the tasks. Those it refuses have no verdict and are asked again by the next run.

    `advance` is called after each task, with a refusal's sentence or "". Raises Minigpt4Error for errors
    that affect all tasks; earlier verdicts are kept.
    """
    records = {record.id: record for record in run.records()}

    def request(task: JudgeTask) -> Request:
        picture = None
        if task.needs_picture:
            if pictures is None:
                raise UsageError(f"'{suite.name}' is judged by the pictures, and they are not known.")
            picture = pictures(records[task.id])
        return Request(task.prompt, picture, max_tokens)

    with run.verdicts_file() as file:
        for chunk in _chunks(tasks):
            asked: list[JudgeTask] = []
            requests: list[Request] = []
            for task in chunk:
                try:
                    requests.append(request(task))
                    asked.append(task)
                except PhotoError as error:
                    advance(str(error))
            for index, words in model.complete(requests, lambda _index, sentence: advance(sentence)):
                task = asked[index]
                value = suite.verdict(task, words)
                file.add(Verdict(task.id, name, task.question, value, words, task.is_negative))
                advance("")


def _chunks(tasks: Sequence[JudgeTask]) -> Iterator[list[JudgeTask]]:
    """All at once if no picture is needed, so that an endpoint is never idle."""
    if not any(task.needs_picture for task in tasks):
        yield list(tasks)
        return
    rest = iter(tasks)
    while chunk := list(islice(rest, READ_AHEAD)):
        yield chunk
