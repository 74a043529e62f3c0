"""Options that several commands share: which model, and how the next word is chosen."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from minigpt4.core.bundle import Bundle, load_bundle
from minigpt4.core.errors import UsageError
from minigpt4.core.language.protocol import Sampling
from minigpt4.core.language.select import BACKENDS, DEVICES, check_choices, check_memory, needed_files
from minigpt4.tui.cli.edge import say

if TYPE_CHECKING:
    from minigpt4.core.engine import Backend, Engine

BundleName = Annotated[str, typer.Option("--bundle", "-b", help="Which model bundle answers.")]
BackendName = Annotated[
    str,
    typer.Option("--backend", help="auto, torch or llamacpp; auto takes llama.cpp where it is installed."),
]
ProjectionFile = Annotated[
    Path | None,
    typer.Option("--projection", help="A projection of your own training, in place of the bundle's."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Threads = Annotated[int | None, typer.Option("--threads", help="How many processor threads to use.")]
Quant = Annotated[
    str,
    typer.Option(
        "--quant",
        help="How the language model's weights are kept: fp32, bf16, fp16, int8 or nf4 by torch; F16, Q8_0, "
        "Q5_K_M, Q4_K_M or Q4_0 by llama.cpp; auto takes what is here and suits the device.",
    ),
]
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
Greedy = Annotated[bool, typer.Option("--greedy", help="Always take the likeliest word, with no dice.")]


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """Which model is to answer, and where it runs; checked when made (UsageError)."""

    bundle: Bundle
    backend: str
    device: str
    projection: Path | None
    threads: int | None
    quant: str = "auto"
    gpu_layers: int | None = None
    context: int | None = None
    offload_vision: bool = False

    @classmethod
    def of(
        cls,
        *,
        bundle: str,
        backend: str,
        device: str,
        projection: Path | None,
        threads: int | None,
        quant: str = "auto",
        gpu_layers: int | None = None,
        context: int | None = None,
        offload_vision: bool = False,
    ) -> ModelChoice:
        """From the options as they were typed."""
        if backend not in BACKENDS:
            raise UsageError(f"There is no backend '{backend}'; choose {', '.join(BACKENDS)}.")
        if re.sub(r"^cuda:\d+$", "cuda", device) not in DEVICES:
            raise UsageError(f"There is no device '{device}'; choose {', '.join(DEVICES)} or cuda:N.")
        if threads is not None and threads < 1:
            raise UsageError(f"--threads is {threads}; it must be at least 1.")
        chosen = load_bundle(bundle)
        projection = projection.expanduser() if projection else None
        check_choices(
            chosen,
            backend=backend,
            device=device,
            context=context,
            quant=quant,
            gpu_layers=gpu_layers,
            projection=projection,
        )
        return cls(
            bundle=chosen,
            backend=backend,
            device=device,
            projection=projection,
            threads=threads,
            quant=quant,
            gpu_layers=gpu_layers,
            context=context,
            offload_vision=offload_vision,
        )

    def fetch(self, dtype: str | None = None) -> None:
        """Bring what is missing of the files, unless memory would not hold them (BackendError)."""
        from minigpt4.tui.cli.models import pull_with_progress

        check_memory(
            self.bundle,
            backend=self.backend,
            device=self.device,
            context=self.context,
            quant=self.quant,
            dtype=dtype,
        )
        pull_with_progress(self.bundle, needed_files(self.bundle, self.backend, self.quant))

    def load(self) -> Engine:
        """The engine, its files fetched first where they are missing, with progress on stderr."""
        from minigpt4.core.engine import Engine

        self.fetch()
        return Engine.load(
            self.bundle,
            backend=cast("Backend", self.backend),
            device=self.device,
            projection=self.projection,
            threads=self.threads,
            context=self.context,
            quant=self.quant,
            gpu_layers=self.gpu_layers,
            offload=self.offload_vision,
            notice=say,
        )


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
    default: Sampling,
    *,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    repetition_penalty: float | None,
    seed: int | None,
    greedy: bool,
    beams: int | None = None,
) -> Sampling:
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
