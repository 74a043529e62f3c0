"""Options that several commands share: the model and the sampling."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from minigpt4.core.errors import Minigpt4Error, UsageError
from minigpt4.tui.cli.crash_guard import continue_in_child
from minigpt4.tui.terminal.messages import say

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.pixels import Picture
    from minigpt4.core.types import ResolvedSampling
    from minigpt4.tui.settings.settings import Loaded

MODEL = ("bundle", "backend", "device", "threads", "quant", "gpu_layers", "context", "image_tokens")
SAMPLING = ("max_tokens", "temperature", "top_p", "repetition_penalty", "seed")

_BUNDLE = typer.Option("--bundle", "-b", help="Model bundle.")
_BACKEND = typer.Option("--backend", help="auto, torch or llamacpp; auto: llama.cpp if it is installed.")
_DEVICE = typer.Option("--device", help="auto, cpu, cuda or cuda:N.")
_QUANT = typer.Option(
    "--quant",
    help="Quantisation of the language model's weights: fp32, bf16, fp16, int8 or nf4 (torch); F16, Q8_0, "
    "Q5_K_M, Q4_K_M or Q4_0 (llama.cpp); auto: what is downloaded and suits the device.",
)

_NO_CACHE = typer.Option(
    "--no-cache", help="Read no picture's embedding from the cache on disk, and keep none there."
)

R = TypeVar("R")

BundleName = Annotated[str, _BUNDLE]
BackendName = Annotated[str, _BACKEND]
Device = Annotated[str, _DEVICE]
Quant = Annotated[str, _QUANT]

ProjectionFile = Annotated[
    Path | None,
    typer.Option(
        "--projection",
        metavar="FILE",
        help="A projection you trained, instead of the bundle's; or the folder of its training run.",
    ),
]
Threads = Annotated[int | None, typer.Option("--threads", help="Number of processor threads.")]
ImageTokens = Annotated[
    int | None,
    typer.Option(
        "--image-tokens",
        metavar="N",
        help="About how many tokens a picture takes at most; for bundles of two GGUF files.",
    ),
]
NoRepack = Annotated[
    bool,
    typer.Option(
        "--no-repack",
        help="llama.cpp: do not repack weights for this processor: slower, but leaves memory to others.",
    ),
]
Beams = Annotated[
    int | None,
    typer.Option("--beams", help="Number of beams of a beam search for the most likely answer."),
]
MaxTokens = Annotated[
    int | None, typer.Option("--max-tokens", help="Longest answer, in tokens; a word is one or two.")
]
SystemPrompt = Annotated[
    str | None, typer.Option("--system-prompt", help="Instructions to the model before the conversation.")
]


@dataclass(frozen=True)
class ModelFlags:
    """The model options of a command; None leaves an option to the settings."""

    bundle: Annotated[str | None, _BUNDLE] = None
    backend: Annotated[str | None, _BACKEND] = None
    device: Annotated[str | None, _DEVICE] = None
    projection: ProjectionFile = None
    threads: Threads = None
    quant: Annotated[str | None, _QUANT] = None
    gpu_layers: Annotated[
        int | None,
        typer.Option("--gpu-layers", help="llama.cpp: number of layers on the GPU; all by default."),
    ] = None
    context: Annotated[
        int | None,
        typer.Option("--context", help="Context length in tokens; less than the bundle's saves memory."),
    ] = None
    image_tokens: ImageTokens = None
    no_repack: NoRepack = False
    offload_vision: Annotated[
        bool,
        typer.Option("--offload-vision", help="Keep the vision tower off the GPU except while it encodes."),
    ] = False
    no_cache: Annotated[bool, _NO_CACHE] = False

    def given(self) -> dict[str, Any]:
        """The settings given on the command line."""
        off = {"cache": self.no_cache, "repack": self.no_repack}
        return _given(self, MODEL) | {name: False for name, is_off in off.items() if is_off}


@dataclass(frozen=True)
class FixedModelFlags:
    """The model options of a command that ignores the settings, so that its results can be reproduced."""

    projection: ProjectionFile = None
    backend: BackendName = "auto"
    device: Device = "auto"
    threads: Threads = None
    image_tokens: ImageTokens = None
    no_repack: NoRepack = False

    def options(self, bundle: str) -> EngineOptions:
        """The options of a bundle; its files are not read yet."""
        from minigpt4.core.engine_options import EngineOptions

        return EngineOptions(bundle, **self.given())

    def given(self) -> dict[str, Any]:
        """The corresponding fields of EngineOptions."""
        given = dict(vars(self))
        given["repack"] = not given.pop("no_repack")
        return given


@dataclass(frozen=True)
class FixedEngineFlags(FixedModelFlags):
    """The same for a command that encodes pictures through the disk cache."""

    no_cache: Annotated[bool, _NO_CACHE] = False

    def given(self) -> dict[str, Any]:
        """The corresponding fields of EngineOptions."""
        given = super().given()
        given["cache"] = not given.pop("no_cache")
        return given


@dataclass(frozen=True)
class SamplingFlags:
    """The sampling options of a command; None leaves an option to the settings."""

    max_tokens: MaxTokens = None
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Sampling temperature; 0 is greedy.")
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", help="Sample from the most likely tokens that reach this probability."),
    ] = None
    repetition_penalty: Annotated[
        float | None, typer.Option("--repetition-penalty", help="Over 1 makes repeated tokens less likely.")
    ] = None
    seed: Annotated[
        int | None, typer.Option("--seed", help="Random seed; the same seed gives the same answer.")
    ] = None
    greedy: Annotated[
        bool, typer.Option("--greedy", help="Always take the most likely token; no sampling.")
    ] = False

    def given(self) -> dict[str, Any]:
        """The settings given on the command line; raises UsageError if --greedy contradicts --temperature."""
        if not self.greedy:
            return _given(self, SAMPLING)
        if self.temperature:
            raise UsageError(
                f"--greedy and --temperature {self.temperature:g} contradict each other; give one of them."
            )
        return _given(self, SAMPLING) | {"temperature": 0.0, "repetition_penalty": 1.0}


def _given(flags: object, names: Sequence[str]) -> dict[str, Any]:
    return {name: value for name in names if (value := getattr(flags, name)) is not None}


def with_option_sets(command: Callable[..., R]) -> Callable[..., R]:
    """Let a command take dataclasses as parameters; typer sees their fields as options."""
    hints = get_type_hints(command, include_extras=True)
    sets: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        own = inspect.signature(sets[name]).parameters if name in sets else {name: parameter}
        types = get_type_hints(sets[name], include_extras=True) if name in sets else hints
        # Keyword-only: a set may stand before a parameter without a default.
        parameters += [
            one.replace(annotation=types[field], kind=inspect.Parameter.KEYWORD_ONLY)
            for field, one in own.items()
        ]

    @wraps(command)
    def call(**values: Any) -> R:
        for name, kind in sets.items():
            values[name] = kind(**{one.name: values.pop(one.name) for one in fields(kind)})
        return command(**values)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}
    return call


MODEL_FROM_SETTINGS = ModelFlags()
FIXED_MODEL = FixedEngineFlags()
SAMPLING_FROM_SETTINGS = SamplingFlags()


def fetch_files(options: EngineOptions, *, bars: bool = True) -> None:
    """Fetch the missing files, unless memory would not hold the model (BackendError)."""
    from minigpt4.core.download.fetch import is_present
    from minigpt4.core.language.load import check_memory, needed_files

    check_memory(options)
    bundle, files = options.loaded_bundle(), needed_files(options)
    if all(is_present(file, bundle) for file in files):
        return
    from minigpt4.tui.cli.models.models import pull_with_progress

    pull_with_progress(bundle, files, bars=bars)


def load_engine(options: EngineOptions, *, bars: bool = True, pictures: Sequence[Picture] = ()) -> Engine:
    """Load the engine; missing files are fetched first, with progress (`bars`) on stderr.

    If one of the `pictures` is not cached, the vision tower loads in parallel with the language model.
    """
    from minigpt4.core.engine import Engine

    fetch_files(options, bars=bars)
    if options.loaded_bundle().mmproj is not None:
        continue_in_child(options.bundle_name)
    return Engine.from_options(options, notice=say, pictures=pictures)


@dataclass(frozen=True)
class Chosen:
    """The settings and the command line resolved together."""

    model: EngineOptions
    sampling: ResolvedSampling
    system_prompt: str
    theme: str


def choose(
    loaded: Loaded, projection: Path | None, *, offload_vision: bool, beams: int | None = None
) -> Chosen:
    """Resolve the settings, which include the flags; raises UsageError.

    With more than one beam the temperature is 0.
    """
    from minigpt4.tui.conversation.engine_status import options_from, sampling_from

    settings = loaded.settings

    def resolved(loaded: Loaded) -> EngineOptions:
        options = options_from(loaded.settings, projection, offload_vision)
        return replace(options, backend=backend_for(options.backend, beams)).resolved()

    try:
        options = resolved(loaded)
    except UsageError as error:
        if not (blamed := _blamed(loaded, str(error), resolved)):
            raise
        raise UsageError(
            f"{error} (From the settings: {', '.join(blamed)}; `minigpt4 config show` shows where that is "
            "set.)"
        ) from error
    sampling = sampling_from(settings)
    if beams is not None and beams > 1:
        if settings.temperature and loaded.origins["temperature"] == "flag":
            raise UsageError(
                f"--beams {beams} and --temperature {settings.temperature:g} contradict each other; give one "
                "of them."
            )
        sampling = replace(sampling, temperature=0.0)
    sampled = sampling.over(options.loaded_bundle().sampling)
    return Chosen(options, sampled, settings.system_prompt or "", settings.theme)


def _blamed(loaded: Loaded, problem: str, resolved: Callable[[Loaded], object]) -> list[str]:
    """The settings, other than flags, without which this problem would not occur."""
    from minigpt4.tui.settings.settings import entry

    found = []
    for name in MODEL:
        if loaded.origins[name] not in ("default", "flag"):
            try:
                resolved(loaded.with_value(name, entry(name).default))
            except Minigpt4Error as error:
                if str(error) == problem:
                    continue
            found.append(name)
    return found


def check_model(loaded: Loaded, projection: Path | None) -> None:
    """Raise UsageError or BundleError for impossible model options before the app starts.

    Bad settings are left to the app, where they can be corrected.
    """
    from minigpt4.tui.conversation.engine_status import options_from

    if projection is not None or any(loaded.origins[name] == "flag" for name in MODEL):
        options_from(loaded.settings, projection=projection).resolved()


def of_run(given: dict[str, Any], projection: Path | None) -> Path | None:
    """The projection file that `--projection` names, directly or by its training run or checkpoint.

    Without --bundle the bundle it was trained for is added to `given`.
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
    """The backend; auto becomes torch for beam search.

    Raises UsageError for llama.cpp, before it loads gigabytes for nothing.
    """
    if beams is not None and not 1 <= beams <= 100:
        raise UsageError(f"--beams is {beams}; it must be between 1 and 100.")
    if beams is None or beams == 1:
        return backend
    if backend == "llamacpp":
        raise UsageError(
            f"--beams {beams} needs the torch backend: choose `--backend torch`, or leave --beams out."
        )
    return "torch" if backend == "auto" else backend
