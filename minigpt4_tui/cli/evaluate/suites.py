"""`minigpt4 eval SUITE`: ask a suite's questions, keep every answer in a run folder, print the scores."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, cast

import typer

from minigpt4.core.errors import DataError, UsageError
from minigpt4.tui.cli import options
from minigpt4.tui.cli.evaluate.endpoint import ENDPOINT, EndpointFlags, say_estimate
from minigpt4.tui.cli.evaluate.processes import (
    Processes,
    assigned_ranks,
    joined_processes,
    share_of_machine,
    start_processes,
)
from minigpt4.tui.cli.options import FixedEngineFlags
from minigpt4.tui.cli.progress import counting_skipped, timing_pictures
from minigpt4.tui.terminal.messages import say
from minigpt4.tui.terminal.results import json_text

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.train.evaluate.answering import Answerer
    from minigpt4.train.evaluate.judges.endpoint import EndpointModel
    from minigpt4.train.evaluate.run_folder import EvalRun
    from minigpt4.train.evaluate.scores import Score
    from minigpt4.train.evaluate.suite import Record, Suite, SuiteOptions, Task

SUITES = {
    "captions": "Compare short captions with people's own: CIDEr-D, BLEU-1 to 4, length, distinct words.",
    "subjects": "Ask what is in the picture, and count the answers that name what people see.",
    "fluency": "Ask for a detailed description, and count the answers that repeat or break off.",
    "failures": "Ask for a description and a poem, and count those that fail in form, as the paper did.",
    "coverage": "Ask for a detailed description, for judges to say which of people's captions it covers.",
    "tasks": "Ask about memes, dishes, products and scenes as the paper did; judges say what succeeds.",
    "chair": "Ask for a short and a long description, and count the objects that are made up (CHAIR).",
    "presence": "Ask for objects that are there and that are not, as POPE does: accuracy, F1, share of yes.",
    "counting": "Ask how many objects of a kind there are: exact and within one, per true number.",
    "vqa": "Ask the questions of A-OKVQA or GQA, by choice and directly, with their official accuracy.",
}
"""The suites' one-line descriptions, known without importing them."""

Data = Annotated[
    list[str],
    typer.Option(
        "--data",
        metavar="DATA",
        help="Pictures with captions, as for 'train --data'; may be repeated. Suites that need no captions "
        "also take a folder of plain pictures.",
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        metavar="RUN",
        help="Folder of this run: every answer is kept, and a stopped run resumes.",
    ),
]

BundleOrOther = Annotated[
    str | None, typer.Option("--bundle", "-b", help="Model bundle.", show_default="mini")
]
EndpointUrl = Annotated[
    str | None,
    typer.Option("--endpoint", metavar="URL", help="Ask a model behind this OpenAI-compatible endpoint."),
]
Blip2Model = Annotated[
    str | None,
    typer.Option(
        "--blip2",
        metavar="MODEL",
        help="Ask BLIP-2: a folder as transformers saves it, or the Hub's name of one in its cache.",
    ),
]


def add_suites(app: typer.Typer) -> None:
    """One command for each suite; all have the same options."""
    for name, about in SUITES.items():
        app.command(name, help=about)(_command(name))


def _command(name: str) -> Callable[..., None]:
    @options.with_option_sets
    def run(
        data: Data,
        output: Output = None,
        limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only this many pictures.")] = None,
        prompt: Annotated[
            str | None, typer.Option("--prompt", help="Another question than the suite's.")
        ] = None,
        after: Annotated[
            str | None,
            typer.Option(
                "--after",
                metavar="QUESTION",
                help="Ask this first, and measure what is answered next in the same conversation.",
            ),
        ] = None,
        stage: Annotated[
            int,
            typer.Option(
                "--stage", min=1, max=2, help="captions: ask as this training stage did; 1 asks nothing."
            ),
        ] = 2,
        max_tokens: options.MaxTokens = None,
        seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of what a suite draws at random.")] = 0,
        bundle: BundleOrOther = None,
        devices: Annotated[
            int,
            typer.Option(
                "--devices", min=1, help="Processes that share the pictures, one a GPU; on a CPU its cores."
            ),
        ] = 1,
        fixed: FixedEngineFlags = options.FIXED_MODEL,
        url: EndpointUrl = None,
        endpoint: EndpointFlags = ENDPOINT,
        blip2: Blip2Model = None,
        as_json: Annotated[bool, typer.Option("--json", help="Print the scores as one JSON object.")] = False,
    ) -> None:
        from minigpt4.train.evaluate.suite import SuiteOptions
        from minigpt4.train.evaluate.suites import suite_named

        _check_question(name, max_tokens, stage, after)
        _require_one_model({"--bundle": bundle, "--endpoint": url, "--blip2": blip2}, fixed, devices, after)
        chosen = SuiteOptions(prompt, max_tokens, cast("Any", stage), seed, after)
        survey = Survey(suite_named(name), chosen, data, limit, output)
        if url is not None:
            survey.run_endpoint(endpoint.load(url), as_json=as_json)
            return
        if blip2 is not None:
            survey.run_blip2(blip2, fixed, as_json=as_json)
            return
        choice = fixed.options(bundle or "mini").resolved()
        if assigned_ranks() is None and devices > 1:
            survey.run_in_processes(choice, devices)
        survey.run(share_of_machine(choice), as_json=as_json)

    return run


