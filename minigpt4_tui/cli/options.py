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
from minigpt4.core.language.select import BACKENDS, DEVICES

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

    @classmethod
    def of(
        cls, *, bundle: str, backend: str, device: str, projection: Path | None, threads: int | None
    ) -> ModelChoice:
        """From the options as they were typed."""
        if backend not in BACKENDS:
            raise UsageError(f"There is no backend '{backend}'; choose {', '.join(BACKENDS)}.")
        if re.sub(r"^cuda:\d+$", "cuda", device) not in DEVICES:
            raise UsageError(f"There is no device '{device}'; choose {', '.join(DEVICES)} or cuda:N.")
        if threads is not None and threads < 1:
            raise UsageError(f"--threads is {threads}; it must be at least 1.")
        return cls(
            bundle=load_bundle(bundle),
            backend=backend,
            device=device,
            projection=projection.expanduser() if projection else None,
            threads=threads,
        )

    def load(self) -> Engine:
        """The engine, its files fetched first where they are missing, with progress on stderr."""
        from minigpt4.core.engine import Engine
        from minigpt4.tui.cli.models import pull_with_progress

        pull_with_progress(self.bundle)
        return Engine.load(
            self.bundle,
            backend=cast("Backend", self.backend),
            device=self.device,
            projection=self.projection,
            threads=self.threads,
        )


def sampling_from(
    default: Sampling,
    *,
    max_tokens: int | None,
    temperature: float | None,
    top_p: float | None,
    repetition_penalty: float | None,
    seed: int | None,
    greedy: bool,
) -> Sampling:
    """The bundle's sampling with what was typed put over it; raises UsageError naming a bad value."""
    _check("--max-tokens", max_tokens, least=1, most=100_000)
    _check("--temperature", temperature, least=0, most=10)
    _check("--top-p", top_p, least=0.001, most=1)
    _check("--repetition-penalty", repetition_penalty, least=0.01, most=10)
    _check("--seed", seed, least=0, most=2**63 - 1)
    if greedy and temperature:
        raise UsageError(
            f"--greedy and --temperature {temperature:g} contradict each other; give one of them."
        )
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
