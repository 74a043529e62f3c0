"""`minigpt4 models quantize|synth|trace`: files that are made from a bundle."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from minigpt4.core.bundles.bundle import Bundle, bundle_names, load_bundle
from minigpt4.core.download.sources import size_text
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.weights.locate import GGUF_QUANTS, check_quant, gguf_files, gguf_path, hf_folder
from minigpt4.tui.cli import options
from minigpt4.tui.cli.progress import showing_progress
from minigpt4.tui.images.attachments import attachment
from minigpt4.tui.terminal.messages import say
from minigpt4.tui.terminal.results import print_path

if TYPE_CHECKING:
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.trace import Trace

Force = Annotated[bool, typer.Option("--force", help="Write over an existing file.")]


def register(models_app: typer.Typer) -> None:
    """Add the commands of this module to `minigpt4 models`."""
    models_app.command("quantize")(quantize)
    models_app.command("synth")(synth_bundle)
    models_app.command("trace")(trace_question)


def quantize(
    name: Annotated[
        str, typer.Argument(metavar="NAME|DIR", help="A bundle, or the Hugging Face folder of a LLaMA.")
    ],
    quant: Annotated[
        str, typer.Option("--type", "--quant", help=f"Which form: {', '.join(GGUF_QUANTS)}.")
    ] = "Q4_K_M",
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE", help="The GGUF to write; a bundle knows its own place."
        ),
    ] = None,
    threads: options.Threads = None,
    force: Force = False,
) -> None:
    """Make a GGUF for llama.cpp from a language model's Hugging Face folder.

    It is read tensor by tensor, so a 13B model needs no more memory than a small one; on the disk
    an F16 file lies beside the result for a while. Prints the file's path.
    """
    check_quant(quant)
    if quant not in GGUF_QUANTS:
        raise UsageError(f"llama.cpp has no quantisation '{quant}'; choose {', '.join(GGUF_QUANTS)}.")
    folder, target = _folder_and_target(name, quant)
    target = output.expanduser() if output is not None else target
    if target.exists() and not force:
        raise UsageError(f"{target} exists already; give --force to make it again, or another file with -o.")
    from minigpt4.core.weights.gguf.from_hf import convert

    with showing_progress("Writing") as progress:
        convert(folder, target, quant, progress, threads=threads)
    print_path(target)


def _folder_and_target(name: str, quant: str) -> tuple[Path, Path]:
    """The Hugging Face folder that `name` means, and where its GGUF belongs."""
    folder = Path(name).expanduser()
    if name not in bundle_names() and folder.is_dir():
        whole = folder.absolute()
        return whole, whole / f"{whole.name}-{quant}.gguf"
    if os.sep in name:
        raise UsageError(f"There is no folder '{name}'; give a bundle's name or a Hugging Face folder.")
    bundle = load_bundle(name)
    return _language_folder(bundle), gguf_path(bundle, quant)


def _language_folder(bundle: Bundle) -> Path:
    found = hf_folder(bundle)
    if found is not None:
        return found
    if bundle.language.gguf is not None:
        raise BundleError(
            f"The language model of '{bundle.name}' comes as {bundle.language.gguf.name}, which is quantised "
            "already; name a bundle with a Hugging Face folder, or such a folder itself."
        )
    everything = " --all" if gguf_files(bundle) else ""
    raise BundleError(
        f"The language model of '{bundle.name}' is not here; fetch it with "
        f"`minigpt4 models pull {bundle.name}{everything}`."
    )


def synth_bundle(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The bundle whose sizes are taken.")],
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed gives the same weights.")] = 0,
    gguf: Annotated[
        str | None,
        typer.Option(
            "--gguf", metavar="TYPE", help="Make the language model as a GGUF alone: Q4_0, Q8_0 or F16."
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer", metavar="FILE", help="A tokenizer.model, for a vocabulary of real words."
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="What weights that are no GGUF are stored in: bf16 or fp16.")
    ] = "bf16",
) -> None:
    """Make NAME-synth: a bundle of the same sizes with random weights.

    Its answers mean nothing; memory, loading time and speed are the true ones. Prints its name.
    """
    bundle = load_bundle(name)
    from minigpt4.core.bundle_making.synth import synth

    with showing_progress("Writing") as progress:
        made = synth(
            bundle,
            seed=seed,
            gguf=gguf,
            tokenizer=tokenizer.expanduser() if tokenizer else None,
            dtype=dtype,
            progress=progress,
        )
    print_path(Path(made))


@dataclass(frozen=True)
class TraceFlags(options.FixedModelFlags):
    """The model options of a trace."""

    backend: Annotated[
        str,
        typer.Option("--backend", help="torch or llamacpp; auto is torch, whatever GGUF files there are."),
    ] = "auto"
    quant: options.Quant = "auto"
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="What the tower and torch compute in: float32, bfloat16 or float16."),
    ] = None


TRACE_DEFAULTS = TraceFlags()


@options.with_option_sets
def trace_question(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The bundle's name, as 'models list' shows it.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The safetensors file to write.")
    ],
    question: Annotated[
        str | None, typer.Argument(metavar="[QUESTION]", help="What is asked about the pictures.")
    ] = None,
    raw: Annotated[
        str | None,
        typer.Option(
            "--raw",
            metavar="PROMPT",
            help="In place of a question, for a bundle of two GGUF files: the whole prompt as it stands, "
            "with "
            "<__media__> where each picture goes.",
        ),
    ] = None,
    image: Annotated[
        list[str] | None,
        typer.Option("--image", "-i", metavar="PICTURE", help="A file; may be given several times."),
    ] = None,
    pixels: Annotated[
        Path | None,
        typer.Option(
            "--pixels",
            metavar="FILE",
            help="Normalised float32 pixels (.npy): (3, H, W), or (B, 3, H, W) for several pictures.",
        ),
    ] = None,
    model: TraceFlags = TRACE_DEFAULTS,
    greedy: Annotated[
        int,
        typer.Option(
            "--greedy", metavar="N", min=0, help="Add N tokens of greedy decoding; stop texts are ignored."
        ),
    ] = 0,
) -> None:
    """Write down everything between the pixels and the first word of an answer.

    Two such files show where two builds begin to differ. Prints the file's path.
    """
    if (question is None) == (raw is None):
        raise UsageError("Give either a question or, for a bundle of two GGUF files, --raw PROMPT.")
    found = _traced(model.options(name), question, raw, image or [], pixels, greedy)
    output = output.expanduser()
    found.write(output)
    say(f"{len(found.arrays)} tensors, {size_text(sum(array.nbytes for array in found.arrays.values()))}")
    print_path(output)


def _traced(
    choice: EngineOptions,
    question: str | None,
    raw: str | None,
    image: list[str],
    pixels: Path | None,
    greedy: int,
) -> Trace:
    is_pair = choice.loaded_bundle().mmproj is not None
    if is_pair and pixels is not None:
        raise UsageError("--pixels is for bundles with a vision tower of their own; give pictures with -i.")
    if not is_pair and (pixels is None) == (not image):
        raise UsageError("Give either pictures with -i or pixels with --pixels FILE.npy.")
    if is_pair:
        from minigpt4.core.mtmd.trace import trace_pair

        choice = choice.resolved()
        pictures = [attachment(one).open() for one in image]
        options.fetch_files(choice)
        return trace_pair(choice, pictures, question=question, raw=raw, greedy=greedy)
    if question is None:
        raise UsageError("--raw is for bundles of two GGUF files; give a question.")
    from minigpt4.core.trace import pixels_of, read_pixels, trace, traced_backend

    choice = replace(choice, backend=traced_backend(choice)).resolved()
    if pixels is not None:
        pixels_BCHW = read_pixels(pixels.expanduser())
    else:
        pictures = [attachment(one).open() for one in image]
        pixels_BCHW = pixels_of(pictures, choice.loaded_bundle())
    options.fetch_files(choice)
    return trace(choice, pixels_BCHW, question, greedy=greedy)
