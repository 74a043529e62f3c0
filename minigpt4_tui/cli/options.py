"""Options that several commands share: which model, and how the next word is chosen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from minigpt4.core.errors import UsageError
from minigpt4.tui.terminal.messages import say

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.types import ResolvedSampling
    from minigpt4.tui.settings.settings import Loaded

MODEL = ("bundle", "backend", "device", "threads", "quant", "gpu_layers", "context")
SAMPLING = ("max_tokens", "temperature", "top_p", "repetition_penalty", "seed")

_BUNDLE = typer.Option("--bundle", "-b", help="Which model bundle answers.")
_BACKEND = typer.Option(
    "--backend", help="auto, torch or llamacpp; auto takes llama.cpp where it is installed."
)
_DEVICE = typer.Option("--device", help="auto, cpu, cuda or cuda:N.")
_QUANT = typer.Option(
    "--quant",
    help="How the language model's weights are kept: fp32, bf16, fp16, int8 or nf4 by torch; F16, Q8_0, "
    "Q5_K_M, Q4_K_M or Q4_0 by llama.cpp; auto takes what is here and suits the device.",
)

BundleName = Annotated[str, _BUNDLE]
BackendName = Annotated[str, _BACKEND]
Device = Annotated[str, _DEVICE]
Quant = Annotated[str, _QUANT]

# The same where the settings decide what is not typed.
BundleGiven = Annotated[str | None, _BUNDLE]
BackendGiven = Annotated[str | None, _BACKEND]
DeviceGiven = Annotated[str | None, _DEVICE]
QuantGiven = Annotated[str | None, _QUANT]

ProjectionFile = Annotated[
    Path | None,
    typer.Option(
        "--projection",
        metavar="FILE",
        help="A projection of your own training, in place of the bundle's; or the folder of its run.",
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", help="How many processor threads to use.")]
GpuLayers = Annotated[
    int | None,
    typer.Option("--gpu-layers", help="llama.cpp: how many layers lie on the GPU; all of them otherwise."),
]
Context = Annotated[
    int | None, typer.Option("--context", help="Fewer positions than the bundle's, to save memory.")
]
OffloadVision = Annotated[
    bool,
    typer.Option("--offload-vision", help="Keep the vision tower off the GPU except while it looks."),
]
Beams = Annotated[
    int | None,
    typer.Option("--beams", help="Search so many answers at once for the likeliest, without dice."),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", help="Longest answer, in tokens; a word is one or two.")
]
Temperature = Annotated[
    float | None, typer.Option("--temperature", help="How adventurous the words are; 0 takes the likeliest.")
]
TopP = Annotated[
    float | None, typer.Option("--top-p", help="Choose among the likeliest words that make up this share.")
]
RepetitionPenalty = Annotated[
    float | None, typer.Option("--repetition-penalty", help="Over 1 discourages words already used.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed gives the same answer.")]
SystemPrompt = Annotated[
    str | None, typer.Option("--system-prompt", help="What the model is told before the conversation.")
]
Greedy = Annotated[bool, typer.Option("--greedy", help="Always take the likeliest word, with no dice.")]


def fetch_files(options: EngineOptions, *, bars: bool = True) -> None:
    """Fetch the missing files, unless memory would not hold the model (BackendError)."""
    from minigpt4.core.language.load import check_memory, needed_files
    from minigpt4.tui.cli.models.models import pull_with_progress

    check_memory(options)
    pull_with_progress(options.loaded_bundle(), needed_files(options), bars=bars)


def load_engine(options: EngineOptions, *, bars: bool = True) -> Engine:
    """The engine; missing files are fetched first, with progress (`bars`) on stderr."""
    from minigpt4.core.engine import Engine

    fetch_files(options, bars=bars)
    return Engine.from_options(options, notice=say)


@dataclass(frozen=True)
class Chosen:
    """What the settings and the command line come to together."""

    model: EngineOptions
    sampling: ResolvedSampling
    system_prompt: str
    theme: str


def typed(context: typer.Context, names: Iterable[str]) -> dict[str, Any]:
    """The options of those names that were given on the command line."""
    return {name: value for name in names if (value := context.params[name]) is not None}


def choose(
    loaded: Loaded,
    given: Mapping[str, Any],
    *,
    projection: Path | None = None,
    offload_vision: bool = False,
    greedy: bool = False,
    beams: int | None = None,
) -> Chosen:
    """The settings with what was `given` on the command line over them; raises UsageError."""
    from minigpt4.core.engine_options import EngineOptions

    settings, given = loaded.settings, dict(given)
    projection = of_run(given, projection)
    names = (*MODEL, *SAMPLING, "system_prompt", "theme")
    values = {name: getattr(settings, name) for name in names} | given
    model = {name: values[name] for name in MODEL}
    model["backend"] = backend_for(model["backend"], beams)
    sampling = {name: values[name] for name in SAMPLING}
    if (greedy or (beams or 1) > 1) and "temperature" not in given:
        sampling["temperature"] = None
    options = EngineOptions(**model, projection=projection, offload=offload_vision)
    try:
        options = options.resolved()
    except UsageError as error:
        kept = [name for name in MODEL if name not in given and loaded.origins[name] != "default"]
        if not kept:
            raise
        # What is at fault may be nothing that was typed.
        raise UsageError(
            f"{error} (From the settings: {', '.join(kept)}; `minigpt4 config show` tells where that is set.)"
        ) from error
    default = options.loaded_bundle().sampling
    sampled = sampling_from(default, **sampling, greedy=greedy, beams=beams)
    return Chosen(options, sampled, values["system_prompt"] or "", values["theme"])


def check_model(loaded: Loaded, projection: Path | None) -> None:
    """Raise UsageError or BundleError where what was typed of the model cannot be, before the app starts.

    What only the settings say is left to the app, in which it can be mended.
    """
    from minigpt4.tui.conversation.engine_status import options_from

    if projection is not None or any(loaded.origins[name] == "flag" for name in MODEL):
        options_from(loaded.settings, projection=projection).resolved()


def of_run(given: dict[str, Any], projection: Path | None) -> Path | None:
    """The file that `--projection` names: itself, or that of a training run or one of its checkpoints.

    Where no bundle was typed, the one that it was trained for is put among what was `given`.
    """
    if projection is None:
        return None
    from minigpt4.core.weights.run_projection import run_projection

    found = run_projection(projection.expanduser())
    if found.bundle:
        given.setdefault("bundle", found.bundle)
    if found.step is not None:
        say(f"The run has not ended; step {found.step} of it answers.")
    return found.file


def backend_for(backend: str, beams: int | None) -> str:
    """The backend as typed, or torch where it was left open and beams are asked for.

    Raises UsageError for llama.cpp, before it has loaded gigabytes for nothing.
    """
    if beams is None or beams < 2:
        return backend
    if backend == "llamacpp":
        raise UsageError(
            f"--beams {beams} needs the torch backend: choose `--backend torch`, or leave --beams out."
        )
    return "torch" if backend == "auto" else backend


def sampling_from(
    default: ResolvedSampling,
    *,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    repetition_penalty: float | None,
    seed: int | None,
    greedy: bool,
    beams: int | None = None,
) -> ResolvedSampling:
    """The bundle's sampling with what was typed put over it; raises UsageError naming a bad value.

    Over 1, `beams` leave the dice out where no temperature was typed.
    """
    _check("--max-tokens", max_tokens, least=1, most=100_000)
    _check("--temperature", temperature, least=0, most=10)
    _check("--top-p", top_p, least=0.001, most=1)
    _check("--repetition-penalty", repetition_penalty, least=0.01, most=10)
    _check("--seed", seed, least=0, most=2**63 - 1)
    _check("--beams", beams, least=1, most=100)
    if greedy and temperature:
        raise UsageError(
            f"--greedy and --temperature {temperature:g} contradict each other; give one of them."
        )
    if beams is not None and beams > 1:
        if temperature:
            raise UsageError(
                f"--beams {beams} and --temperature {temperature:g} contradict each other; give one of them."
            )
        temperature = 0.0
    typed = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
    }
    changes: dict[str, Any] = {name: value for name, value in typed.items() if value is not None}
    sampling = replace(default, **changes)
    return sampling.greedy() if greedy else sampling


def _check(option: str, value: float | None, *, least: float, most: float) -> None:
    # Written so that nan, which compares false with everything, is refused too.
    if value is not None and not least <= value <= most:
        raise UsageError(f"{option} is {value:g}; it must be between {least:g} and {most:g}.")
