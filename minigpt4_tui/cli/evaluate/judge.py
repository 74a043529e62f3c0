"""`minigpt4 eval judge RUN`: let a model or a person judge answers, and report their reliability."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.errors import UsageError
from minigpt4.tui.cli import options
from minigpt4.tui.cli.evaluate.endpoint import ENDPOINT, EndpointFlags, say_estimate
from minigpt4.tui.cli.evaluate.suites import print_table
from minigpt4.tui.cli.progress import opening_photos, timing_pictures
from minigpt4.tui.terminal.messages import say
from minigpt4.tui.terminal.results import json_text

if TYPE_CHECKING:
    from minigpt4.train.evaluate.judges.client import Request, TextModel
    from minigpt4.train.evaluate.run_folder import EvalRun
    from minigpt4.train.evaluate.suite import JudgeTask, Record, Suite


@options.with_option_sets
def judge(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Folders of runs with answers.")],
    name: Annotated[
        str | None,
        typer.Option("--judge", metavar="NAME", help="A model behind an endpoint judges, under this name."),
    ] = None,
    person: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Your name as the judge; by default your login's."),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(
            "--base-url",
            metavar="URL",
            help="The endpoint's address, such as http://localhost:8000/v1; by default the setting "
            "judge_url, OPENAI_BASE_URL or OpenAI's.",
        ),
    ] = None,
    judge_bundle: Annotated[
        str | None, typer.Option("--judge-bundle", metavar="BUNDLE", help="A bundle judges.")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option("--data", metavar="DATA", help="Where the pictures are, if no longer where they were."),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Longest verdict, in tokens.")] = 64,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the known negatives.")] = 0,
    endpoint: EndpointFlags = ENDPOINT,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a run.")] = False,
) -> None:
    """Judge the answers of runs, known wrong ones among them; a stopped command resumes.

    Without a model you judge at the terminal, with one key each, the answers of all runs mixed and unnamed.
    The key of an endpoint is read from MINIGPT4_JUDGE_KEY or OPENAI_API_KEY.
    """
    from minigpt4.train.evaluate.run_folder import EvalRun

    is_person = name is None and judge_bundle is None
    if is_person and (base_url is not None or endpoint.model is not None):
        raise UsageError(
            "--base-url and --model are for a model; name that with --judge; without both you judge."
        )
    if not is_person and person is not None:
        raise UsageError("--name is a person's, and a model judges here; leave it out.")
    if judge_bundle is not None and base_url is not None:
        raise UsageError("--judge-bundle and --base-url contradict each other; give one of them.")
    opened = [Bench.of(EvalRun.open(path.expanduser()), seed) for path in runs]
    if is_person:
        from minigpt4.tui.cli.evaluate.human_judge import judge_by_hand

        judge_by_hand(opened, data, person, seed)
    else:
        with _judge(name, judge_bundle, base_url, endpoint) as one:
            for bench in opened:
                bench.judge(one, data, max_tokens)
    for bench in opened:
        bench.print(as_json=as_json)


@dataclass(frozen=True)
class Judge:
    """A model that judges, with its name and identity."""

    name: str
    identity: Mapping[str, str]
    model: TextModel
    announce: Callable[[Sequence[Request]], object]
    """Called with the requests before they are sent."""


@contextmanager
def _judge(
    name: str | None, bundle: str | None, base_url: str | None, endpoint: EndpointFlags
) -> Iterator[Judge]:
    if bundle is None:
        model = endpoint.load(base_url)
        identity = {"base_url": model.endpoint.base_url, "model": model.endpoint.model}
        yield Judge(name or model.name, identity, model, lambda requests: say_estimate(model, requests))
        return
    from minigpt4.train.evaluate.identity import bundle_identity
    from minigpt4.train.evaluate.judges.client import BundleModel

    choice = options.FIXED_MODEL.options(bundle).resolved()
    with options.load_engine(choice) as engine:
        called = name or f"bundle {bundle}"
        yield Judge(called, bundle_identity(choice), BundleModel(engine, called), lambda _requests: None)


@dataclass(frozen=True)
class Bench:
    """A run, and what its suite asks a judge about it."""

    run: EvalRun
    suite: Suite
    tasks: Sequence[JudgeTask]

    @classmethod
    def of(cls, run: EvalRun, seed: int) -> Bench:
        """The judging tasks of a run; raises UsageError if there are none."""
        from minigpt4.train.evaluate.suites import suite_named

        suite = suite_named(run.header["suite"])
        tasks = suite.judge_tasks([record for record in run.records() if not record.error], seed)
        if not tasks:
            raise UsageError(f"'{run.path}' has no answer to judge: its suite is {suite.name}.")
        return cls(run, suite, tasks)

    def judge(self, one: Judge, data: Sequence[str] | None, max_tokens: int) -> None:
        """Ask the judge about every task on which it has no verdict yet."""
        from minigpt4.train.evaluate.judges.client import Request
        from minigpt4.train.evaluate.judges.judging import judge, require_same_judge, unjudged

        with self.run.locked():
            require_same_judge(self.run, one.name, one.identity)
            waiting = unjudged(self.run, self.tasks, one.name)
            if not waiting:
                return
            if len(waiting) < len(self.tasks):
                say(f"Resuming: {len(self.tasks) - len(waiting)} of {len(self.tasks)} verdicts are there.")
            pictures = None
            if any(task.needs_picture for task in waiting):
                pictures = self.pictures(data)
            one.announce(
                [Request(task.prompt, b"" if task.needs_picture else None, max_tokens) for task in waiting]
            )
            refused: list[str] = []
            with timing_pictures(self.suite.name, len(waiting)) as advance:

                def note(sentence: str) -> None:
                    if sentence:
                        refused.append(sentence)
                    advance(sentence)

                judge(
                    self.run,
                    self.suite,
                    waiting,
                    one.model,
                    one.name,
                    pictures=pictures,
                    max_tokens=max_tokens,
                    advance=note,
                )
            if refused:
                say(f"{len(refused)} not judged, the same command asks again; the first: {refused[0]}")

    def pictures(self, data: Sequence[str] | None) -> Callable[[Record], bytes]:
        """A function that reads an answer's picture; raises UsageError if the pictures' place is unknown."""
        from minigpt4.train.data.dataset import PhotoError
        from minigpt4.train.evaluate.open import open_photos
        from minigpt4.train.evaluate.run_folder import PLACES

        places = data or self.run.header.get(PLACES, {}).get("data", [])
        if not places:
            raise UsageError(f"Where the pictures of '{self.run.path}' are is not known; give --data.")
        with opening_photos(lambda _event: None) as report:
            photos = {photo.key: photo for photo in open_photos(places, self.suite.need, report)}

        def read(record: Record) -> bytes:
            if record.photo not in photos:
                raise PhotoError(record.set, record.photo, f"it is not in {' '.join(places)}")
            content = photos[record.photo].read()
            if hashlib.sha256(content).hexdigest() != record.digest:
                raise PhotoError(record.set, record.photo, "it is not the one that was asked about")
            return content

        return read

    def print(self, *, as_json: bool) -> None:
        """Print the judges' reliability and the scores."""
        from minigpt4.train.evaluate.judges import summary
        from minigpt4.train.evaluate.scores import as_json as score_json

        records = [record for record in self.run.records() if not record.error]
        verdicts = self.run.verdicts()
        scores = self.suite.scores(records, verdicts)
        judges = summary.judge_summaries(verdicts)
        if as_json:
            whole = {"run": str(self.run.path), "suite": self.suite.name, **summary.as_json(verdicts)}
            print(json_text(whole | {"scores": [score_json(score) for score in scores]}))
        else:
            for one in judges:
                print(one.sentence)
            for pair in summary.agreements(verdicts):
                print(pair.sentence)
            print_table(len(records), scores)
        for one in judges:
            if one.warning:
                say(one.warning)
