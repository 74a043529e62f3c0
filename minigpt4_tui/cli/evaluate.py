"""`minigpt4 eval captions|subjects|fluency DATA...`: how well a bundle answers about known photos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from minigpt4.core.errors import UsageError
from minigpt4.tui.cli import options
from minigpt4.tui.cli.progress import counting_photos, opening_photos
from minigpt4.tui.terminal.messages import say
from minigpt4.tui.terminal.results import json_text

if TYPE_CHECKING:
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.types import ResolvedSampling
    from minigpt4.train.evaluate.evaluate import Answer, Scores, Stage
    from minigpt4.train.events import PhotoSkipped

eval_app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure how well a bundle answers about photos with captions.",
)

PHOTOS_A_LINE = 100
"""Photos between two lines of progress if stderr is not a terminal."""

Shards = Annotated[
    list[str],
    typer.Argument(
        help="Photos with captions, as for 'train --data': .tar shards (folders, globs, {00000..00005}.tar), "
        "folders with captions.jsonl or texts, COCO's captions."
    ),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Stop after this many photos.")]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Write every answer, scored, to this JSONL file.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the scores as one JSON object.")]


@eval_app.command()
@options.with_option_sets
def captions(
    shards: Shards,
    limit: Limit = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", help="The question, instead of the stage's own.")
    ] = None,
    stage: Annotated[
        int, typer.Option("--stage", min=1, max=2, help="Ask as this training stage did: 1 asks nothing.")
    ] = 2,
    bundle: options.BundleName = "mini",
    model: options.FixedModelFlags = options.FIXED_MODEL,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Compare short captions with people's own: CIDEr-D, BLEU-1 to 4 and subject rate."""
    from minigpt4.train.evaluate.evaluate import CAPTION_QUESTIONS, CAPTION_TOKENS, caption_scores

    choice = model.options(bundle).resolved()
    question = CAPTION_QUESTIONS[cast("Stage", stage)] if prompt is None else prompt
    sampling = replace(choice.loaded_bundle().sampling.greedy(), max_tokens=CAPTION_TOKENS)
    survey = Survey("captions", choice, shards, question, sampling, limit, output)
    survey.run(caption_scores, as_json=as_json)


@eval_app.command()
@options.with_option_sets
def subjects(
    shards: Shards,
    limit: Limit = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The question to ask instead.")] = None,
    bundle: options.BundleName = "mini",
    model: options.FixedModelFlags = options.FIXED_MODEL,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Ask "What is in this picture?" and count the answers that name what people see."""
    from minigpt4.train.evaluate.evaluate import CAPTION_TOKENS, SUBJECT_QUESTION, subject_scores

    choice = model.options(bundle).resolved()
    question = SUBJECT_QUESTION if prompt is None else prompt
    survey = Survey("subjects", choice, shards, question, _greedy(choice, CAPTION_TOKENS), limit, output)
    survey.run(subject_scores, as_json=as_json)


@eval_app.command()
@options.with_option_sets
def fluency(
    shards: Shards,
    limit: Limit = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="The question to ask instead.")] = None,
    bundle: options.BundleName = "mini",
    model: options.FixedModelFlags = options.FIXED_MODEL,
    max_tokens: options.MaxTokens = None,
    output: Output = None,
    as_json: AsJson = False,
) -> None:
    """Ask "Describe this image in detail." and count the answers that repeat or break off."""
    from minigpt4.train.evaluate.evaluate import DETAIL_QUESTION, fluency_scores

    if max_tokens is not None and max_tokens < 1:
        raise UsageError(f"--max-tokens is {max_tokens}; it must be at least 1.")
    choice = model.options(bundle).resolved()
    question = DETAIL_QUESTION if prompt is None else prompt
    sampling = _greedy(choice, max_tokens or choice.loaded_bundle().sampling.max_tokens)
    survey = Survey("fluency", choice, shards, question, sampling, limit, output)
    survey.run(fluency_scores, as_json=as_json)


@dataclass(frozen=True)
class Survey:
    """One question for every photo of some sets; greedy, so that answers can be reproduced."""

    suite: str
    choice: EngineOptions
    places: Sequence[str]
    question: str
    sampling: ResolvedSampling
    limit: int | None
    output: Path | None

    def run(self, score: Callable[[Sequence[Answer]], Scores], *, as_json: bool) -> None:
        """Ask, score, and print the scores; nothing is written before all of it is done."""
        _check_output(self.output)
        skipped: Counter[str] = Counter()
        first: dict[str, str] = {}
        answers = self._ask(skipped, first)
        scores = score(answers)
        if self.output is not None:
            _write_answers(self.output, answers)
        for reason, count in skipped.most_common():
            say(f"{count} skipped: {reason}" + (f" (first: {first[reason]})" if reason in first else ""))
        if as_json:
            record = {"suite": self.suite, "bundle": self.choice.bundle_name, "question": self.question}
            print(json_text(record | {"skipped": skipped.total()} | _keys(scores)))
        else:
            _print_table(scores)

    def _ask(self, skipped: Counter[str], first: dict[str, str]) -> list[Answer]:
        """The answers; `skipped` counts reasons, of which `first` names the first row or photo of a set."""
        from minigpt4.train.data.open import open_all
        from minigpt4.train.evaluate.evaluate import answer_photos

        def count(event: PhotoSkipped) -> None:
            skipped.update([event.reason])
            first.setdefault(event.reason, event.key)

        with opening_photos(count) as report:
            sets = open_all(self.places, report)
        total = sum(map(len, sets))
        total = min(total, self.limit or total)
        answers: list[Answer] = []
        with (
            options.load_engine(self.choice) as engine,
            counting_photos(self.suite, total, every=PHOTOS_A_LINE) as advance,
        ):
            asked = answer_photos(
                engine,
                sets,
                self.question,
                self.sampling,
                skipped=lambda reason: skipped.update([reason]),
            )
            for answer in islice(asked, self.limit):
                answers.append(answer)
                advance()
        return answers


def _greedy(choice: EngineOptions, max_tokens: int) -> ResolvedSampling:
    """The bundle's own sampling, with its repetition penalty, at temperature 0."""
    return replace(choice.loaded_bundle().sampling, temperature=0.0, max_tokens=max_tokens)


def _check_output(output: Path | None) -> None:
    # Before a thousand answers, not after.
    if output is None:
        return
    if output.is_dir():
        raise UsageError(
            f"--output {output} is a folder; name a file in it, such as {output / 'answers.jsonl'}."
        )
    if not output.absolute().parent.is_dir():
        raise UsageError(f"--output {output} lies in a folder that does not exist; make it first.")


def _write_answers(output: Path, answers: Sequence[Answer]) -> None:
    from minigpt4.core.storage.atomic import replacing
    from minigpt4.train.evaluate.evaluate import judged

    with replacing(output) as draft, draft.open("w", encoding="utf-8") as file:
        file.writelines(json_text(record) + "\n" for record in judged(answers))


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
