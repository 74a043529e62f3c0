"""`minigpt4 eval captions|subjects|fluency SHARDS...`: how well a bundle answers about known photos."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from minigpt4.core.errors import UsageError
from minigpt4.tui.cli import options
from minigpt4.tui.cli.errors import say
from minigpt4.tui.cli.options import ModelChoice

if TYPE_CHECKING:
    from minigpt4.core.types import Sampling
    from minigpt4.train.evaluate.evaluate import Answer, Stage

eval_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure how well a bundle answers, over webdataset shards of KEY.jpg and KEY.json.",
)

PHOTOS_A_LINE = 100
"""How often a line of progress is written where there is no terminal to draw a bar on."""

Shards = Annotated[
    list[str], typer.Argument(help="Shards: .tar files, folders of them, globs, or {00000..00005}.tar.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many photos.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write every answer, scored, to this JSONL file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the scores as one JSON object.")]


@eval_app.command()
def captions(
    shards: Shards,
    limit: Limit = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="The question; the stage's own otherwise.")
    ] = None,
    stage: Annotated[
        int, typer.Option("--stage", min=1, max=2, help="Ask as this training stage did: 1 asks nothing.")
    ] = 2,
    projection: options.ProjectionFile = None,
    bundle: options.BundleName = "mini",
    backend: options.BackendName = "auto",
    device: options.Device = "auto",
    threads: options.Threads = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Compare short captions with people's own: CIDEr-D, BLEU-1 to 4 and subject rate."""
    from minigpt4.train.evaluate.evaluate import CAPTION_QUESTIONS, CAPTION_TOKENS, caption_scores

    choice = _choice(bundle, backend, device, projection, threads)
    question = CAPTION_QUESTIONS[cast("Stage", stage)] if prompt is None else prompt
    sampling = replace(choice.bundle.sampling.greedy(), max_tokens=CAPTION_TOKENS)
    survey = Survey("captions", choice, shards, question, sampling, limit, output)

    def table(answers: Sequence[Answer]) -> dict[str, Any]:
        scores = caption_scores(answers)
        return {
            "photos": scores.photos,
            "CIDEr-D": scores.cider_d,
            **{f"BLEU-{n}": value for n, value in enumerate(scores.bleu, start=1)},
            "mean length (words)": scores.words,
            "subject rate": scores.subject_rate,
            "photos/s": scores.photos_per_s,
        }

    survey.run(table, as_json=as_json)


