"""Every array between the pixels and the logits of one question, to compare two builds.

    minigpt4 models trace BUNDLE -i photo.jpg "What is this?" -o trace.safetensors

The file holds, as float32, `pixels_BCHW`, `vision_BND`, `qformer_BND` and `objects_BKD` (if there
is one), `image_BND`, `inputs_SD` (the input embeddings of the whole prompt) and `logits_V` (for the
first token of the answer). Its metadata values are JSON strings: `prompt`, `segments`, `versions`,
`made_with` and, if requested, `greedy_ids`.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import minigpt4
from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download.fetch import projection_path
from minigpt4.core.dtypes import AUTO
from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import BundleError, ContextError, DataError, UsageError
from minigpt4.core.language.base import LanguageModel
from minigpt4.core.language.load import load_language_model
from minigpt4.core.pixels import Picture, to_pixels
from minigpt4.core.prompt import (
    BOS,
    Image,
    Joined,
    Segment,
    User,
    prompt_pieces,
    prompt_positions,
    template_named,
)
from minigpt4.core.storage.atomic import replacing
from minigpt4.core.types import ImageEmbedding, PromptPiece, Text
from minigpt4.core.weights.locate import GGUF_QUANTS, choose_gguf

PICTURE_MARK = "<ImageHere>"
"""Placeholder of a picture in the text of a prompt, as in the original."""

PACKAGES = ("numpy", "safetensors", "torch", "transformers", "llama-cpp-python")

TABLE = "token_embd.weight"
"""GGUF's name of the table of input embeddings."""

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Trace:
    """The content of a trace file: `arrays` are float32, `metadata` anything that JSON can hold."""

    arrays: Mapping[str, NDArray[np.float32]]
    metadata: Mapping[str, Any]

    def write(self, path: Path) -> None:
        """Write it as safetensors; raises DataError if that fails."""
        from safetensors.numpy import save_file

        texts = {key: json.dumps(value, ensure_ascii=False) for key, value in self.metadata.items()}
        try:
            with replacing(path) as draft:
                save_file(dict(self.arrays), draft, metadata=texts)
        except OSError as error:
            raise DataError(f"The trace {path} cannot be written: {error.strerror or error}.") from error


def traced_backend(options: EngineOptions) -> str:
    """The backend of a trace.

    "auto" is torch here, unless the quantisation is one of llama.cpp's: a comparison must not depend
    on which GGUF files happen to exist.
    """
    if options.backend != "auto":
        return options.backend
    return "llamacpp" if options.quant in GGUF_QUANTS else "torch"


def trace(options: EngineOptions, pixels_BCHW: Pixels, question: str, *, greedy: int = 0) -> Trace:
    """Ask `question` about pictures given as normalised pixels, all of them in one message.

    `greedy` is the number of tokens to decode greedily, ignoring stop texts but not the model's own end
    token. The bundle's files must exist. Raises UsageError for pixels of another size, BundleError,
    BackendError and ContextError as an engine does.
    """
    if greedy < 0:
        raise UsageError(f"{greedy} tokens cannot be generated; ask for 0 or more.")
    bundle, backend = options.loaded_bundle(), traced_backend(options)
    arrays = _encode(options, pixels_BCHW)
    pictures = [ImageEmbedding(tokens_ND, f"picture {n}") for n, tokens_ND in enumerate(arrays["image_BND"])]
    segments = template_named(bundle.template).segments([User(question, images=pictures)])
    made_with = {key: getattr(options, key) for key in ("device", "quant", "dtype")}
    metadata: dict[str, object] = {
        "prompt": "".join(PICTURE_MARK if isinstance(s, Image) else text_of(s) for s in segments),
        "versions": versions(),
        "made_with": {"bundle": bundle.name, "backend": backend, **made_with},
    }
    language = load_language_model(replace(options, backend=backend))
    try:
        prompt = prompt_pieces(segments, language.tokenize)
        positions = prompt_positions(prompt)
        if positions + greedy > language.context:
            raise ContextError(
                f"The prompt takes {positions} positions and {greedy} are asked for, but the language model "
                f"has {language.context}; ask for fewer."
            )
        inputs_SD, logits_V = language.trace(prompt)
        if inputs_SD is None:
            inputs_SD = _inputs_of_gguf(bundle, options.quant, prompt)
        arrays |= {"inputs_SD": inputs_SD, "logits_V": logits_V}
        metadata["segments"] = _segments(segments, language)
        if greedy:
            metadata["greedy_ids"] = _greedy_ids(language, prompt, logits_V, greedy)
    finally:
        language.close()
    contiguous = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in arrays.items()}
    return Trace(contiguous, metadata)


