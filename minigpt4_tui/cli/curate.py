"""`minigpt4 curate DATA --output RUN`: a stage-2 set of descriptions of your own pictures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.errors import DataError, UsageError
from minigpt4.core.text import suggestion
from minigpt4.tui.cli import options
from minigpt4.tui.cli.evaluate.endpoint import KEYS, LIMITS, EndpointLimits, first_set, say_estimate
from minigpt4.tui.cli.progress import counting_skipped, timing_pictures
from minigpt4.tui.terminal.messages import printable, say
from minigpt4.tui.terminal.results import json_text

if TYPE_CHECKING:
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.types import ResolvedSampling
    from minigpt4.train.curate.curation import Summary
    from minigpt4.train.curate.export import Export
    from minigpt4.train.curate.filters import FilterOptions
    from minigpt4.train.curate.reviews import Reviews
    from minigpt4.train.curate.run_folder import Candidate, CurationRun
    from minigpt4.train.evaluate.judges.client import Request, TextModel
    from minigpt4.train.evaluate.judges.endpoint import Endpoint
    from minigpt4.train.evaluate.photos import EvalPhoto

STEPS = ("describe", "repair", "filter", "review", "export")

SHOWN = 60
"""Half the characters of an example in the summary."""


@dataclass(frozen=True)
class FilterFlags:
    """The thresholds of the filters."""

    min_words: Annotated[int, typer.Option("--min-words", min=1, help="Fewest words of a description.")] = 10
    similar: Annotated[
        float,
        typer.Option(
            "--similar",
            min=0.05,
            max=1.0,
            help="Least similarity (Jaccard, of three words in a row) of near-duplicate texts.",
        ),
    ] = 0.8
    without: Annotated[
        list[str] | None,
        typer.Option(
            "--without",
            metavar="FILTER",
            help="Leave a filter out: apology, fragment, repetition, language, similar-text or "
            "similar-picture; may be repeated.",
        ),
    ] = None

    def options(self) -> FilterOptions:
        """The options of the filters; raises UsageError for an unknown filter."""
        from minigpt4.train.curate.filters import RULES, FilterOptions

        for name in self.without or ():
            if name not in RULES:
                raise UsageError(f"There is no filter '{name}'; {suggestion(name, RULES)}")
        return FilterOptions(self.min_words, self.similar, frozenset(self.without or ()))


FILTERS = FilterFlags()


@options.with_option_sets
def curate(
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Folders of pictures, or what 'train --data' reads."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="RUN",
            help="Folder of this run: what each step made is kept, and a stopped run resumes.",
        ),
    ],
    export: Annotated[
        list[str] | None,
        typer.Option(
            "--export",
            metavar="FORM:FOLDER",
            help="Write the result as cc_sbu_align, webdataset or captions; may be repeated.",
        ),
    ] = None,
    until: Annotated[
        str,
        typer.Option("--until", metavar="STEP", help=f"Stop after a step: {', '.join(STEPS)}."),
    ] = STEPS[-1],
    repair_with: Annotated[
        str | None,
        typer.Option(
            "--repair-with",
            metavar="MODEL",
            help="Let a bundle's language model, or the one at an OpenAI-compatible http address, repair "
            "the texts; without it they stay as they are.",
        ),
    ] = None,
    repair_model: Annotated[
        str | None,
        typer.Option("--repair-model", metavar="NAME", help="The model's name at that address."),
    ] = None,
    no_review: Annotated[bool, typer.Option("--no-review", help="Accept what nobody has reviewed.")] = False,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only this many pictures.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Another question than the paper's.")] = None,
    filters: FilterFlags = FILTERS,
    limits: EndpointLimits = LIMITS,
    bundle: options.BundleName = "mini",
    model: options.FixedEngineFlags = options.FIXED_MODEL,
    sampling: options.SamplingFlags = options.SAMPLING_FROM_SETTINGS,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Describe pictures at length, and keep what is good enough to learn from in stage 2.

    The steps are describe, repair, filter, review and export, as in the paper. The same command continues
    where it was stopped. Pictures are never changed.
    """
    from minigpt4.core.types import Sampling
    from minigpt4.train.curate.describe import PROMPT
    from minigpt4.train.curate.export import Export

    if until not in STEPS:
        raise UsageError(f"There is no step '{until}'; {suggestion(until, STEPS)}")
    if prompt is not None and not prompt.strip():
        raise UsageError("The prompt is empty; type what the model is to be asked, in quotes.")
    repairer = _Repairer.named(repair_with, repair_model, limits)
    exports = [Export.named(one) for one in export or ()]
    choice = model.options(bundle).resolved()
    chosen = Sampling(**({"seed": 0} | sampling.given())).over(choice.loaded_bundle().sampling)
    job = _Job(
        data, limit, output.expanduser(), choice, chosen, prompt or PROMPT, repairer, filters.options()
    )
    job.run(STEPS.index(until), exports, accept_all=no_review, as_json=as_json)


