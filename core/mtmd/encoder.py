"""The encoder of a bundle of two GGUF files: any picture -> its vectors and their layout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minigpt4.core.cores import threads_for, too_many_threads
from minigpt4.core.download.fetch import digest_of
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.mtmd.library import Mmproj, library_version
from minigpt4.core.pixels import Picture
from minigpt4.core.types import LaidOut, Stretch
from minigpt4.core.weights.gguf.facts import MmprojFacts, mmproj_facts
from minigpt4.core.weights.gguf.pair import check_pair
from minigpt4.core.weights.locate import mmproj_path

if TYPE_CHECKING:
    from minigpt4.core.bundles.bundle import Bundle
    from minigpt4.core.mtmd.language import LlamaCppWithImages

CODE_VERSION = 2
"""Raise it whenever this folder's code computes other vectors or another layout for the same picture."""

Encode = Callable[[Image.Image], LaidOut]

PHOTO = (640, 480)
TILE_SLACK = 1.5
"""Tiles are not split: a request for 6 tokens with tiles of 4 takes 8."""

LLAVA_PROJECTORS = ("mlp", "mlp_norm", "ldp", "ldpv2")
"""Projectors that use libmtmd's graph of LLaVA, which misplaces a class row (llama.cpp issue 25814)."""


class MmprojEncoder:
    """Encodes pictures with an mmproj; its language model must stay open while it is used."""

    def __init__(
        self,
        path: Path,
        language: LlamaCppWithImages,
        *,
        threads: int | None = None,
        use_gpu: bool = False,
        image_tokens: int | None = None,
        plain_attention: bool = False,
    ) -> None:
        """Raises BundleError if the file is damaged or another model's."""
        facts = mmproj_facts(path)
        check_pair(language.facts, facts, language.has_token)
        self._encode = _true_tower(facts) or _opened(
            Mmproj(
                facts,
                language,
                threads=threads_for(threads),
                use_gpu=use_gpu,
                image_tokens=image_tokens,
                plain_attention=plain_attention,
            ),
            image_tokens,
        )

    def __call__(self, picture: Picture) -> LaidOut:
        """The picture's vectors (N, D_llm) and their layout."""
        return self._encode(picture.image)

    def object_boxes(self, picture: Picture) -> NDArray[np.float32]:
        """Raise BundleError: these bundles have no detector."""
        raise BundleError("A bundle of two GGUF files has no detector of objects.")


def load_pair(
    options: EngineOptions, notice: Callable[[str], None] | None = None
) -> tuple[LlamaCppWithImages, Callable[[], MmprojEncoder], str]:
    """The language model of two GGUF files, a function that opens their encoder, and its fingerprint.

    `notice` is called about too many threads, and about too little memory for the fastest kernels.
    """
    from minigpt4.core.mtmd.language import LlamaCppWithImages

    if notice is not None and (sentence := too_many_threads(options.threads)):
        notice(sentence)
    language = LlamaCppWithImages.load(options, notice=notice)
    vocabulary: list[str | int] = [language.vocabulary_digest, language.width]
    fingerprint = mmproj_fingerprint(options.loaded_bundle(), vocabulary, options.image_tokens)
    return language, lambda: pair_encoder(options, language), fingerprint


def pair_encoder(
    options: EngineOptions, language: LlamaCppWithImages, *, plain_attention: bool = False
) -> MmprojEncoder:
    """The encoder of the bundle of these options."""
    from minigpt4.core.weights.llama_library import load_library

    is_on_gpu = options.device != "cpu" and bool(load_library().llama_supports_gpu_offload())
    return MmprojEncoder(
        mmproj_path(options.loaded_bundle()),
        language,
        threads=options.threads,
        use_gpu=is_on_gpu,
        image_tokens=options.image_tokens,
        plain_attention=plain_attention,
    )


def mmproj_fingerprint(bundle: Bundle, vocabulary: Sequence[str | int], image_tokens: int | None) -> str:
    """16 hex digits that identify everything that turns a picture's bytes into its vectors and layout.

    A file of the user's own is identified by its size and modification time. The marks in a layout are the
    language model's tokens, so `vocabulary`, which identifies them, is included.
    """
    spec, path = bundle.mmproj, mmproj_path(bundle)
    digest = digest_of(spec.file, bundle) if spec and spec.file else None
    status = path.stat()
    parts = [
        CODE_VERSION,
        digest or [status.st_size, status.st_mtime_ns, _head_digest(path)],
        library_version(),
        image_tokens,
        *vocabulary,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _head_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.sha256(file.read(1 << 20)).hexdigest()


def _true_tower(facts: MmprojFacts) -> Encode | None:
    """The tower computed in torch, if it has a class row that libmtmd would misplace."""
    if not needs_true_tower(facts):
        return None
    from minigpt4.core.llava.class_row import own_encoder

    tower = own_encoder(facts.path)
    if tower is None:
        return None

    def encode(image: Image.Image) -> LaidOut:
        tokens_ND = tower(image)
        return tokens_ND, (Stretch(len(tokens_ND), len(tokens_ND)),)

    return encode


def _opened(mmproj: Mmproj, image_tokens: int | None) -> Encode:
    """A function that encodes pictures; raises UsageError if they take far more tokens than requested."""
    if image_tokens is not None:
        layout = mmproj.layout(Image.new("RGB", PHOTO))
        taken = sum(part.vectors for part in layout if isinstance(part, Stretch))
        if taken > image_tokens * TILE_SLACK:
            raise UsageError(
                f"--image-tokens is {image_tokens}, but a picture of this model takes at least {taken}; "
                "leave it out, or give more."
            )
    return mmproj.encode


def needs_true_tower(facts: MmprojFacts) -> bool:
    """Whether libmtmd may place this tower's class row wrongly."""
    return facts.has_class_row and facts.projector in LLAVA_PROJECTORS
