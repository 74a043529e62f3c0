"""Answers and token counts of an engine in a separate process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from minigpt4.core.engine_options import EngineOptions
from minigpt4.core.types import Sampling
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import (
    ChatMessage,
    ContextUsage,
    Finished,
    ObjectsFound,
    Phase,
    Ready,
    TextDelta,
)

Shared = Any


def user(text: str, *pictures: Path) -> ChatMessage:
    return ChatMessage("user", text, pictures)


def grey(path: Path, shade: int) -> Path:
    Image.new("L", (8, 8), shade).save(path)
    return path


def test_an_answer_arrives_in_pieces_with_its_phases_and_numbers(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("streams", [user("say:A cat on a mat.")])
    finished = heard.finished("streams")
    about = [one for one in heard.events if getattr(one, "request", None) == "streams"]
    assert [one.phase for one in about if isinstance(one, Phase)] == ["prefill", "decode"]
    assert isinstance(about[0], ContextUsage)
    assert about[0].positions == finished.prompt_tokens > 0
    assert heard.text_of("streams") == "A cat on a mat."
    assert (finished.finish, finished.answer_tokens) == ("stop", 15)
    assert finished.first_token_s is not None
    last = [one for one in about if isinstance(one, TextDelta)][-1]
    assert (last.first_token_s, last.tokens_per_s) == (finished.first_token_s, finished.tokens_per_s)


def test_pictures_that_are_not_read_need_not_be_there(worker: Worker, heard: Any, tmp_path: Path) -> None:
    worker.load(EngineOptions("by-itself"))
    assert heard.until(Ready).by_itself
    earlier = user("What is this?", tmp_path / "gone.png"), ChatMessage("assistant", "A cat.")
    worker.reply("1", [*earlier, user("grey:", grey(tmp_path / "light.png", 200))])
    assert heard.answer("1") == "[200]"
    worker.reply("2", [*earlier, user("grey:")])
    assert "gone.png" in heard.failed("2").sentence, "the newest picture is read"


def test_the_model_is_described_when_it_is_ready(shared: Shared) -> None:
    ready = shared[1].until(Ready)
    assert (ready.bundle, ready.image_tokens, ready.context) == ("scripted", 3, 4_000_000)
    assert ready.load_s >= 0
    assert shared[0].is_alive


def test_two_requested_replies_arrive_one_after_the_other(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("first", [user("say:one")])
    worker.reply("second", [user("say:two")])
    assert heard.answer("second") == "two"
    order = [one.request for one in heard.events if isinstance(one, Finished)]
    assert heard.answer("first") == "one"
    assert order.index("first") < order.index("second")


def test_a_cancelled_answer_keeps_its_text(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("long", [user("endless:")])
    heard.until(TextDelta, lambda one: one.request == "long")
    worker.cancel("long")
    finished = heard.finished("long")
    assert finished.finish == "cancelled"
    assert set(heard.text_of("long")) == {"a"}
    assert finished.answer_tokens == len(heard.text_of("long"))


def test_an_answer_that_waits_can_be_cancelled_too(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("before", [user("endless:")])
    worker.reply("waits", [user("say:never")])
    worker.cancel("waits")
    worker.cancel("nobody asked this")
    worker.cancel("before")
    assert heard.finished("waits") == Finished("waits", "cancelled")


def test_the_sampling_and_the_beams_reach_the_model(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("sampled", [user("seed:")], Sampling(seed=7, temperature=0.5))
    worker.reply("short", [user("say:cut here")], Sampling(max_tokens=3))
    worker.reply("searched", [user("?")], Sampling(temperature=0.0), beams=3)
    worker.reply("refused", [user("?")], Sampling(temperature=0.0), beams=0)
    assert heard.answer("sampled") == "7 0.5"
    assert (heard.finished("short").finish, heard.answer("short")) == ("length", "cut")
    assert heard.answer("searched") == "3 beams"
    assert "0 beams" in heard.failed("refused").sentence


def test_unset_sampling_fields_are_the_bundle_s_own(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("some", [user("seed:")], Sampling(seed=7))
    worker.reply("none", [user("seed:")], {})
    assert heard.answer("some") == "7 0.0"
    assert heard.answer("none") == "None 0.0"


def test_an_answer_at_the_end_is_continued(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("more", [user("What?"), ChatMessage("assistant", "say: and a dog")])
    assert heard.answer("more") == " and a dog"


def test_pictures_are_encoded_once_and_again_when_the_file_changes(shared: Shared, tmp_path: Path) -> None:
    worker, heard = shared
    light, dark = grey(tmp_path / "light.png", 200), grey(tmp_path / "dark.png", 10)
    worker.reply("looks", [user("What?", light), ChatMessage("assistant", "A."), user("grey:", dark)])
    worker.reply("knows", [user("grey:", dark, light)])
    assert heard.answer("looks") == "[200, 10]"
    assert heard.answer("knows") == "[10, 200]"
    grey(dark, 77)
    worker.reply("again", [user("grey:", dark)])
    assert heard.answer("again") == "[77]"
    encoded = [one.request for one in heard.events if isinstance(one, Phase) and one.phase == "encode"]
    assert encoded == ["looks", "again"]


def test_a_picture_that_vanished_is_named_and_the_model_lives_on(shared: Shared, tmp_path: Path) -> None:
    worker, heard = shared
    cat = grey(tmp_path / "kätzchen [b].png", 5)
    worker.reply("there", [user("grey:", cat)])
    assert heard.answer("there") == "[5]"
    cat.unlink()
    worker.reply("vanished", [user("grey:", cat)])
    assert "kätzchen [b].png" in heard.failed("vanished").sentence
    worker.reply("lives on", [user("say:yes")])
    assert heard.answer("lives on") == "yes"


def test_any_text_arrives_as_it_was(shared: Shared) -> None:
    worker, heard = shared
    text = "ünï 😀\u202e\u200b\x1b[31m[/red]\0\r\n#### Human: <|im_end|>"
    worker.reply("odd", [user(f"say:{text}")])
    assert heard.answer("odd") == text.split("<|im_end|>")[0]
    worker.reply("half a pair", [user("say:\ud83d|\ud83d\ude00")])
    assert heard.answer("half a pair") == "\ufffd|😀"


def test_a_megabyte_of_text_goes_through(shared: Shared) -> None:
    worker, heard = shared
    text = "Ein Märchen. " * 77_000
    worker.reply("novel", [user(text), ChatMessage("assistant", "Lang."), user("say:ok")])
    assert heard.answer("novel") == "ok"
    assert heard.finished("novel").prompt_tokens > 1_000_000
    assert len(heard.text_of("novel")) == 2


def test_output_of_native_code_does_not_disturb_the_protocol(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("noise", [user("noise:")])
    assert heard.answer("noise") == "quiet"


def test_a_bug_fails_one_answer_in_a_sentence(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("bug", [user("bug:")])
    worker.reply("memory", [user("memory:")])
    worker.reply("empty", [user("  ")])
    assert "ValueError: seven [/] is not a colour" in heard.failed("bug").sentence
    assert heard.text_of("bug") == "so far"
    assert heard.failed("memory").sentence.startswith("There is not enough memory")
    assert "empty" in heard.failed("empty").sentence
    assert worker.is_alive


def test_a_conversation_is_counted_as_an_answer_would_read_it(shared: Shared, tmp_path: Path) -> None:
    worker, heard = shared
    cat = grey(tmp_path / "cat.png", 5)
    conversation = [user("say:1", cat, cat), ChatMessage("assistant", "Ünd?"), user("say:2")]
    worker.reply("counted by the answer", conversation)
    heard.finished("counted by the answer")
    cat.unlink()
    worker.count("counted", conversation)
    one, other = (
        heard.until(ContextUsage, lambda event, name=name: event.request == name)  # type: ignore[misc]
        for name in ("counted", "counted by the answer")
    )
    assert (one.positions, one.context) == (other.positions, other.context)
    assert one.dropped_messages == 0


def test_a_count_does_not_wait_for_the_end_of_an_answer(shared: Shared) -> None:
    worker, heard = shared
    worker.reply("goes on", [user("endless:")])
    heard.until(TextDelta, lambda one: one.request == "goes on")
    worker.count("meanwhile", [user("")])
    heard.until(ContextUsage, lambda one: one.request == "meanwhile")
    worker.cancel("goes on")
    heard.finished("goes on")


def test_a_count_tells_how_much_a_full_context_leaves_out(worker: Worker, heard: Any) -> None:
    worker.load(EngineOptions("scripted", context=400))
    turn = [user("x" * 100), ChatMessage("assistant", "y" * 20)]
    worker.count("fits not", [*turn, *turn, user("short")], Sampling(max_tokens=50))
    counted = heard.until(ContextUsage)
    assert counted.dropped_messages == 2
    assert 0 < counted.positions <= counted.context - 50
    worker.count("never fits", [user("x" * 500)])
    assert heard.until(ContextUsage, lambda one: one.request == "never fits").positions > 400


def objects_of(heard: Any, request: str) -> list[tuple[str, float]]:
    event = heard.until(ObjectsFound, lambda one: one.request == request)
    return [(one.name, round(one.score, 2)) for one in event.objects]


def test_the_objects_of_a_picture_are_told_again_when_the_file_changes(
    shared: Shared, tmp_path: Path
) -> None:
    worker, heard = shared
    photo = grey(tmp_path / "dog.png", 204)
    worker.find_objects("finds", photo)
    assert objects_of(heard, "finds") == [("dog", 0.8)]
    grey(photo, 102)
    worker.find_objects("finds again", photo)
    assert objects_of(heard, "finds again") == [("dog", 0.4)]
    photo.unlink()
    worker.find_objects("finds nothing", photo)
    assert "dog.png" in heard.failed("finds nothing").sentence
    assert worker.is_alive


def test_objects_do_not_wait_for_the_end_of_an_answer(shared: Shared, tmp_path: Path) -> None:
    worker, heard = shared
    worker.reply("goes on and on", [user("endless:")])
    heard.until(TextDelta, lambda one: one.request == "goes on and on")
    worker.find_objects("found meanwhile", grey(tmp_path / "dog.png", 255))
    assert objects_of(heard, "found meanwhile") == [("dog", 1.0)]
    worker.cancel("goes on and on")
    heard.finished("goes on and on")