@dataclass(frozen=True)
class _Repairer:
    """The model that repairs: a bundle, or one behind an endpoint."""

    place: str
    model: str | None
    limits: EndpointLimits

    @classmethod
    def named(cls, place: str | None, model: str | None, limits: EndpointLimits) -> _Repairer | None:
        """The model for these options; raises UsageError for an endpoint without a model, or the reverse."""
        is_endpoint = place is not None and "://" in place
        if model is not None and not is_endpoint:
            raise UsageError("--repair-model names a model at an address; give that with --repair-with.")
        if is_endpoint and model is None:
            raise UsageError(f"--repair-with {place} needs the model's name there; add --repair-model.")
        if is_endpoint:
            limits.prices()  # a cap without prices is refused before anything is described
        return None if place is None else cls(place, model, limits)

    def name(self) -> str:
        """The name of the loaded model; raises UsageError for an unknown bundle or an invalid address."""
        from minigpt4.core.engine_options import EngineOptions

        if self.model is None:
            return EngineOptions(self.place).resolved().loaded_bundle().name
        return f"{self.model} @ {self._endpoint().base_url}"

    @contextmanager
    def loaded(self, requests: Sequence[Request]) -> Iterator[TextModel]:
        """The model, ready to be asked; an endpoint's estimate is printed first."""
        from minigpt4.core.engine_options import EngineOptions
        from minigpt4.train.evaluate.judges.client import BundleModel

        if self.model is None:
            with options.load_engine(EngineOptions(self.place).resolved()) as engine:
                yield BundleModel(engine)
        else:
            model = self.limits.model_at(self.place, self.model)
            say_estimate(model, requests)
            yield model

    def _endpoint(self) -> Endpoint:
        from minigpt4.train.evaluate.judges.endpoint import Endpoint

        return Endpoint(self.model or "", self.place, first_set(KEYS))


@dataclass(frozen=True)
class _Job:
    """A curation of the pictures at some places."""

    places: Sequence[str]
    limit: int | None
    output: Path
    choice: EngineOptions
    sampling: ResolvedSampling
    prompt: str
    repairer: _Repairer | None
    filters: FilterOptions

    def run(self, last: int, exports: Sequence[Export], *, accept_all: bool, as_json: bool) -> None:
        """Do the remaining steps up to `last`, and print the summary."""
        from minigpt4.train.curate.curation import described, filtered, final_texts, summary
        from minigpt4.train.curate.reviews import Reviews
        from minigpt4.train.curate.run_folder import CurationRun

        CurationRun.require_run_or_nothing(self.output)  # before anything is downloaded
        if self.repairer:
            self.repairer.name()
        photos = self._photos()
        run = self._begin(photos)
        with run.locked():
            self._describe(run, photos)
            if last >= STEPS.index("repair") and self.repairer:
                self._repair(run, described(run, photos))
            candidates = described(run, photos)
            if not candidates:
                raise DataError("No picture could be described; 'minigpt4 data inspect' says why.")
            if last >= STEPS.index("filter"):
                candidates = filtered(run, candidates, self.filters)
            with Reviews(run, candidates) as reviews:
                if last >= STEPS.index("review") and not accept_all:
                    _review(reviews)
                texts = final_texts(reviews, accept_waiting=accept_all)
                if last >= STEPS.index("review"):
                    run.write_captions(texts.items())
                found = summary(run, photos, candidates, reviews, texts)
                _print(found, as_json=as_json)
                if last == STEPS.index("export"):
                    _export(run, candidates, texts, exports, 0 if accept_all else len(reviews.waiting))

    def _photos(self) -> list[EvalPhoto]:
        from minigpt4.train.evaluate.open import open_photos

        with counting_skipped() as report:
            photos = open_photos(self.places, None, report)
        return photos[: self.limit]

    def _begin(self, photos: Sequence[EvalPhoto]) -> CurationRun:
        from minigpt4.train.curate.run_folder import CurationRun
        from minigpt4.train.evaluate.identity import bundle_identity, versions

        options.fetch_files(self.choice)
        identity = bundle_identity(self.choice)
        keys = json.dumps([photo.key for photo in photos])
        header = {
            "model": identity,
            "prompt": self.prompt,
            "sampling": asdict(self.sampling),
            "data": {
                "pictures": len(photos),
                "fingerprint": hashlib.sha256(keys.encode()).hexdigest()[:16],
            },
            "versions": versions(identity["backend"]),
        }
        return CurationRun.begin(self.output, header, {"data": self.places})

    def _describe(self, run: CurationRun, photos: Sequence[EvalPhoto]) -> None:
        from minigpt4.train.curate.describe import describe, undescribed

        waiting = undescribed(run, photos)
        if not waiting:
            return
        if len(waiting) < len(photos):
            say(f"Resuming: {len(photos) - len(waiting)} of {len(photos)} pictures are described.")
        with (
            options.load_engine(self.choice) as engine,
            timing_pictures("Describing", len(waiting)) as advance,
        ):
            describe(
                run,
                waiting,
                engine,
                self.sampling,
                self.prompt,
                advance=lambda made: advance(made.error or f"{made.photo}: {made.text}"),
            )

    def _repair(self, run: CurationRun, candidates: Sequence[Candidate]) -> None:
        from minigpt4.train.curate.repair import repair, request_of, unrepaired

        assert self.repairer
        waiting = unrepaired(run, candidates, self.repairer.name())
        if not waiting:
            return
        requests = [request_of(one) for one in waiting]
        with self.repairer.loaded(requests) as model, timing_pictures("Repairing", len(waiting)) as advance:
            repair(
                run, waiting, model, advance=lambda made: advance(made.error or f"{made.photo}: {made.text}")
            )