def _check_question(suite: str, max_tokens: int | None, stage: int, after: str | None) -> None:
    """Raise UsageError for options with which nothing can be asked."""
    if max_tokens is not None and max_tokens < 1:
        raise UsageError(f"--max-tokens is {max_tokens}; it must be at least 1.")
    if stage != 2 and suite != "captions":
        raise UsageError(f"--stage is for captions, and this suite is {suite}; leave it out.")
    if stage == 1 and after is not None:
        raise UsageError("--stage 1 asks nothing, so nothing can come --after a question; leave one out.")
    if after is not None and not after.strip():
        raise UsageError("--after is empty; write the question to ask first, or leave it out.")


def _require_one_model(
    models: Mapping[str, str | None], fixed: FixedEngineFlags, devices: int, after: str | None
) -> None:
    """Raise UsageError for two models, or for options of a bundle with another model."""
    given = [option for option, value in models.items() if value is not None]
    if len(given) > 1:
        raise UsageError(f"{given[0]} and {given[1]} contradict each other; give one of them.")
    if after is not None and given and given != ["--bundle"]:
        raise UsageError(f"--after is for a bundle, and {given[0]} names another model; give one of them.")
    if models["--blip2"] is None:
        return
    given_of_bundle = {
        "--projection": fixed.projection is not None,
        "--backend": fixed.backend != "auto",
        "--image-tokens": fixed.image_tokens is not None,
        "--no-repack": fixed.no_repack,
        "--no-cache": fixed.no_cache,
    }
    if wrong := next((option for option, is_given in given_of_bundle.items() if is_given), None):
        raise UsageError(f"{wrong} is for a bundle, and --blip2 names another model; give one of them.")
    if devices > 1:
        raise UsageError(f"BLIP-2 answers in one process, and --devices is {devices}; leave it out.")


