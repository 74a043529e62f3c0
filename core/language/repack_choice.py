"""Load a model in llama.cpp, with its weights repacked if that is requested, works and fits memory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigpt4.core.download.fetch import Notice
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BundleError
from minigpt4.core.memory import lack_of_room_for_copy
from minigpt4.core.weights.gguf.to_hf import fetch_again
from minigpt4.core.weights.llama_library import forget_errors, forget_mapped_pages, last_error, load_library
from minigpt4.core.weights.repacking import Repacking, repacking

DIFFERENT_BITS = "its answers would depend on what the cache holds"
"""Only for small models, whose logits are the same bit for bit however a prompt is split."""


@dataclass(frozen=True)
class RepackChoice:
    """Whether weights are repacked; `reason` says why not."""

    is_on: bool
    reason: str = ""
    lone_keeps_bits: bool = False
    """Whether lone positions have the same bits without a copy; see `Repacking`."""

    def __str__(self) -> str:
        """As in `Engine.choices`."""
        return "on" if self.is_on else f"off: {self.reason}"


def choose_repacking(
    options: EngineOptions, gguf: Path, *, is_on_gpu: bool, is_large: bool, notice: Notice
) -> RepackChoice:
    """The choice for a file; runs the trial, which takes a second, if this machine has no verdict yet.

    `notice` is called if only memory is lacking.
    """
    if not options.repack:
        return RepackChoice(False, "as asked")
    if is_on_gpu:
        # Batches that a GPU took over from repacked layers on the CPU crashed (llama.cpp's issue 11115).
        return RepackChoice(False, "layers are on a GPU")
    verdict = repacking(gguf)
    reason = reason_against(verdict, is_large=is_large)
    if not reason and (lack := lack_of_room_for_copy(options, gguf)):
        notice(f"The weights are not repacked for this processor, which would be faster: {lack}.")
        reason = f"too little memory: {lack}"
    return RepackChoice(not reason, reason, verdict.lone_keeps_bits)


def reason_against(verdict: Repacking, *, is_large: bool) -> str:
    """The verdict's reason against repacking, or an empty string."""
    if verdict.problem:
        return f"a trial in another process {verdict.problem}"
    if not verdict.types:
        return "llama.cpp has no repacked form of these weights here"
    return "" if is_large or verdict.keeps_bits else DIFFERENT_BITS


def open_model(gguf: Path, gpu_layers: int, repack: RepackChoice) -> tuple[Any, RepackChoice]:
    """llama.cpp's model, and whether its weights are repacked in the end, as memory may not hold the copy.

    Raises BundleError for a file that llama.cpp cannot load.
    """
    library = load_library()
    forget_errors()
    parameters = library.llama_model_default_params()
    parameters.n_gpu_layers = gpu_layers
    parameters.use_extra_bufts = repack.is_on
    model = library.llama_model_load_from_file(os.fsencode(gguf), parameters)
    if model:
        if repack.is_on:
            forget_mapped_pages(gguf)
        return model, repack
    if repack.is_on:
        return open_model(gguf, gpu_layers, RepackChoice(False, f"the copy was not made.{last_error()}"))
    raise BundleError(
        f"llama.cpp cannot load the language model {gguf}; it is damaged or of a kind that the "
        f"installed llama.cpp does not know. {fetch_again(gguf)}{last_error()}"
    )