def _review(reviews: Reviews) -> None:
    """Review the waiting descriptions, if this is a terminal."""
    from minigpt4.tui.app.standalone import at_terminal

    if reviews.waiting and at_terminal():
        from minigpt4.tui.review.curating import review_in_person

        review_in_person(reviews)


def _export(
    run: CurationRun,
    candidates: Sequence[Candidate],
    texts: dict[str, str],
    exports: Sequence[Export],
    waiting: int,
) -> None:
    from minigpt4.train.curate.export import Item

    if not exports:
        return
    if waiting:
        raise DataError(
            f"Nothing was exported: {waiting} description{' waits' if waiting == 1 else 's wait'} for a "
            "review; it begins at a terminal, and --no-review accepts the rest."
        )
    if not texts:
        raise DataError("Nothing was exported: no description is left; the summary says where they fell.")
    descriptions = run.descriptions()
    items = [
        Item(one.photo, descriptions[one.key].digest, texts[one.key])
        for one in candidates
        if one.key in texts
    ]
    for export in exports:
        is_new = export.write(items)
        what = f"{len(items)} picture{'' if len(items) == 1 else 's'}" if is_new else "Nothing new"
        say(printable(f"{what} in '{export.folder}', as {export.form}."))


def _print(found: Summary, *, as_json: bool) -> None:
    if as_json:
        print(json_text(found.as_json()))
        return
    described = found.pictures - len(found.failed)
    rows: list[tuple[str, int | None, str]] = [("pictures", found.pictures, "")]
    rows.append(("described", described, f"{found.continued} took a second turn"))
    rows += [("  failed", len(found.failed), found.failed[0].error)] if found.failed else []
    if found.repaired_by:
        rows.append(("repaired", found.changed, f"by {found.repaired_by}"))
        rows += [("  not repaired", found.unrepaired, "")] if found.unrepaired else []
    else:
        rows.append(("repaired", None, "no: --repair-with names a model that does"))
    for rule, number in found.fallen().items():
        rows.append((f"- {rule}", number, ""))
        rows += [("", None, f"{one.photo}: {one.why}: {one.text}") for one in found.examples(rule)]
    rows += [("- dropped in review", len(found.dropped), "")] if found.dropped else []
    rows += [("edited in review", found.edited, "")] if found.edited else []
    rows += [("waiting for a review", found.waiting, "")] if found.waiting else []
    rows.append(("kept", found.kept, ""))
    wide = max(len(name) for name, _, _ in rows)
    for name, count, about in rows:
        text = printable(" ".join(about.split()))
        text = text if len(text) <= SHOWN * 2 else f"{text[: SHOWN * 2 - 3]}..."
        print(f"{name:<{wide}}  {'' if count is None else count:>6}  {text}".rstrip())
