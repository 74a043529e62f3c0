"""EngineOptions: which model to load and how to run it, from flags, settings and the API to both backends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from minigpt4.core.dtypes import dtype_for
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.text import suggestion

if TYPE_CHECKING:
    from minigpt4.core.bundles.bundle import Bundle

# Modules of bundles are imported in functions: the app creates options before its first frame, without numpy.

Backend = Literal["auto", "torch", "llamacpp"]
BACKENDS = ("auto", "torch", "llamacpp")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class EngineOptions:
    """Options of `Engine.load`; None and "auto" leave a choice to the bundle or the machine."""

    bundle: str | Bundle = "mini"
    """A bundle, or the name of one."""

    backend: str = "auto"
    """The backend of the language model: torch or llamacpp."""

    device: str = "auto"
    """cpu, cuda or cuda:N."""

    projection: Path | None = None
    """A trained projection that replaces the bundle's, or the folder of its training run."""

    threads: int | None = None

    quant: str = "auto"
    """Quantisation of the language model's weights."""

    gpu_layers: int | None = None
    """Layers that llama.cpp puts on the GPU; None: all."""

    context: int | None = None
    """Context length in tokens, at most the bundle's."""

    dtype: str | None = None
    """fp32, bf16 or fp16: the type that the vision tower and torch compute in."""

    repack: bool = True
    """Let llama.cpp repack weights for the CPU, if a trial shows that it can and memory allows it."""

    offload: bool = False
    """Keep the vision tower off the GPU except while it encodes."""

    image_tokens: int | None = None
    """Approximate maximum of tokens per picture, for bundles of two GGUF files; None: the model's rule."""
    cache: bool = True
    """Read image embeddings from the disk cache, and keep new ones there."""

    @property
    def bundle_name(self) -> str:
        """The bundle's name."""
        return self.bundle if isinstance(self.bundle, str) else self.bundle.name

    def loaded_bundle(self) -> Bundle:
        """The bundle itself. Raises UsageError for an unknown name, BundleError for a bad manifest."""
        from minigpt4.core.bundles.bundle import load_bundle

        return load_bundle(self.bundle) if isinstance(self.bundle, str) else self.bundle

    def resolved(self) -> EngineOptions:
        """Return checked options with the bundle loaded, in the form that its projection was trained with.

        Raises like `check`, and UsageError or BundleError for a training run without a projection.
        """
        self._check_values()
        options = replace(self, bundle=self.loaded_bundle())
        if options.loaded_bundle().mmproj is not None:
            options._check_pair(options.loaded_bundle())
        if self.projection is not None:
            from minigpt4.core.weights.run_projection import run_projection

            found = run_projection(self.projection.expanduser())
            bundle = found.fitted(options.loaded_bundle())
            options = replace(options, bundle=bundle, projection=found.file)
        options.check()
        return options

    def check(self) -> None:
        """Raise UsageError for an impossible value and BundleError for a missing projection file.

        Needs no file of the bundle.
        """
        self._check_values()
        bundle = self.loaded_bundle()
        if bundle.mmproj is not None:
            self._check_pair(bundle)
        elif self.image_tokens is not None:
            raise UsageError(
                f"--image-tokens {self.image_tokens} is for bundles of two GGUF files; a picture of "
                f"'{bundle.name}' always takes {bundle.projection.image_tokens}."
            )
        if self.context is not None and not 1 <= self.context <= bundle.language.context:
            raise UsageError(
                f"A context of {self.context} positions is not possible; '{bundle.name}' was made for 1 to "
                f"{bundle.language.context}."
            )
        if self.projection is not None and not self.projection.is_file():
            raise BundleError(
                f"There is no projection file {self.projection}; check the path or train one first."
            )

    def _check_values(self) -> None:
        from minigpt4.core.weights.locate import check_quant

        _check_name("backend", self.backend, BACKENDS)
        kind, _, index = self.device.partition(":")
        if kind not in DEVICES or (index and not (kind == "cuda" and index.isdecimal())):
            raise UsageError(f"There is no device '{self.device}'; choose auto, cpu, cuda or cuda:N.")
        if self.dtype is not None:
            dtype_for(self.dtype, self.device)
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"--threads is {self.threads}; it must be at least 1.")
        if self.gpu_layers is not None and self.gpu_layers < 0:
            raise UsageError(f"{self.gpu_layers} layers cannot be on a GPU; ask for 0 or more.")
        check_quant(self.quant)
        self._check_backend_of_quant()

    def _check_pair(self, bundle: Bundle) -> None:
        """Raise UsageError for options that a bundle of two GGUF files does not support."""
        for wish, is_given in (
            ("--projection", self.projection is not None),
            ("--backend torch", self.backend == "torch"),
            ("--offload-vision", self.offload),
        ):
            if is_given:
                raise UsageError(
                    f"'{bundle.name}' is two GGUF files, which llama.cpp uses as they are; leave `{wish}` "
                    "out."
                )
        if self.image_tokens is not None and not 1 <= self.image_tokens <= bundle.language.context:
            raise UsageError(
                f"--image-tokens is {self.image_tokens}; it must be from 1 to the context of "
                f"'{bundle.name}', {bundle.language.context}."
            )

    def _check_backend_of_quant(self) -> None:
        from minigpt4.core.weights.locate import GGUF_QUANTS, TORCH_QUANTS

        if self.quant == "auto" or self.backend == "auto":
            return
        theirs, other = ("torch", "llama.cpp") if self.quant in TORCH_QUANTS else ("llamacpp", "torch")
        if self.backend != theirs:
            own = GGUF_QUANTS if self.backend == "llamacpp" else TORCH_QUANTS
            raise UsageError(
                f"The quantisation '{self.quant}' is not one of {other}'s, which are {', '.join(own)}; "
                f"choose one of them, or `--backend {theirs}`."
            )


def _check_name(kind: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UsageError(f"There is no {kind} '{name}'; {suggestion(name, known)}")
