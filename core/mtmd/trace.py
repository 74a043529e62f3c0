"""What a bundle of two GGUF files computes for a prompt with pictures, to compare it with other programs.

    minigpt4 models trace NAME -i a.png -i b.png --raw "USER: <__media__><__media__>\\nWhat? ASSISTANT:" \\
        -o trace.safetensors --greedy 16

The file holds, as float32, `image_BND` (the pictures' vectors in the order of the prompt; B is 1 if pictures
have different numbers of vectors) and `logits_V`. Its metadata are JSON: `prompt`, `layout` (token ids,
and [vectors, positions] of each stretch of a picture), `versions`, `made_with` and `greedy_ids`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.errors import ContextError, UsageError
from minigpt4.core.language.load import check_memory
from minigpt4.core.mtmd.encoder import pair_encoder
from minigpt4.core.mtmd.language import LlamaCppWithImages
from minigpt4.core.mtmd.library import MARKER
from minigpt4.core.mtmd.template import template_of
from minigpt4.core.pixels import Picture
from minigpt4.core.prompt import Image, User, prompt_pieces, prompt_positions
from minigpt4.core.trace import PICTURE_MARK, Trace, text_of, versions
from minigpt4.core.types import ImageEmbedding, PromptPiece, Stretch

MARK = MARKER.decode()


def trace_pair(
    options: EngineOptions,
    pictures: Sequence[Picture],
    *,
    question: str | None = None,
    raw: str | None = None,
    greedy: int = 0,
) -> Trace:
    """Ask `question` in the bundle's chat template, or take the prompt `raw` as it stands.

    In `raw`, control tokens are parsed, and MARK stands for each picture. `greedy` tokens are decoded: for a
    question up to the end token, for `raw` past it. Nothing is read from caches. Raises as an engine does,
    and UsageError if the numbers of marks and pictures differ.
    """
    if raw is not None and raw.count(MARK) != len(pictures):
        raise UsageError(
            f"The prompt has {raw.count(MARK)} times {MARK} and there are {len(pictures)} pictures; write it "
            "where each of them goes."
        )
    bundle = options.loaded_bundle()
    check_memory(options)
    with LlamaCppWithImages.load(options) as language:
        # The same batches as in other programs, and attention that all of them can compute, make vectors
        # and logits equal bit for bit.
        language.compute_lone_positions_alone()
        encoder = pair_encoder(options, language, plain_attention=True)
        images = []
        for number, (tokens_ND, layout) in enumerate(map(encoder, pictures)):
            images.append(ImageEmbedding(tokens_ND, f"picture {number}", layout))
        if raw is None:
            segments = template_of(bundle, language).segments([User(question or "", images=images)])
            prompt = prompt_pieces(segments, language.tokenize)
            written = "".join(PICTURE_MARK if isinstance(one, Image) else text_of(one) for one in segments)
        else:
            prompt, written = _raw_prompt(raw, images, language), raw
        positions = prompt_positions(prompt)
        if positions + greedy > language.context:
            raise ContextError(
                f"The prompt takes {positions} positions and {greedy} are asked for, but the language model "
                f"has {language.context}; ask for fewer."
            )
        logits_V = language.logits(prompt)
        ids = _greedy_ids(language, prompt, int(logits_V.argmax()), greedy, to_end=raw is None)
    arrays = {"logits_V": logits_V}
    if images:
        arrays["image_BND"] = _stacked(images)
    metadata = {
        "prompt": written,
        "layout": [_plain(piece) for piece in prompt],
        "versions": versions(),
        "made_with": {"bundle": bundle.name, "backend": "llamacpp", "device": options.device},
    }
    return Trace(arrays, metadata | ({"greedy_ids": ids} if greedy else {}))


def _raw_prompt(
    raw: str, images: Sequence[ImageEmbedding], language: LlamaCppWithImages
) -> list[PromptPiece]:
    """Tokenise the texts between marks separately, as libmtmd does."""
    pieces: list[PromptPiece] = []
    for place, text in enumerate(raw.split(MARK)):
        pieces += language.raw_tokens(text, is_first=place == 0)
        pieces += images[place : place + 1]
    return pieces


def _greedy_ids(
    language: LlamaCppWithImages, prompt: Sequence[PromptPiece], first: int, count: int, *, to_end: bool
) -> list[int]:
    ids = [first]
    while len(ids) < count and not (to_end and language.is_end(ids[-1])):
        ids.append(int(language.logits([*prompt, *ids]).argmax()))
    return ids


def _stacked(images: Sequence[ImageEmbedding]) -> NDArray[np.float32]:
    vectors = [one.tokens_ND for one in images]
    if len({len(tokens_ND) for tokens_ND in vectors}) == 1:
        return np.stack(vectors)
    return np.concatenate(vectors)[None]


def _plain(piece: PromptPiece) -> object:
    if isinstance(piece, int):
        return piece
    return [
        [part.vectors, part.positions] if isinstance(part, Stretch) else list(part) for part in piece.layout
    ]