@dataclass(frozen=True)
class Survey:
    """A suite's questions about the pictures at some places."""

    suite: Suite
    options: SuiteOptions
    places: Sequence[str]
    limit: int | None
    output: Path | None

    def run_in_processes(self, choice: EngineOptions, count: int) -> NoReturn:
        """`run` in several processes; raises typer.Exit with their exit code."""
        self._require_output(count)
        options.fetch_files(choice)
        start_processes(count)

    def run(self, choice: EngineOptions, *, as_json: bool) -> None:
        """Ask what has not been asked yet, and print the scores of all answers."""
        from minigpt4.train.evaluate.answering import BundleAnswerer, unanswered
        from minigpt4.train.evaluate.identity import bundle_identity

        with joined_processes() as processes, ExitStack() as stack:
            if not processes.is_first:
                processes.wait()  # for the checks and downloads of the first one
            self._require_output(processes.count)
            tasks = self._tasks()
            options.fetch_files(choice)
            identity = bundle_identity(choice)
            sampling = self.suite.sampling(choice.loaded_bundle().sampling)
            folder = stack.enter_context(_folder(self.output))
            projection = [] if choice.projection is None else [str(choice.projection)]
            run = self._begin(folder, projection, identity, asdict(sampling), tasks)
            if processes.is_first:
                stack.enter_context(run.locked())
                processes.wait()
            waiting = unanswered(run, tasks)
            processes.wait()  # until all have read the existing answers
            if processes.is_first and waiting and len(waiting) < len(tasks):
                say(f"Resuming: {len(tasks) - len(waiting)} of {len(tasks)} answers are there.")
            answerer = partial(BundleAnswerer, identity=identity, sampling=sampling, after=self.options.after)
            self._ask(run, choice, answerer, waiting, processes)
            processes.wait()
            if processes.is_first:
                self._print(run, as_json=as_json)

    def run_endpoint(self, model: EndpointModel, *, as_json: bool) -> None:
        """`run` with a model behind an endpoint."""
        from minigpt4.train.evaluate.judges.answerer import EndpointAnswerer
        from minigpt4.train.evaluate.judges.client import Request

        def announce(waiting: Sequence[Task]) -> None:
            say_estimate(model, [Request(one.prompt, b"", one.max_tokens) for one in waiting])

        self._require_output(1)
        answerer = EndpointAnswerer(model)
        self._run_one(lambda: answerer, answerer.identity, self._tasks(), announce, as_json=as_json)

    def run_blip2(self, place: str, fixed: FixedEngineFlags, *, as_json: bool) -> None:
        """`run` with a BLIP-2 model."""
        from minigpt4.train.evaluate.blip2 import Blip2Answerer, find_blip2

        self._require_output(1)
        found = find_blip2(place, fixed.device)
        self._run_one(
            lambda: Blip2Answerer(found, fixed.threads), found.identity, self._tasks(), as_json=as_json
        )

    def _run_one(
        self,
        answerer: Callable[[], Answerer],
        identity: Mapping[str, str],
        tasks: Sequence[Task],
        announce: Callable[[Sequence[Task]], object] = lambda _waiting: None,
        *,
        as_json: bool,
    ) -> None:
        """`run` in this process only, decoding greedily; the model is loaded only if a question waits."""
        from minigpt4.train.evaluate.answering import ask, unanswered

        with _folder(self.output) as folder:
            run = self._begin(folder, [], identity, {"temperature": 0.0}, tasks)
            with run.locked():
                waiting = unanswered(run, tasks)
                if waiting and len(waiting) < len(tasks):
                    say(f"Resuming: {len(tasks) - len(waiting)} of {len(tasks)} answers are there.")
                if waiting:
                    announce(waiting)
                    model = answerer()
                    with timing_pictures(self.suite.name, len(waiting)) as advance:
                        ask(run, waiting, model, advance=lambda record: advance(record.error))
            self._print(run, as_json=as_json)

    def _require_output(self, processes: int) -> None:
        """Raise UsageError for an unusable or missing --output, before anything is downloaded."""
        from minigpt4.train.evaluate.run_folder import EvalRun

        if self.output is None and self.suite.is_judged:
            raise UsageError(
                f"The answers to {self.suite.name} are for a judge to read; give an --output to keep them in."
            )
        if self.output is not None:
            EvalRun.require_run_or_nothing(self.output.expanduser())
        elif processes > 1:
            raise UsageError(
                f"The {processes} processes need a folder that all of them write to; give one with --output."
            )

    def _tasks(self) -> list[Task]:
        from minigpt4.train.evaluate.open import open_photos

        with counting_skipped() as report:
            photos = open_photos(self.places, self.suite.need, report)
        return list(self.suite.tasks(self.suite.limited(photos, self.limit), self.options))

    def _begin(
        self,
        folder: Path,
        projection: Sequence[str],
        identity: Mapping[str, str],
        sampling: Mapping[str, Any],
        tasks: Sequence[Task],
    ) -> EvalRun:
        from minigpt4.train.evaluate.answering import tasks_fingerprint
        from minigpt4.train.evaluate.identity import versions
        from minigpt4.train.evaluate.run_folder import EvalRun

        header = {
            "suite": self.suite.name,
            "model": identity,
            "options": self.options.stated | {"limit": self.limit},
            "data": {"questions": len(tasks), "fingerprint": tasks_fingerprint(tasks)},
            "sampling": sampling,
            "versions": versions(identity.get("backend", "")),
        }
        return EvalRun.begin(folder, header, {"data": self.places, "projection": projection})

    def _ask(
        self,
        run: EvalRun,
        choice: EngineOptions,
        answerer: Callable[[Engine], Answerer],
        waiting: Sequence[Task],
        processes: Processes,
    ) -> None:
        """Ask this process's share of what is waiting."""
        from minigpt4.train.evaluate.answering import ask, share_of

        share = share_of(waiting, processes.rank, processes.count)
        if not share:
            return
        with options.load_engine(choice) as engine, timing_pictures(self.suite.name, len(share)) as advance:

            def note(record: Record) -> None:
                advance(record.error)
                processes.check()

            ask(run, share, answerer(engine), advance=note, process=processes.rank)

    def _print(self, run: EvalRun, *, as_json: bool) -> None:
        records = run.records()
        failed = [record for record in records if record.error]
        answered = [record for record in records if not record.error]
        if failed:
            say(f"{len(failed)} not answered; the first: {failed[0].error}")
        if not answered:
            raise DataError("No picture could be asked about; 'minigpt4 data inspect' says why.")
        verdicts = run.verdicts()
        if self.suite.is_judged and not verdicts:
            say(f"Nothing is judged yet: 'minigpt4 eval judge {run.path}' lets you or a model judge.")
        scores = self.suite.scores(answered, verdicts)
        if as_json:
            print(json_text(_record(self.suite.name, run, len(answered), len(failed), scores)))
        else:
            print_table(len(answered), scores)


@contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """The run's folder; without one, a temporary folder."""
    if output is not None:
        yield output.expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="minigpt4-eval-") as folder:
        yield Path(folder)


def _record(suite: str, run: EvalRun, answers: int, failed: int, scores: Sequence[Score]) -> dict[str, Any]:
    from minigpt4.train.evaluate.scores import as_json

    return {
        "suite": suite,
        "model": run.header["model"],
        "answers": answers,
        "not_answered": failed,
        "scores": [as_json(score) for score in scores],
    }


def print_table(answers: int, scores: Sequence[Score]) -> None:
    """Print the number of answers, then the scores and their intervals."""
    rows = [("answers", str(answers), "")]
    for score in scores:
        interval = score.interval
        between = f"{interval[0]:.{score.digits}f} to {interval[1]:.{score.digits}f}" if interval else ""
        value = (
            "-" if score.value != score.value else f"{score.value:.{score.digits}f}"
        )  # NaN: nothing counted
        rows.append((score.name, value, between))
    name_width, value_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, value, between in rows:
        print(f"{name:<{name_width}}  {value:>{value_width}}  {between}".rstrip())
