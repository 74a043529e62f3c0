"""Long descriptions of pictures with the paper's prompt and rule (arXiv 2304.10592, section 3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from minigpt4.core.batch.look_ahead import Look
from minigpt4.core.errors import ContextError, ImageError
from minigpt4.core.prompt import Assistant, Message, User
from minigpt4.core.types import ResolvedSampling
from minigpt4.train.curate.run_folder import DESCRIBED, CurationRun, Description
from minigpt4.train.evaluate.answering import looked_at
from minigpt4.train.evaluate.photos import EvalPhoto
from minigpt4.train.inspection.perceptual_hash import perceptual_hash

if TYPE_CHECKING:
    from minigpt4.core.engine import Engine

PROMPT = "Describe this image in detail. Give as many details as possible. Say everything you see."
CONTINUE = "Continue"
SHORT = 80
"""The model is asked to continue a first answer of at most this many tokens."""


def undescribed(run: CurationRun, photos: Sequence[EvalPhoto]) -> list[EvalPhoto]:
    """The pictures without a description in the run."""
    done = {key for key, one in run.descriptions().items() if not one.error}
    return [photo for photo in photos if photo.key not in done]


def describe(
    run: CurationRun,
    photos: Sequence[EvalPhoto],
    engine: Engine,
    sampling: ResolvedSampling,
    prompt: str = PROMPT,
    *,
    advance: Callable[[Description], object] = lambda _made: None,
) -> None:
    """Describe pictures and save each description at once; the next pictures are encoded meanwhile.

    A picture that cannot be used gets a description with an `error`. Raises Minigpt4Error for a failure that
    concerns all pictures.
    """
    looks = looked_at(engine, photos)
    with run.adding_to(DESCRIBED) as file, closing(looks):
        for photo, look in zip(photos, looks, strict=True):
            if isinstance(look, str):
                made = Description(photo.key, photo.set, "", "", "", error=look)
            else:
                made = _described(photo, look, engine, sampling, prompt)
            file.add(made)
            advance(made)


def _described(
    photo: EvalPhoto, look: Look, engine: Engine, sampling: ResolvedSampling, prompt: str
) -> Description:
    digest = look.picture.digest
    question = User(prompt, images=[look.embedding])
    try:
        seen = perceptual_hash(look.picture.whole_image)
        first = engine.reply([question], sampling)
        replies, turns = [first], [first.read().strip()]
        if first.answer_tokens <= SHORT and turns[0]:
            conversation: list[Message] = [question, Assistant(turns[0]), User(CONTINUE)]
            more = engine.reply(conversation, sampling)
            turns.append(more.read().strip())
            replies.append(more)
    except (ContextError, ImageError) as error:
        return Description(photo.key, photo.set, digest, "", "", error=str(error))
    return Description(
        photo.key,
        photo.set,
        digest,
        "" if seen is None else f"{seen:016x}",
        " ".join(turn for turn in turns if turn),
        turns,
        [reply.answer_tokens for reply in replies],
        replies[-1].finish or "stop",
    )
