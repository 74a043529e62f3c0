"""`minigpt4 models import|export|verify`: import models, export projections, check a bundle's files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.bundles.bundle import DEFAULT_BUNDLE, Bundle, load_bundle, manifest_path
from minigpt4.core.download.fetch import FetchProgress
from minigpt4.core.download.sources import size_text
from minigpt4.core.errors import UsageError
from minigpt4.tui.cli import options
from minigpt4.tui.terminal.messages import printable, say
from minigpt4.tui.terminal.results import json_text, print_path

if TYPE_CHECKING:
    from minigpt4.core.projection import Projection

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(models_app: typer.Typer) -> None:
    """Add the commands of this module to `minigpt4 models`."""
    models_app.command("import")(import_files)
    models_app.command("export")(export)
    models_app.command("verify")(verify_bundle)


@dataclass(frozen=True)
class ReleasedFiles:
    """The files that MiniGPT-4 was released in."""

    vit: Annotated[
        Path | None,
        typer.Option("--vit", metavar="FILE", help="eva_vit_g.pth, or the hub's BLIP-2 (folder or file)."),
    ] = None
    projection: Annotated[
        Path | None,
        typer.Option("--projection", metavar="FILE", help="A MiniGPT-4 checkpoint (.pth), stage 1 or 2."),
    ] = None
    llm: Annotated[
        Path | None,
        typer.Option("--llm", metavar="DIR", help="The LLaMA's Hugging Face folder; used in place."),
    ] = None
    qformer: Annotated[
        Path | None,
        typer.Option(
            "--qformer", metavar="FILE", help="blip2_pretrained_flant5xxl.pth, or the hub's BLIP-2 again."
        ),
    ] = None
    no_qformer: Annotated[
        bool, typer.Option("--no-qformer", help="For the form that joins four patches instead (LLaMA-2).")
    ] = False
    geometry: Annotated[
        Path | None,
        typer.Option("--geometry", metavar="FILE", help="Widths other than the released ones, as JSON."),
    ] = None

    @property
    def given(self) -> list[str]:
        """The options that were given."""
        return [f"--{name.replace('_', '-')}" for name, value in vars(self).items() if value]


NONE_RELEASED = ReleasedFiles()


@options.with_option_sets
def import_files(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the new bundle is to be called.")],
    gguf: Annotated[
        Path | None,
        typer.Option(
            "--gguf",
            metavar="FILE",
            help="A language model as GGUF (the first part, if it is split), or a folder with its mmproj; "
            "used in place.",
        ),
    ] = None,
    mmproj: Annotated[
        Path | None,
        typer.Option("--mmproj", metavar="FILE", help="The GGUF's vision side; else found beside it."),
    ] = None,
    hub: Annotated[
        str | None,
        typer.Option(
            "--hub",
            metavar="REPO",
            help="A repository of the Hugging Face hub with both files, OWNER/REPO or OWNER/REPO:QUANT.",
        ),
    ] = None,
    llava: Annotated[
        Path | None,
        typer.Option(
            "--llava", metavar="DIR", help="A LLaVA's Hugging Face folder, in place of all other files."
        ),
    ] = None,
    released: ReleasedFiles = NONE_RELEASED,
    template: Annotated[
        str | None,
        typer.Option(
            "--template",
            metavar="NAME|FILE",
            help="The prompt's form: vicuna-v0 or llama2; with --gguf or --hub a name or a Jinja file, else "
            "the GGUF's own.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a bundle of yours that has this name.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask, however much there is to fetch.")
    ] = False,
) -> None:
    """Make a bundle of your own: of a GGUF and its mmproj, a LLaVA's folder, or MiniGPT-4's released files.

    GGUF files are used where they lie, or fetched from a repository of the hub. Checkpoints are read without
    running anything in them. Prints the new bundle's manifest.
    """
    wholes = {"--hub": hub, "--llava": llava, "--gguf": gguf, "--mmproj": mmproj}
    given = [flag for flag, value in wholes.items() if value is not None]
    parts = [flag for flag in (*given, *released.given) if flag != given[0]] if given else []
    match given:
        case ["--hub" | "--llava", *_] if parts:
            raise UsageError(f"{given[0]} is a whole model, and {parts[0]} a part of another; leave one out.")
        case ["--gguf" | "--mmproj", *_] if gguf is None or released.given:
            fault = f"leave {released.given[0]} out" if released.given else "give --gguf FILE"
            raise UsageError(f"A bundle of two GGUF files is made of --gguf and --mmproj alone; {fault}.")
    if hub is not None:
        _import_hub(name, hub, template, force=force, yes=yes)
    elif llava is not None:
        if template is not None:
            raise UsageError("--llava is a whole model, and --template a part of another; leave one out.")
        _import_llava(name, llava, force=force)
    elif gguf is not None:
        _import_pair(name, gguf, mmproj, template, force)
    else:
        _import_released(name, released, template, force=force)


def _import_released(name: str, files: ReleasedFiles, template: str | None, *, force: bool) -> None:
    vit, projection, llm = files.vit, files.projection, files.llm
    needed = {"--vit": vit, "--projection": projection, "--llm": llm, "--template": template}
    if missing := [flag for flag, value in needed.items() if value is None]:
        raise UsageError(
            f"{' and '.join(missing)} must be given, too; or --gguf FILE for a GGUF with its mmproj, "
            "--hub OWNER/REPO for such a pair on the hub, or --llava DIR for a LLaVA."
        )
    assert vit is not None and projection is not None and llm is not None and template is not None
    if files.no_qformer == (files.qformer is not None):
        raise UsageError("Give either --qformer FILE or --no-qformer, as the projection was trained.")
    from minigpt4.core.bundle_making.import_bundle import Originals, import_bundle

    originals = Originals(
        vit=vit,
        qformer=files.qformer,
        projection=projection,
        llm=llm,
        template=template,
        geometry=files.geometry,
    )
    import_bundle(name, originals, force=force, progress=_say_once)
    print_path(manifest_path(name))
    say(f"`minigpt4 models verify {name}` checks its parts; `ask --bundle {name}` uses it.")


def _import_pair(name: str, gguf: Path, mmproj: Path | None, template: str | None, force: bool) -> None:
    from minigpt4.core.bundle_making.import_pair import import_pair

    bundle = import_pair(name, gguf, mmproj, template=template, force=force, notice=say)
    print_path(manifest_path(name))
    assert bundle.mmproj is not None
    say(f"{bundle.language.path} with {bundle.mmproj.path}. {_use_of_pair(bundle)}")


def _import_hub(name: str, address: str, template: str | None, *, force: bool, yes: bool) -> None:
    from minigpt4.core.bundle_making.import_hub import import_hub
    from minigpt4.tui.cli.models.models import agree, announce, can_ask
    from minigpt4.tui.cli.progress import showing_progress

    with showing_progress("Fetching") as progress:
        bundle = import_hub(
            name,
            address,
            template=template,
            force=force,
            notice=say,
            progress=progress,
            begin=announce if yes or not can_ask() else agree,
        )
    print_path(manifest_path(name))
    say(_use_of_pair(bundle))


def _use_of_pair(bundle: Bundle) -> str:
    return (
        f"A photo takes about {bundle.image_tokens} tokens. `minigpt4 ask --bundle {bundle.name} -i PICTURE` "
        "uses it."
    )


def _import_llava(name: str, folder: Path, *, force: bool) -> None:
    from minigpt4.core.bundle_making.import_llava import import_llava

    import_llava(name, folder, force=force, progress=_say_once)
    print_path(manifest_path(name))
    say(f"`minigpt4 ask --bundle {name}` uses it; `minigpt4 train --stage 1 --bundle {name}` trains it anew.")


def _say_once(now: FetchProgress) -> None:
    if now.done == 0 and now.total:
        say(f"Writing {now.file} ({size_text(now.total)})")


def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The .pth or .gguf file to write.")
    ],
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="The bundle whose projection is meant.")
    ] = None,
    projection: Annotated[
        Path | None,
        typer.Option("--projection", metavar="FILE", help="A projection, or a run's folder, of your own."),
    ] = None,
    mmproj: Annotated[
        bool,
        typer.Option("--mmproj", help="Write the tower with it, as an mmproj GGUF for llama.cpp (LLaVA)."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Write over an existing file.")] = False,
) -> None:
    """Write a projection for other programs: a checkpoint of the original MiniGPT-4, or an mmproj GGUF.

    MiniGPT-4's option `ckpt` takes the one, llama.cpp's `--mmproj` the other. Prints the file's path.
    """
    if mmproj and name is None:
        raise UsageError("Give the name of the bundle whose tower goes into the mmproj, too.")
    if not mmproj and (name is None) == (projection is None):
        raise UsageError("Give either a bundle's name or --projection FILE.")
    output = output.expanduser()
    if output.exists() and not force:
        raise UsageError(f"{output} exists already; choose another name, or give --force to write over it.")
    if mmproj:
        from minigpt4.core.llava.export import export_mmproj

        assert name is not None
        export_mmproj(load_bundle(name), output, projection and projection.expanduser())
        print_path(output)
        return
    from minigpt4.core.projection import export_projection_pth

    export_projection_pth(output, _projection(name, projection))
    print_path(output)


def _projection(name: str | None, path: Path | None) -> Projection:
    from minigpt4.core.download.fetch import projection_path
    from minigpt4.core.projection import load_projection
    from minigpt4.core.weights.released import projection_tensors
    from minigpt4.core.weights.run_projection import run_projection

    if name is not None:
        bundle = load_bundle(name)
        spec = bundle.projection
        return load_projection(projection_path(bundle), spec.inputs, spec.outputs, spec.layers)
    assert path is not None
    path = run_projection(path.expanduser()).file
    tensors = projection_tensors(path)
    first = tensors["weight"] if "weight" in tensors else tensors["layers.0.weight"]
    outputs, inputs = first.shape
    return load_projection(path, inputs, outputs, len(tensors) // 2)


def verify_bundle(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The bundle's name, as 'models list' shows it.")
    ] = DEFAULT_BUNDLE,
    deep: Annotated[
        bool,
        typer.Option("--deep", help="Compute every checksum, load the model, try it on plain English."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check that a bundle's files are whole, are what they are called, and fit each other.

    A line for each finding: ok, warning, or problem with the way out. Exits with 1 on a problem.
    """
    manifest_path(name)
    from minigpt4.core.verify.finding import Check, worst
    from minigpt4.core.verify.verify import verify

    checks: list[Check] = []
    for check in verify(name, deep=deep):
        checks.append(check)
        if not as_json:
            print(f"{check.state:<7}  {printable(check.subject)}: {printable(check.text)}", flush=True)
    if as_json:
        report = {"bundle": name, "state": worst(checks), "checks": [asdict(check) for check in checks]}
        print(json_text(report, indent=2))
    if worst(checks) == "problem":
        raise typer.Exit(1)
