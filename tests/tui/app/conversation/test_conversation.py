"""A conversation without widgets: its stored messages, its requests to the engine, and its updates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from minigpt4.core.types import Sampling
from minigpt4.core.worker.client import Worker
from minigpt4.core.worker.messages import (
    ChatMessage,
    ContextUsage,
    Exited,
    Failed,
    Finished,
    Phase,
    TextDelta,
)
from minigpt4.tui.conversation.conversation import Conversation, RequestOptions
from minigpt4.tui.conversation.request import REGENERATE_TEMPERATURE
from minigpt4.tui.conversation.updates import (
    MessageAdded,
    MessageChanged,
    PathOpened,
    PhaseChanged,
    TextAdded,
    Update,
    UsageChanged,
)
from minigpt4.tui.history.store import Store, StoredPicture


@dataclass
class Asked:
    """A fake engine that records its requests."""

    replies: list[tuple[str, list[ChatMessage], Sampling]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    counted: list[str] = field(default_factory=list)

    def reply(self, request: str, messages: Sequence[ChatMessage], sampling: Sampling) -> None:
        self.replies.append((request, list(messages), sampling))

    def cancel(self, request: str) -> None:
        self.cancelled.append(request)

    def count(self, request: str, messages: Sequence[ChatMessage]) -> None:
        self.counted.append(request)

    @property
    def request(self) -> str:
        return self.replies[-1][0]

    @property
    def messages(self) -> list[tuple[str, str]]:
        """Roles and texts of the last request."""
        return [(one.role, one.text) for one in self.replies[-1][1]]


@dataclass
class Scene:
    """A conversation with all that it deals with."""

    store: Store
    engine: Asked = field(default_factory=Asked)
    updates: list[Update] = field(default_factory=list)
    now: float = 100.0
    sampling: Sampling = field(default_factory=Sampling)
    system_prompt: str = ""
    own_temperature: float = 1.0

    def __post_init__(self) -> None:
        self.conversation = Conversation(
            self.store,
            lambda: cast(Worker, self.engine),
            options=lambda: RequestOptions(
                self.sampling, lambda: self.own_temperature, self.system_prompt, "mini", context=1000
            ),
            on_update=self.updates.append,
            clock=lambda: self.now,
        )

    def say(self, *pieces: str) -> None:
        for piece in pieces:
            self.conversation.handle(TextDelta(self.engine.request, piece))

    def finish(self, finish: str = "stop") -> None:
        self.conversation.handle(Finished(self.engine.request, finish, 30, 7, 0.5, 20.0))  # type: ignore[arg-type]

    def turn(self, question: str, answer: str) -> None:
        self.conversation.ask(question)
        self.say(answer)
        self.finish()

    @property
    def texts(self) -> list[str]:
        return [one.text for one in self.conversation.path]

    @property
    def kept(self) -> list[tuple[str, str, str]]:
        """Roles, texts and states, read from the store by another connection."""
        assert self.conversation.info is not None
        path = Store.open(self.store.file).path(self.conversation.info.id)
        return [(one.role, one.text, one.state) for one in path]


@pytest.fixture
def scene(store: Store) -> Scene:
    return Scene(store)


def test_nothing_is_stored_before_the_first_message(scene: Scene) -> None:
    scene.conversation.new()
    assert scene.store.conversations(10) == []


def test_a_question_is_kept_before_the_engine_hears_it(scene: Scene, picture: StoredPicture) -> None:
    scene.conversation.ask("What is this?", [picture])
    assert scene.kept == [("user", "What is this?", "done"), ("assistant", "", "writing")]
    (message,) = scene.engine.replies[0][1]
    assert message == ChatMessage("user", "What is this?", (picture.path,))


def test_an_answer_grows_and_is_kept_when_it_is_over(scene: Scene) -> None:
    scene.conversation.ask("What is this?")
    scene.conversation.handle(Phase(scene.engine.request, "decode"))
    scene.say("A ", "cat.")
    scene.finish()
    assert scene.kept[-1] == ("assistant", "A cat.", "done")
    stats = scene.conversation.path[-1].stats
    assert (stats["bundle"], stats["tokens_per_s"], stats["finish"]) == ("mini", 20.0, "stop")
    kinds = [type(change) for change in scene.updates]
    assert kinds.count(MessageAdded) == 2
    assert kinds.count(TextAdded) == 2
    assert kinds[-3:] == [MessageChanged, PhaseChanged, UsageChanged]


def test_at_most_a_second_of_an_answer_is_not_kept_yet(scene: Scene) -> None:
    scene.conversation.ask("Tell me a story.")
    scene.now += 0.9
    scene.say("Once ")
    assert scene.kept[-1] == ("assistant", "", "writing")
    scene.now += 0.1
    scene.conversation.tick()
    assert scene.kept[-1] == ("assistant", "Once ", "writing")
    scene.say("upon ")
    assert scene.kept[-1] == ("assistant", "Once ", "writing")
    scene.now += 1.0
    scene.say("a time")
    assert scene.kept[-1] == ("assistant", "Once upon a time", "writing")


def test_stopping_saves_the_text_so_far_at_once(scene: Scene) -> None:
    scene.conversation.ask("Tell me a story.")
    scene.say("Once upon")
    assert scene.conversation.stop()
    assert scene.kept[-1] == ("assistant", "Once upon", "stopped")
    assert scene.engine.cancelled == [scene.engine.request]
    scene.say(" a time")
    assert scene.texts[-1] == "Once upon"
    scene.finish("cancelled")
    assert scene.conversation.path[-1].stats["tokens_per_s"] == 20.0
    assert not scene.conversation.stop()


def test_a_stopped_answer_continues_from_its_end(scene: Scene) -> None:
    scene.conversation.ask("Tell me a story.")
    scene.say("Once upon")
    scene.conversation.stop()
    assert scene.conversation.continue_answer()
    assert scene.engine.messages == [("user", "Tell me a story."), ("assistant", "Once upon")]
    scene.say(" a time.")
    scene.finish()
    assert scene.kept[1:] == [("assistant", "Once upon a time.", "done")]


def test_an_empty_answer_is_started_again(scene: Scene) -> None:
    scene.conversation.ask("Well?")
    scene.conversation.handle(Failed(scene.engine.request, "The picture is gone."))
    assert scene.conversation.path[-1].stats["problem"] == "The picture is gone."
    scene.conversation.continue_answer()
    assert scene.engine.messages == [("user", "Well?")]
    scene.say("Yes.")
    scene.finish()
    assert scene.kept[-1] == ("assistant", "Yes.", "done")


def test_another_answer_leaves_the_one_before_as_a_variant(scene: Scene) -> None:
    scene.turn("What is this?", "A cat.")
    first = scene.conversation.path[-1].id
    assert scene.conversation.regenerate()
    assert scene.engine.messages == [("user", "What is this?")]
    scene.say("A dog.")
    scene.finish()
    second = scene.conversation.path[-1].id
    assert scene.texts == ["What is this?", "A dog."]
    assert scene.conversation.variants(first) == (0, 2)
    assert scene.conversation.variants(second) == (1, 2)
    assert scene.conversation.show_variant(second, -1)
    assert scene.texts == ["What is this?", "A cat."]
    assert scene.updates[-1] == PathOpened(first)
    assert not scene.conversation.show_variant(first, -1)


def test_a_questions_own_limit_holds_for_each_new_answer_to_it(scene: Scene) -> None:
    scene.sampling = Sampling(max_tokens=300)
    scene.conversation.ask("In one word?", max_tokens=12)
    scene.say("Well")
    scene.finish("length")
    scene.conversation.regenerate()
    scene.say("Well")
    scene.finish("length")
    scene.conversation.continue_answer()
    scene.finish()
    scene.turn("And now?", "Yes.")
    scene.conversation.edit(scene.conversation.path[2].id, "In a word?", max_tokens=5)
    assert [one[2].max_tokens for one in scene.engine.replies] == [12, 12, 300, 300, 5]


def test_a_regenerated_greedy_answer_is_sampled(scene: Scene) -> None:
    scene.own_temperature = 0.0
    scene.turn("What is this?", "A cat.")
    assert scene.engine.replies[0][2].temperature is None
    scene.conversation.regenerate()
    assert scene.engine.replies[1][2].temperature == REGENERATE_TEMPERATURE


def test_a_regenerated_answer_gets_another_seed(scene: Scene) -> None:
    scene.sampling = Sampling(seed=5)
    scene.turn("What is this?", "A cat.")
    for expected in (6, 7):
        scene.conversation.regenerate()
        assert scene.engine.replies[-1][2] == Sampling(seed=expected)
        scene.finish()


def test_an_earlier_answer_can_be_regenerated_without_losing_what_followed(scene: Scene) -> None:
    scene.turn("One?", "1")
    scene.turn("Two?", "2")
    first = scene.conversation.path[1].id
    scene.conversation.regenerate(first)
    scene.say("uno")
    scene.finish()
    assert scene.texts == ["One?", "uno"]
    scene.conversation.show_variant(scene.conversation.path[1].id, -1)
    assert scene.texts == ["One?", "1", "Two?", "2"]


def test_an_edited_question_begins_a_branch_with_its_pictures(scene: Scene, picture: StoredPicture) -> None:
    scene.conversation.ask("What is this?", [picture])
    scene.say("A cat.")
    scene.finish()
    scene.turn("Sure?", "Yes.")
    first = scene.conversation.path[0].id
    assert scene.conversation.edit(first, "What is that?")
    assert scene.engine.messages == [("user", "What is that?")]
    assert scene.engine.replies[-1][1][0].pictures == (picture.path,)
    scene.say("A dog.")
    scene.finish()
    assert scene.texts == ["What is that?", "A dog."]
    scene.conversation.show_variant(scene.conversation.path[0].id, -1)
    assert scene.texts == ["What is this?", "A cat.", "Sure?", "Yes."]


def test_an_edited_answer_is_stored_unchanged(scene: Scene) -> None:
    scene.turn("What is this?", "A cat.")
    asked = len(scene.engine.replies)
    scene.conversation.edit(scene.conversation.path[1].id, "A lynx.")
    assert len(scene.engine.replies) == asked
    scene.turn("Sure?", "Yes.")
    assert scene.engine.messages[1] == ("assistant", "A lynx.")


def test_while_an_answer_is_written_nothing_else_begins(scene: Scene) -> None:
    scene.conversation.ask("One?")
    answer = scene.conversation.path[-1].id
    assert scene.conversation.ask("Two?") is None
    assert not scene.conversation.regenerate()
    assert not scene.conversation.continue_answer()
    assert not scene.conversation.edit(answer, "x")
    assert not scene.conversation.show_variant(answer, 1)
    assert len(scene.engine.replies) == 1


def test_a_dead_engine_leaves_the_conversation_whole(scene: Scene) -> None:
    scene.turn("One?", "1")
    scene.conversation.ask("Two?")
    scene.say("tw")
    scene.conversation.handle(Failed(scene.engine.request, "It was killed."))
    scene.conversation.handle(Exited("It was killed.", "Close programs."))
    assert scene.kept[2:] == [("user", "Two?", "done"), ("assistant", "tw", "failed")]
    scene.turn("Three?", "3")
    assert ("assistant", "tw") in scene.engine.messages


def test_an_empty_failed_answer_is_not_sent_to_the_engine(scene: Scene) -> None:
    scene.conversation.ask("One?")
    scene.conversation.handle(Failed(scene.engine.request, "No."))
    scene.conversation.ask("Two?")
    assert scene.engine.messages == [("user", "One?"), ("user", "Two?")]


def test_the_system_prompt_comes_first(scene: Scene) -> None:
    scene.system_prompt = "Be brief."
    scene.conversation.ask("Hello?")
    assert scene.engine.messages == [("system", "Be brief."), ("user", "Hello?")]


def test_a_conversation_is_opened_where_it_was_left(scene: Scene) -> None:
    scene.turn("One?", "1")
    first = scene.conversation.info
    assert first is not None
    scene.conversation.new()
    assert scene.texts == []
    scene.turn("Other?", "o")
    scene.conversation.open(first.id)
    assert scene.texts == ["One?", "1"]
    assert len(scene.store.conversations(10)) == 2


def test_a_message_of_another_branch_can_be_landed_on(scene: Scene) -> None:
    scene.turn("One?", "1")
    first = scene.conversation.path[1].id
    scene.turn("Two?", "2")
    scene.conversation.regenerate(first)
    scene.finish()
    assert scene.conversation.info is not None
    old = scene.store.children(first)[0].id
    scene.conversation.open(scene.conversation.info.id, landing=old)
    assert scene.texts == ["One?", "1", "Two?", "2"]
    assert PathOpened(old) in scene.updates


def test_opening_another_conversation_stops_the_answer(scene: Scene) -> None:
    scene.conversation.ask("One?")
    scene.say("so f")
    before = scene.conversation.info
    scene.conversation.new()
    assert before is not None
    assert scene.store.path(before.id)[-1].state == "stopped"
    assert scene.store.path(before.id)[-1].text == "so f"


def test_a_conversation_keeps_its_own_settings(scene: Scene) -> None:
    scene.conversation.own_settings = {"temperature": 0.5}
    scene.conversation.ask("One?")
    assert scene.conversation.info is not None
    assert dict(scene.store.settings(scene.conversation.info.id)) == {"temperature": 0.5}


def test_counts_are_reported_and_those_of_other_requests_are_not(scene: Scene) -> None:
    scene.turn("One?", "1")
    scene.conversation.measure()
    scene.conversation.handle(ContextUsage("some other", 1, 1000, 0))
    scene.conversation.handle(ContextUsage(scene.engine.counted[-1], 500, 1000, 2))
    assert scene.updates[-1] == UsageChanged(500, 1000, 2)
    assert UsageChanged(1, 1000, 0) not in scene.updates


def test_events_of_an_earlier_request_change_nothing(scene: Scene, tmp_path: Path) -> None:
    scene.turn("One?", "1")
    before = list(scene.conversation.path)
    scene.conversation.handle(TextDelta("old", "x"))
    scene.conversation.handle(Phase("old", "decode"))
    scene.conversation.handle(Finished("old", "stop"))
    scene.conversation.handle(Failed("old", "x"))
    assert scene.conversation.path == before
