"""The engine over a model that follows a script: what it promises whatever the weights are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.chat_template.reasoning import MARKS
from minigpt4.core.engine import Engine
from minigpt4.core.errors import BundleError, ContextError, UsageError
from minigpt4.core.prompt import Assistant, Message, SmolLM2, System, User, prompt_positions
from minigpt4.core.reply import Reply
from minigpt4.core.types import (
    Encoder,
    ImageEmbedding,
    PromptPiece,
    Reasoning,
    ResolvedSampling,
    Sampling,
    Text,
)

WIDTH, TOKENS, CONTEXT = 4, 3, 400
CONTROL = 1000


class ScriptedLanguageModel:
    """Says the bytes it was given, one a token; the cache is only counted, never of use."""

    width = WIDTH

    def __init__(self, script: bytes = b"A cat.", context: int = CONTEXT) -> None:
        self.script = script
        self.context = context
        self.prompts: list[list[PromptPiece]] = []
        self.given: list[Sampling] = []
        self.steps = 0
        self.is_closed = False
        self.ended = 0
        self.searched: tuple[int, tuple[str, ...]] | None = None

    def tokenize(self, *texts: Text) -> list[int]:
        return [byte + (CONTROL if text.control else 0) for text in texts for byte in text.text.encode()]

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < CONTROL else b""

    def is_end(self, token: int) -> bool:
        return token == CONTROL

    def generate(
        self,
        prompt: Sequence[PromptPiece],
        sampling: Sampling,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> Iterator[int]:
        self.prompts.append(list(prompt))
        self.given.append(sampling)
        self.steps = 0
        return self._script(sampling.max_tokens, cancelled)

    def _script(self, max_tokens: int, cancelled: Callable[[], bool]) -> Iterator[int]:
        try:
            for byte in itertools.islice(self.script, max_tokens):
                if cancelled():
                    return
                self.steps += 1
                yield byte
        finally:
            self.ended += 1

    def logits(self, prompt: Sequence[PromptPiece]) -> NDArray[np.float32]:
        raise NotImplementedError

    def beams(
        self,
        prompt: Sequence[PromptPiece],
        sampling: Sampling,
        beams: int,
        length_penalty: float = 1.0,
        stop: Sequence[str] = (),
    ) -> list[int]:
        self.prompts.append(list(prompt))
        self.searched = (beams, tuple(stop))
        return list(self.script[: sampling.max_tokens])

    def reset(self) -> None:
        raise NotImplementedError

    @property
    def computed(self) -> int:
        return prompt_positions(self.prompts[-1]) + self.steps if self.prompts else 0

    def close(self) -> None:
        self.is_closed = True


def small_bundle() -> Bundle:
    mini = load_bundle("mini")
    shape = replace(mini.projection, image_tokens=TOKENS, outputs=WIDTH)
    sampling = ResolvedSampling(max_tokens=50, temperature=0.0)
    # mini's own template reads each question by itself; this one reads all turns.
    return replace(mini, template="smollm2", projection=shape, sampling=sampling)


def no_encoder() -> Encoder:
    raise AssertionError("a picture was encoded")


def engine_of(language: ScriptedLanguageModel) -> Engine:
    return Engine(small_bundle(), language, no_encoder, "fingerprint")


def seen(language: ScriptedLanguageModel) -> str:
    """The last prompt as text, each picture as [key]."""
    return "".join(
        f"[{piece.key}]" if isinstance(piece, ImageEmbedding) else chr(piece % CONTROL)
        for piece in language.prompts[-1]
    )


def picture(key: str = "picture") -> ImageEmbedding:
    return ImageEmbedding(np.zeros((TOKENS, WIDTH), np.float32), key=key)


def said(reply: Reply) -> list[str]:
    return [piece.text for piece in reply]


def test_a_question_is_answered_piece_by_piece() -> None:
    language = ScriptedLanguageModel(b"A cat.")
    reply = engine_of(language).reply([System("Brief."), User("What is this?", images=[picture()])])
    assert said(reply) == ["A", " ", "c", "a", "t", "."]
    assert (reply.text, reply.finish, reply.answer_tokens) == ("A cat.", "stop", 6)
    assert seen(language) == (
        "<|im_start|>system\nBrief.<|im_end|>\n"
        "<|im_start|>user\n[picture]\nWhat is this?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert reply.prompt_tokens == len(seen(language)) - len("[picture]") + TOKENS
    assert reply.computed_tokens == reply.prompt_tokens + 6
    assert reply.dropped_messages == 0


def test_a_persons_text_never_becomes_a_control_token() -> None:
    language = ScriptedLanguageModel()
    engine_of(language).reply([User("<|im_end|>")]).read()
    tokens = [piece for piece in language.prompts[-1] if isinstance(piece, int)]
    ordinary = bytes(token for token in tokens if token < CONTROL).decode()
    assert ordinary.endswith("<|im_end|>")


def test_an_answer_at_the_end_is_continued() -> None:
    language = ScriptedLanguageModel(b" cat.")
    assert engine_of(language).reply([User("What?"), Assistant("A")]).read() == " cat."
    assert seen(language).endswith("<|im_start|>assistant\nA")


@given(st.text(max_size=30))
@settings(max_examples=30, deadline=None)
def test_any_text_comes_out_whole_in_pieces_that_are_never_empty(text: str) -> None:
    text = text.encode(errors="replace").decode()
    reply = engine_of(ScriptedLanguageModel(text.encode())).reply(
        [User("?")], Sampling(max_tokens=200, temperature=0.0)
    )
    pieces = said(reply)
    assert "".join(pieces) == reply.text == text
    assert all(pieces)


def test_max_tokens_ends_the_answer_and_says_so() -> None:
    language = ScriptedLanguageModel(b"A cat.")
    reply = engine_of(language).reply([User("?")], Sampling(max_tokens=3, temperature=0.0))
    assert reply.read() == "A c"
    assert (reply.finish, reply.answer_tokens) == ("length", 3)


def test_a_stop_string_ends_the_answer_and_the_computing() -> None:
    language = ScriptedLanguageModel(b"Yes.<|im_end|>No.")
    reply = engine_of(language).reply([User("?")])
    assert reply.read() == "Yes."
    assert reply.finish == "stop"
    assert language.steps == len("Yes.<|im_end|>")
    assert language.ended == 1


def test_a_cancel_is_heeded_within_one_token_and_keeps_the_text() -> None:
    language = ScriptedLanguageModel(b"A cat.")
    heard: list[str] = []
    reply = engine_of(language).reply([User("?")], cancelled=lambda: len(heard) == 3)
    for piece in reply:
        heard.append(piece.text)
    assert heard == ["A", " ", "c"]
    assert (reply.text, reply.finish, language.steps) == ("A c", "cancelled", 3)


def test_leaving_the_loop_early_cancels_and_keeps_the_text() -> None:
    language = ScriptedLanguageModel(b"A cat.")
    reply = engine_of(language).reply([User("?")])
    for piece in reply:
        if piece.text == "c":
            break
    assert (reply.text, reply.finish) == ("A c", "cancelled")
    assert language.ended == 1


def test_an_interrupt_at_the_keyboard_keeps_the_text() -> None:
    def interrupted() -> bool:
        if language.steps == 2:
            raise KeyboardInterrupt
        return False

    language = ScriptedLanguageModel(b"A cat.")
    reply = engine_of(language).reply([User("?")], cancelled=interrupted)
    with pytest.raises(KeyboardInterrupt):
        reply.read()
    assert (reply.text, reply.finish) == ("A ", "cancelled")


def test_a_newer_reply_ends_the_older() -> None:
    language = ScriptedLanguageModel(b"A cat.")
    engine = engine_of(language)
    older = engine.reply([User("One?")])
    pieces = iter(older)
    next(pieces)
    assert engine.reply([User("Two?")]).read() == "A cat."
    assert older.finish == "cancelled"
    assert list(pieces) == []


def test_a_reply_can_be_read_once() -> None:
    reply = engine_of(ScriptedLanguageModel(b"A cat.")).reply([User("?")])
    assert reply.read() == reply.read() == "A cat."
    with pytest.raises(RuntimeError, match="has been"):
        iter(reply)


def test_speed_is_measured_without_the_readers_own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    reply = engine_of(ScriptedLanguageModel(b"A cat.")).reply([User("?")])
    assert (reply.first_token_s, reply.tokens_per_s) == (None, None)
    for _ in reply:
        for _ in range(100):
            next(clock)
    assert (reply.first_token_s, reply.tokens_per_s) == (1, 1)


def test_a_search_over_beams_says_its_finished_answer_up_to_the_stop_text() -> None:
    language = ScriptedLanguageModel(b"A cat.<|im_end|>A dog.")
    reply = engine_of(language).reply([User("?")], beams=5)
    assert reply.read() == "A cat."
    assert language.searched == (5, ("<|im_end|>",))
    assert (reply.finish, reply.tokens_per_s) == ("stop", None)


def test_a_search_that_is_cancelled_before_it_begins_computes_nothing() -> None:
    language = ScriptedLanguageModel()
    reply = engine_of(language).reply([User("?")], beams=5, cancelled=lambda: True)
    assert (reply.read(), reply.finish, language.searched) == ("", "cancelled", None)


@pytest.mark.parametrize(
    ("beams", "temperature", "words"),
    [(0, 0.0, "0 beams cannot"), (3, 0.7, "3 beams is deterministic, and the temperature is 0.7")],
)
def test_a_search_that_cannot_be_meant_is_refused(beams: int, temperature: float, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        engine_of(ScriptedLanguageModel()).reply([User("?")], Sampling(temperature=temperature), beams=beams)


@pytest.mark.parametrize("question", ["", "   ", "\n\t"])
def test_an_empty_question_is_refused(question: str) -> None:
    with pytest.raises(UsageError, match="The question is empty"):
        engine_of(ScriptedLanguageModel()).reply([User(question)])


def test_a_picture_alone_is_question_enough() -> None:
    assert engine_of(ScriptedLanguageModel()).reply([User("", images=[picture()])]).read() == "A cat."


@pytest.mark.parametrize("conversation", [[], [System("Brief.")]])
def test_a_conversation_without_a_question_is_refused(conversation: list[Message]) -> None:
    with pytest.raises(UsageError, match="nothing to answer"):
        engine_of(ScriptedLanguageModel()).reply(conversation)


def test_a_setting_out_of_range_is_refused_before_anything_is_computed() -> None:
    with pytest.raises(UsageError, match="top_p is 0"):
        engine_of(ScriptedLanguageModel()).reply([User("?")], Sampling(top_p=0))


def test_a_picture_of_another_models_width_is_refused() -> None:
    other = ImageEmbedding(np.zeros((TOKENS, WIDTH + 1), np.float32), key="other")
    with pytest.raises(UsageError, match=r"width 5 .* reads 4"):
        engine_of(ScriptedLanguageModel()).reply([User("?", images=[other])])


def test_a_conversation_that_outgrows_the_context_loses_its_oldest_turns_and_says_how_many() -> None:
    language = ScriptedLanguageModel()
    turns = [
        message for n in range(20) for message in (User(f"{n}?", images=[picture(str(n))]), Assistant("Yes."))
    ]
    reply = engine_of(language).reply([System("Brief."), *turns, User("And now?")])
    assert reply.dropped_messages > 0
    assert reply.dropped_messages % 2 == 0
    reply.read()
    first_kept = reply.dropped_messages // 2
    assert seen(language).startswith(
        f"<|im_start|>system\nBrief.<|im_end|>\n<|im_start|>user\n[{first_kept}]\n{first_kept}?"
    )
    assert prompt_positions(language.prompts[-1]) + 50 <= CONTEXT


def test_a_question_longer_than_the_context_is_refused_with_both_numbers() -> None:
    with pytest.raises(ContextError, match=rf"takes \d\d\d+ positions .* {CONTEXT - 32} of the model's"):
        engine_of(ScriptedLanguageModel()).reply([User("a" * 500)])


def test_the_answer_never_outgrows_the_context() -> None:
    language = ScriptedLanguageModel(b"a" * 1000)
    reply = engine_of(language).reply([User("?")], Sampling(max_tokens=1000, temperature=0.0))
    reply.read()
    assert reply.finish == "length"
    assert reply.prompt_tokens + reply.answer_tokens == CONTEXT


def test_the_bundles_own_sampling_is_the_default() -> None:
    language = ScriptedLanguageModel()
    engine = engine_of(language)
    engine.reply([User("?")]).read()
    assert language.given == [engine.bundle.sampling]


def test_parts_that_do_not_fit_each_other_are_refused() -> None:
    language = ScriptedLanguageModel()
    language.width = WIDTH + 1
    with pytest.raises(BundleError, match=r"width 4 .* reads 5"):
        engine_of(language)


def test_closing_ends_the_answer_and_frees_the_model() -> None:
    language = ScriptedLanguageModel()
    with engine_of(language) as engine:
        reply = engine.reply([User("?")])
        pieces = iter(reply)
        next(pieces)
    assert language.is_closed
    assert (list(pieces), reply.finish) == ([], "cancelled")


def test_reasoning_is_told_from_the_answer_and_a_continued_answer_has_none() -> None:
    engine = engine_of(ScriptedLanguageModel(b"<think>\nA dog?\n</think>\n\nA cat."))
    engine.template = replace(SmolLM2(), reasoning=Reasoning(MARKS))
    reply = engine.reply([User("What?")])
    pieces = list(reply)
    assert "".join(piece.text for piece in pieces if piece.is_reasoning) == reply.reasoning == "A dog?"
    assert "".join(piece.text for piece in pieces if not piece.is_reasoning) == reply.text == "A cat."
    assert reply.answer_tokens == len(engine.language.script)
    continued = engine.reply([User("What?"), Assistant("I say: ")])
    assert continued.read().startswith("<think>")
    assert continued.reasoning == ""


def test_reasoning_that_was_cut_off_leaves_no_answer() -> None:
    engine = engine_of(ScriptedLanguageModel(b"A dog? Or</thi"))
    engine.template = replace(SmolLM2(), reasoning=Reasoning(MARKS, "</think>"))
    reply = engine.reply([User("What?")], Sampling(max_tokens=14))
    assert (reply.read(), reply.reasoning, reply.finish) == ("", "A dog? Or</thi", "length")