@eval_app.command()
def subjects(
    shards: Shards,
    limit: Limit = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Another question.")] = None,
    projection: options.ProjectionFile = None,
    bundle: options.BundleName = "mini",
    backend: options.BackendName = "auto",
    device: options.Device = "auto",
    threads: options.Threads = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Ask "What is in this picture?" and count the answers that name what people see."""
    from minigpt4.train.evaluate.evaluate import CAPTION_TOKENS, SUBJECT_QUESTION, subject_scores

    choice = _choice(bundle, backend, device, projection, threads)
    question = SUBJECT_QUESTION if prompt is None else prompt
    survey = Survey(
        "subjects", choice, shards, question, _without_dice(choice, CAPTION_TOKENS), limit, output
    )

    def table(answers: Sequence[Answer]) -> dict[str, Any]:
        scores = subject_scores(answers)
        return {
            "photos": scores.photos,
            "subject rate": scores.subject_rate,
            "mean length (words)": scores.words,
            "photos/s": scores.photos_per_s,
        }

    survey.run(table, as_json=as_json)


@eval_app.command()
def fluency(
    shards: Shards,
    limit: Limit = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Another question.")] = None,
    projection: options.ProjectionFile = None,
    bundle: options.BundleName = "mini",
    backend: options.BackendName = "auto",
    device: options.Device = "auto",
    threads: options.Threads = None,
    max_tokens: options.MaxTokens = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Ask "Describe this image in detail." and count the answers that repeat or break off."""
    from minigpt4.train.evaluate.evaluate import DETAIL_QUESTION, fluency_scores

    if max_tokens is not None and max_tokens < 1:
        raise UsageError(f"--max-tokens is {max_tokens}; it must be at least 1.")
    choice = _choice(bundle, backend, device, projection, threads)
    question = DETAIL_QUESTION if prompt is None else prompt
    sampling = _without_dice(choice, max_tokens or choice.bundle.sampling.max_tokens)
    survey = Survey("fluency", choice, shards, question, sampling, limit, output)

    def table(answers: Sequence[Answer]) -> dict[str, Any]:
        scores = fluency_scores(answers)
        return {
            "photos": scores.photos,
            "failed": scores.failed,
            **scores.reasons,
            "mean length (words)": scores.words,
            "photos/s": scores.photos_per_s,
        }

    survey.run(table, as_json=as_json)


@dataclass(frozen=True)
class Survey:
    """One question for every photo of some shards; without dice, so that answers can be repeated."""

    suite: str
    choice: ModelChoice
    patterns: Sequence[str]
    question: str
    sampling: Sampling
    limit: int | None
    output: Path | None

    def run(self, table: Callable[[Sequence[Answer]], dict[str, Any]], *, as_json: bool) -> None:
        """Ask, score, and print the scores; nothing is written before all of it is done."""
        from minigpt4.train.data.webdataset import expand

        _check_output(self.output)
        shards = expand(self.patterns)
        skipped: Counter[str] = Counter()
        answers = self._ask(shards, lambda _key, reason: skipped.update([reason]))
        scores = table(answers)
        if self.output is not None:
            _write_answers(self.output, answers)
        for reason, count in skipped.most_common():
            say(f"{count} left out: {reason}")
        if as_json:
            record = {"suite": self.suite, "bundle": self.choice.bundle.name, "question": self.question}
            print(json.dumps(record | {"skipped": skipped.total()} | _keys(scores), ensure_ascii=False))
        else:
            _print_table(scores)

    def _ask(self, shards: Sequence[Path], skipped: Callable[[str, str], None]) -> list[Answer]:
        from minigpt4.train.data.webdataset import count_photos
        from minigpt4.train.evaluate.evaluate import answer_photos, samples_in

        total = count_photos(shards)
        total = min(total, self.limit or total)
        answers: list[Answer] = []
        with self.choice.load() as engine, _progress(self.suite, total) as advance:
            samples = samples_in(shards, skipped=skipped)
            for answer in answer_photos(
                engine, samples, self.question, self.sampling, skipped=skipped, limit=self.limit
            ):
                answers.append(answer)
                advance(len(answers))
        return answers


def _without_dice(choice: ModelChoice, max_tokens: int) -> Sampling:
    """The bundle's own sampling, with its repetition penalty, at temperature 0."""
    return replace(choice.bundle.sampling, temperature=0.0, max_tokens=max_tokens)


def _choice(
    bundle: str, backend: str, device: str, projection: Path | None, threads: int | None
) -> ModelChoice:
    return ModelChoice.of(
        bundle=bundle, backend=backend, device=device, projection=projection, threads=threads
    )


def _check_output(output: Path | None) -> None:
    # Said before the model is asked a thousand times, not after.
    if output is None:
        return
    if output.is_dir():
        raise UsageError(
            f"--output {output} is a folder; name a file in it, such as {output / 'answers.jsonl'}."
        )
    if not output.absolute().parent.is_dir():
        raise UsageError(f"--output {output} lies in a folder that does not exist; make it first.")


def _write_answers(output: Path, answers: Sequence[Answer]) -> None:
    from minigpt4.core.atomic import replacing
    from minigpt4.train.evaluate.evaluate import judged

    with replacing(output) as draft, draft.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in judged(answers))


def _print_table(scores: Mapping[str, float]) -> None:
    width = max(len(name) for name in scores)
    for name, value in scores.items():
        print(f"{name:<{width}}  {value if isinstance(value, int) else format(value, '.3f')}")


def _keys(scores: Mapping[str, float]) -> dict[str, float]:
    """The table's names as JSON keys: lower case, joined by underscores, without units."""
    return {
        name.partition(" (")[0].lower().replace("/", "_per_").replace("-", "_").replace(" ", "_"): value
        for name, value in scores.items()
    }


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr, or a line now and then where stderr is something else."""
    if not sys.stderr.isatty():

        def advance(done: int) -> None:
            if done % PHOTOS_A_LINE == 0:
                say(f"{title}: {done} of {total} photos")

        yield advance
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title, markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda done: progress.update(task, completed=done)