def pixels_of(pictures: Sequence[Picture], bundle: Bundle) -> Pixels:
    """Pictures as input of the bundle's tower: (B, 3, H, W), normalised."""
    vision = bundle.vision
    return np.stack(
        [to_pixels(p.image, vision.image_size, vision.mean, vision.std, vision.fit) for p in pictures]
    )


def read_pixels(path: Path) -> Pixels:
    """Normalised pixels (B, 3, H, W) from a NumPy file of them, or of one picture's (3, H, W).

    Raises DataError for a file that cannot be read or does not hold float32 pixels.
    """
    try:
        with path.open("rb") as file:
            # Not np.load, which opens a file that begins like a zip archive as one, with other errors.
            pixels = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise DataError(f"The pixels {path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, EOFError, MemoryError) as error:
        raise DataError(f"{path} is no NumPy file of pixels, or it is cut short ({error}).") from error
    if pixels.dtype != np.float32 or pixels.ndim not in (3, 4) or pixels.shape[-3] != 3 or not pixels.size:
        raise DataError(
            f"{path} holds {pixels.dtype} of the shape {pixels.shape}; normalised float32 pixels of the "
            "shape (3, H, W), or (B, 3, H, W) for several pictures, are wanted."
        )
    if not np.isfinite(pixels).all():
        raise DataError(f"{path} holds pixels that are not finite; normalise the picture again.")
    return np.ascontiguousarray(pixels.reshape(-1, *pixels.shape[-3:]))


def _encode(options: EngineOptions, pixels_BCHW: Pixels) -> dict[str, NDArray[np.float32]]:
    """Run the vision half; its memory is freed before the language model is loaded."""
    import torch

    from minigpt4.core.vision.encoder import ImageEncoder

    bundle = options.loaded_bundle()
    encoder = ImageEncoder(
        bundle,
        options.projection or projection_path(bundle),
        device=options.device,
        threads=options.threads,
        dtype=options.dtype or AUTO,
    )
    return encoder.trace(torch.from_numpy(pixels_BCHW))


def _greedy_ids(
    language: LanguageModel,
    prompt: Sequence[PromptPiece],
    logits_V: NDArray[np.float32],
    count: int,
) -> list[int]:
    """`count` greedy token ids, or fewer if the end token comes; continues from the KV cache."""
    ids = [int(logits_V.argmax())]
    while len(ids) < count and not language.is_end(ids[-1]):
        ids.append(int(language.logits([*prompt, *ids]).argmax()))
    return ids


def _inputs_of_gguf(bundle: Bundle, quant: str, prompt: Sequence[PromptPiece]) -> NDArray[np.float32]:
    """The prompt's input embeddings (S, D) from the file: llama.cpp does not expose its own."""
    from gguf import GGMLQuantizationType, dequantize

    from minigpt4.core.weights.gguf.header import read_header

    path = choose_gguf(bundle, quant)
    if path is None:
        raise BundleError(f"The GGUF of '{bundle.name}' that was traced is gone; run it again.")
    place = read_header(path).tensors[TABLE]  # llama.cpp has loaded it, so it is there
    stored = np.memmap(path, np.uint8, "r", place.start, (place.shape[0], place.length // place.shape[0]))
    kind = GGMLQuantizationType[place.kind]
    rows = [
        piece.tokens_ND if isinstance(piece, ImageEmbedding) else dequantize(stored[piece : piece + 1], kind)
        for piece in prompt
    ]
    return np.concatenate(rows).astype(np.float32)


def _segments(segments: Sequence[Segment], language: LanguageModel) -> list[dict[str, Any]]:
    """Text and token ids of each stretch between pictures; the first one's ids include the BOS."""
    traced: list[dict[str, Any]] = [{"text": "", "ids": []}]
    for segment in segments:
        if isinstance(segment, Image):
            traced.append({"text": "", "ids": []})
        else:
            traced[-1]["text"] += text_of(segment)
            traced[-1]["ids"] += prompt_pieces([segment], language.tokenize)
    return traced


def text_of(segment: Text | Joined) -> str:
    """The segment's text without the BOS, which the original's tokenizer adds to its prompts."""
    texts = segment.texts if isinstance(segment, Joined) else (segment,)
    return "".join(text.text for text in (texts[1:] if texts[:1] == (BOS,) else texts))


def versions() -> dict[str, str]:
    """The versions of everything that may change a number."""
    found = {"minigpt4": minigpt4.__version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # llama.cpp is optional
            continue
    return found
