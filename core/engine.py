"""Engine: look at pictures and reply to conversations about them.

    engine = Engine.load("mini")
    picture = engine.look("photo.jpg")
    for piece in engine.reply([User("What is this?", images=[picture])]):
        print(piece.text, end="")

Nothing here imports torch until a picture is not in the disk cache, or the torch backend is
chosen. An engine belongs to one thread at a time.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from minigpt4.core.bundles.bundle import Bundle
from minigpt4.core.download import fetch
from minigpt4.core.dtypes import AUTO
from minigpt4.core.embedding_cache import (
    ArrayCache,
    Cache,
    SquareCache,
    embedding_cache,
    embedding_fingerprint,
)
from minigpt4.core.engine_options import Backend, EngineOptions
from minigpt4.core.errors import BundleError, UsageError
from minigpt4.core.language.base import LanguageModel
from minigpt4.core.language.kept_states import shared_length
from minigpt4.core.language.load import check_memory, choices_made, load_language_model, needed_files
from minigpt4.core.language.sampling import check_beams, check_sampling
from minigpt4.core.pixels import Picture, open_picture
from minigpt4.core.prompt import (
    Assistant,
    ChatForm,
    Message,
    System,
    User,
    is_begun,
    prompt_pieces,
    prompt_positions,
    template_named,
)
from minigpt4.core.reply import Piece, Reply
from minigpt4.core.trim import Trimmed, trim
from minigpt4.core.types import (
    Encoder,
    FoundObject,
    ImageEmbedding,
    PromptPiece,
    ResolvedSampling,
    Sampling,
    Text,
)
from minigpt4.core.vision.objects import BOX_COLUMNS, found_objects
from minigpt4.core.vision.open_encoder import loading_encoder, tower_encoder

PictureSource = Picture | str | os.PathLike[str] | bytes | Image.Image

ANY_TEXTS = ("What is it?", "1")
"""Questions whose first tokens differ in any tokenizer: their prompts share only what precedes the text."""

SEGMENTS_REMEMBERED = 4096
"""Most recent segments whose tokens are cached, so that trimming a long chat does not tokenise it again."""


class Engine:
    """A loaded bundle: its language model, and its vision tower and projection, loaded on first use."""

    def __init__(
        self,
        bundle: Bundle,
        language: LanguageModel,
        encoder: Callable[[], Encoder],
        fingerprint: str,
        *,
        cache: bool = True,
    ) -> None:
        """Assemble an engine from existing parts; `load` is the usual way.

        `encoder` creates the part that encodes pictures and is called at most once. Without `cache` nothing
        is read from the disk cache or kept there.
        """
        width = language.width if bundle.mmproj is not None else bundle.projection.outputs
        if language.width != width:
            raise BundleError(
                f"The bundle '{bundle.name}' does not fit together: its projection gives vectors of width "
                f"{width} and its language model reads {language.width}; correct its manifest."
            )
        self.bundle = bundle
        self.language = language
        self.choices: Mapping[str, str] = {}
        """The values chosen for options left to the machine, by option name."""
        if bundle.mmproj is None:
            self.template: ChatForm = template_named(bundle.template)
        else:
            from minigpt4.core.mtmd.template import template_of

            self.template = template_of(bundle, language)
        self._fingerprint = fingerprint
        self._cache = embedding_cache(bundle, fingerprint, width)
        objects = bundle.objects.limit if bundle.objects else 0
        self._boxes = ArrayCache(f"{fingerprint}-objects", (objects, BOX_COLUMNS), np.float32)
        self._squares = None if bundle.mmproj else SquareCache(bundle.vision.image_size, bundle.vision.fit)
        self._is_caching = cache
        self._make_encoder = encoder
        self._encoder: Encoder | None = None
        self._loading: Future[Encoder] | None = None
        """The encoder, if it began to load before the language model did."""

        self._current: weakref.ref[Generator[Piece, None, None]] | None = None

        @lru_cache(SEGMENTS_REMEMBERED)
        def tokenize(*texts: Text) -> tuple[int, ...]:
            return tuple(language.tokenize(*texts))

        self._tokenize = tokenize

    @classmethod
    def load(
        cls,
        bundle: str | Bundle = "mini",
        *,
        backend: Backend = "auto",
        device: str = "auto",
        projection: Path | None = None,
        threads: int | None = None,
        context: int | None = None,
        quant: str = "auto",
        gpu_layers: int | None = None,
        dtype: str | None = None,
        repack: bool = True,
        offload: bool = False,
        cache: bool = True,
        progress: fetch.Progress | None = None,
        notice: fetch.Notice | None = None,
    ) -> Self:
        """Load a bundle, fetching its missing files; the options are those of EngineOptions.

        `progress` is called with the state of the download, `notice` before other one-time work.
        Raises UsageError for an unknown name or an impossible value and BundleError for a missing
        projection before anything is fetched; after that, FetchError, BundleError or BackendError.
        """
        options = EngineOptions(
            bundle, backend, device, projection, threads, quant, gpu_layers, context, dtype
        )
        options = replace(options, repack=repack, offload=offload, cache=cache)
        return cls.from_options(options, progress=progress, notice=notice)

    @classmethod
    def from_options(
        cls,
        options: EngineOptions,
        *,
        progress: fetch.Progress | None = None,
        notice: fetch.Notice | None = None,
        begin: Callable[[fetch.FetchPlan], None] | None = None,
        pictures: Sequence[Picture] = (),
    ) -> Self:
        """`load` with its options as one value; `begin` is called before a download, and may refuse it.

        If one of the `pictures`, which are about to be encoded, is not cached, the vision tower loads on its
        own thread in parallel with the language model; errors in it are raised by `look`.
        """
        options = options.resolved()
        bundle = options.loaded_bundle()
        check_memory(options)
        is_pair = bundle.mmproj is not None
        path = Path() if is_pair else options.projection or fetch.projection_path(bundle)
        fetch.ensure(bundle, progress=progress, notice=notice, begin=begin, files=needed_files(options))
        if is_pair:
            from minigpt4.core.mtmd.encoder import load_pair

            engine = cls(bundle, *load_pair(options, notice), cache=options.cache)
            engine.choices = choices_made(options)
            return engine
        fingerprint = embedding_fingerprint(bundle, path, options.dtype or AUTO)
        encoder = tower_encoder(options, path)
        known = embedding_cache(bundle, fingerprint, bundle.projection.outputs)
        is_new = [not any(known.get(key) is not None for key in picture.keys) for picture in pictures]
        loading = loading_encoder(encoder) if any(is_new) or (pictures and not options.cache) else None
        language = load_language_model(options, notice=notice)
        make = loading.result if loading else encoder
        engine = cls(bundle, language, make, fingerprint, cache=options.cache)
        engine.choices = {**choices_made(options), **language.choices}
        engine._loading = loading
        return engine

    def look(self, source: PictureSource) -> ImageEmbedding:
        """Encode a picture for the language model, or read its embedding from the disk cache.

        A cached picture is read and hashed but not decoded. Raises ImageError if `source` is not a picture.
        """
        picture = open_picture(source)

        def encoded(encoder: Encoder) -> Any:
            embedding = encoder(picture)
            if self._is_caching and self._squares is not None:
                self._squares.remove(picture.key)
            return embedding

        found = self._cached(self._cache, picture, encoded)
        tokens_ND, layout = found if isinstance(found, tuple) else (found, ())
        return ImageEmbedding(tokens_ND, f"{self._fingerprint}/{picture.digest}", layout)

    def objects(self, source: PictureSource) -> list[FoundObject]:
        """The objects that a picture's embedding holds, in its order; cached like the embedding.

        An empty list for a bundle without a detector. Raises ImageError if `source` is not a picture.
        """
        if self.bundle.objects is None:
            return []
        picture = open_picture(source)
        boxes_K6 = self._cached(self._boxes, picture, lambda encoder: encoder.object_boxes(picture))
        return found_objects(boxes_K6)

    def forget(self, source: PictureSource) -> None:
        """Remove a picture from the disk cache; raises ImageError if `source` is not a picture."""
        for key in open_picture(source).keys:
            for cache in (self._cache, self._boxes, self._squares):
                if cache is not None:
                    cache.remove(key)

    def prefill_opening(self, conversation: Sequence[Message]) -> None:
        """Prefill the prompt up to the pictures of the last message, a User's, while the tower still loads.

        The pictures are not encoded yet and not in the message. Does nothing if no tower is loading.
        """
        if self._loading is not None and not self._loading.done():
            *before, last = conversation
            assert isinstance(last, User)
            self.prepare([*before, replace(last, images=())])

    def reply(
        self,
        conversation: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        beams: int = 1,
        cancelled: Callable[[], bool] | None = None,
    ) -> Reply:
        """Answer the last message, or continue it if it is the Assistant's.

        The oldest messages are dropped if the conversation does not fit the context
        (`Reply.dropped_messages`). Fields of `sampling` that are None take the bundle's values. `beams`
        above 1 is a beam search, which only torch supports, and only at temperature 0; its answer comes
        in one piece at the end. `cancelled` is called before every token. An earlier reply that
        is still being generated is cancelled when this one is read. Raises UsageError for an empty
        question or a value out of range, and ContextError for a last message that is longer than the
        context; reading the reply raises BackendError if llama.cpp is asked for beams.
        """
        resolved = (sampling or Sampling()).over(self.bundle.sampling)
        if beams != 1:
            check_beams(resolved, beams)
        kept = self._trimmed(conversation, resolved)
        return Reply(
            self.language,
            self._pieces(kept.messages),
            replace(resolved, max_tokens=kept.room),
            stop=self.template.stop,
            opening=self.template.opening,
            reasoning=None if is_begun(kept.messages[-1]) else self.template.reasoning,
            beams=beams,
            dropped_messages=kept.dropped,
            cancelled=cancelled or (lambda: False),
            on_start=self._starting,
        )

    def prepare(
        self,
        conversation: Sequence[Message],
        sampling: Sampling | None = None,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> bool:
        """Prefill what a reply to the last message, a User's, needs before that message's text.

        So it can be called while the text is still being typed; `reply` computes the rest.
        Nothing is computed if the oldest messages would be dropped, as their number depends on the text.
        False if it was cancelled; `cancelled` is called about every 10 ms. Raises as `reply` does.
        """
        resolved = (sampling or Sampling()).over(self.bundle.sampling)
        *before, last = conversation
        asked = [[*before, replace(last, text=text)] for text in ANY_TEXTS]
        if self._trimmed(asked[0], resolved).dropped:
            return True
        self._cancel_reply()
        prompt, other = map(self._pieces, asked)
        return self.language.prefill(prompt[: shared_length(prompt, other)], cancelled or (lambda: False))

    def log_likelihoods(self, conversation: Sequence[Message], answers: Sequence[str]) -> list[float]:
        """The natural log-probability of each answer as the beginning of the model's reply.

        The prompt is computed once for all of them. Raises UsageError for an empty question, and ContextError
        if the conversation with one of the answers is longer than the context.
        """
        self._check(conversation, Sampling().over(self.bundle.sampling))
        self._cancel_reply()
        prompt = self._pieces(conversation)
        whole = [self._pieces([*conversation, Assistant(answer)]) for answer in answers]
        # Tokens may span the boundary of prompt and answer, so all answers are scored from the same position.
        shared = min((shared_length(prompt, pieces) for pieces in whole), default=0)
        return [
            self.language.log_likelihood(
                prompt[:shared], [piece for piece in pieces[shared:] if isinstance(piece, int)]
            )
            for pieces in whole
        ]

    def close(self) -> None:
        """Free the models' memory; the engine cannot be used afterwards."""
        self._cancel_reply()
        self._encoder = None
        self.language.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _cached(self, cache: Cache, picture: Picture, compute: Callable[[Encoder], Any]) -> Any:
        """The picture's cached value, or a newly computed one, which is then cached."""
        if self._is_caching:
            for key in picture.keys:
                if (found := cache.get(key)) is not None:
                    return found
        if self._encoder is None:
            self._encoder = self._make_encoder()
        if not self._is_caching:
            return compute(self._encoder)
        square = self._squares.get(picture.key) if self._squares is not None else None
        if square is not None:
            picture.take_pixels(square)
        computed = compute(self._encoder)
        cache.put(picture.key, computed)
        return computed

    def _pieces(self, messages: Sequence[Message]) -> list[PromptPiece]:
        return prompt_pieces(self.template.segments(messages), self._tokenize)

    def _starting(self, pieces: Generator[Piece, None, None]) -> None:
        # Two answers cannot share one key/value cache: the newer one ends the older.
        self._cancel_reply()
        self._current = weakref.ref(pieces)

    def _cancel_reply(self) -> None:
        pieces = self._current() if self._current else None
        if pieces is not None:
            pieces.close()
        self._current = None

    def _trimmed(self, conversation: Sequence[Message], sampling: ResolvedSampling) -> Trimmed:
        self._check(conversation, sampling)
        return trim(
            conversation,
            lambda messages: prompt_positions(self._pieces(messages)),
            context=self.language.context,
            max_tokens=sampling.max_tokens,
        )

    def _check(self, conversation: Sequence[Message], sampling: ResolvedSampling) -> None:
        check_sampling(sampling)
        _check_conversation(conversation, self.language.width, self.bundle.name)


def _check_conversation(conversation: Sequence[Message], width: int, bundle: str) -> None:
    """Raise UsageError if there is no question, or a picture's vectors do not have the model's `width`."""
    last = conversation[-1] if conversation else None
    if last is None or isinstance(last, System):
        raise UsageError("There is nothing to answer: the conversation has no question in it.")
    if isinstance(last, User) and not last.images and not last.text.strip():
        raise UsageError("The question is empty; type what you want to know.")
    for message in conversation:
        for embedding in message.images if isinstance(message, User) else ():
            if embedding.tokens_ND.shape[-1] != width:
                raise UsageError(
                    f"A picture in the conversation has vectors of width {embedding.tokens_ND.shape[-1]} and "
                    f"the language model of '{bundle}' reads {width}; look at it with this engine."
                )
