"""The state of one conversation: what is shown, what is being said, and what becomes of it. No widgets.

A `Talk` stands between the store and the engine's child process. Everything that happens is
written down first and told afterwards, as one of the `Change`s, so that whoever draws it may be
killed at any moment. All of it runs on one thread: events of the child are to be carried there.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from minigpt4.tui.conversation.autosave import Keeper
from minigpt4.tui.conversation.engine_status import Dice
from minigpt4.tui.conversation.updates import Added, Change, Changed, Grew, Measured, Opened, Phased
from minigpt4.tui.history.store import ConversationInfo, Store, StoredMessage, StoredPicture

if TYPE_CHECKING:
    from minigpt4.core.worker.messages import Event, Finished, Said, WireMessage

FLUSH_S = 1.0
"""Most seconds of an answer that a killed process may lose."""

UNEQUAL_TEMPERATURE = 0.7
"""Put in place of temperature 0 where another answer is asked for: without dice it would be the same."""


class Answers(Protocol):
    """The part of a Worker that a conversation needs."""

    def reply(self, request: str, messages: Sequence[WireMessage], dice: Dice) -> None:
        """Begin an answer."""
        ...

    def cancel(self, request: str) -> None:
        """End it."""
        ...

    def count(self, request: str, messages: Sequence[WireMessage]) -> None:
        """Ask how much room the messages take."""
        ...


@dataclass
class Answering:
    """The answer being written. `text` is all of it, what was there before it was continued included."""

    request: str
    message: str
    text: str
    flushed_at: float
    unflushed: bool = False
    phase: str = "thinking"


@dataclass(frozen=True)
class Options:
    """What a question is asked with; read anew for each."""

    dice: Dice

    own_temperature: Callable[[], float]
    """The bundle's own temperature, asked for only where nothing was set."""

    system_prompt: str = ""
    bundle: str = ""
    context: int = 0


class Talk:
    """One conversation at a time; `conversation` is None until something is said in a new one."""

    def __init__(
        self,
        store: Store,
        engine: Answers,
        *,
        options: Callable[[], Options],
        told: Callable[[Change], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self.engine = engine
        self.conversation: ConversationInfo | None = None
        self.path: list[StoredMessage] = []
        self.answering: Answering | None = None
        self.own_settings: dict[str, Any] = {}
        """What this conversation has settings of its own for; kept with it from its first message on."""
        self._options = options
        self._tell = told
        self._clock = clock
        self._keeper = Keeper(store, clock)
        self._stopped: dict[str, str] = {}
        self._counting = ""

    # What is on the screen

    def new(self) -> None:
        """An empty conversation; nothing is stored before something is said."""
        self.stop()
        self.conversation, self.path, self.own_settings = None, [], {}
        self._tell(Opened())

    def open(self, conversation: str, *, landing: str | None = None) -> None:
        """Show a stored conversation, on the branch of the message `landing` where one is given."""
        self.stop()
        info = self.store.get(conversation)
        if landing is not None and all(one.id != landing for one in self.store.path(conversation)):
            self.store.set_leaf(conversation, self.store.newest_leaf(landing))
        self.conversation = info
        self.own_settings = dict(self.store.settings(conversation))
        self.path = self.store.path(conversation)
        self._tell(Opened(landing))
        self.measure()

    def look_again(self) -> None:
        """Take in the title that the conversation has by now."""
        if self.conversation is not None:
            self.conversation = self.store.get(self.conversation.id)

    def message(self, message_id: str) -> StoredMessage | None:
        """The message of that id on the path."""
        return next((one for one in self.path if one.id == message_id), None)

    def as_it_stands(self, message: StoredMessage) -> StoredMessage:
        """The message with what has been said of it up to now."""
        answering = self.answering
        if answering is None or answering.message != message.id:
            return message
        return replace(message, text=answering.text)

    def last(self, role: Literal["user", "assistant"]) -> StoredMessage | None:
        """The last message of that role on the path."""
        return next((one for one in reversed(self.path) if one.role == role), None)

    def variants(self, message_id: str) -> tuple[int, int]:
        """Which of its siblings the message is, from 0, and how many there are."""
        siblings = [one.id for one in self.store.variants(message_id)]
        return (siblings.index(message_id), len(siblings)) if message_id in siblings else (0, 1)

    # What a person does

    def ask(self, text: str, pictures: Sequence[StoredPicture] = ()) -> StoredMessage | None:
        """Say something and begin the answer; None while another answer is being written."""
        if self.answering is not None:
            return None
        question = self._add(self._leaf, "user", text, pictures)
        self._answer(question.id)
        return question

    def regenerate(self, message_id: str | None = None) -> bool:
        """Another answer to the same question; the one before stays as its variant."""
        target = self.message(message_id) if message_id else (self.path[-1] if self.path else None)
        if self.answering is not None or target is None:
            return False
        question = target.id if target.role == "user" else target.parent
        if question is None:
            return False
        again = bool(self.store.children(question))
        self._cut_after(question)
        self._answer(question, again=again)
        return True

    def continue_answer(self) -> bool:
        """Let the last answer go on from its end; one that said nothing is begun again."""
        last = self.path[-1] if self.path else None
        if self.answering is not None or last is None:
            return False
        if last.role == "user":
            self._answer(last.id)
            return True
        self._begin(last)
        return True

    def edit(self, message_id: str, text: str) -> bool:
        """The message again with another text, as a branch; a question is answered anew."""
        old = self.message(message_id)
        if self.answering is not None or old is None or self.conversation is None:
            return False
        self._cut_before(message_id)
        new = self._add(old.parent, old.role, text, old.pictures)
        if new.role == "user":
            self._answer(new.id)
        else:
            self.measure()
        return True

    def show_variant(self, message_id: str, step: int) -> bool:
        """Show the sibling `step` places on, with the newest that follows it."""
        if self.answering is not None or self.conversation is None:
            return False
        siblings = self.store.variants(message_id)
        place = next((at for at, one in enumerate(siblings) if one.id == message_id), -1) + step
        if not 0 <= place < len(siblings):
            return False
        chosen = siblings[place].id
        self.store.set_leaf(self.conversation.id, self.store.newest_leaf(chosen))
        self.path = self.store.path(self.conversation.id)
        self._tell(Opened(chosen))
        self.measure()
        return True

    def stop(self) -> bool:
        """End the answer being written; what was said stays."""
        if self.answering is None:
            return False
        answering = self.answering
        self.engine.cancel(answering.request)
        self._stopped = {answering.request: answering.message}
        self._end("stopped", {"finish": "cancelled"})
        return True

    def measure(self) -> None:
        """Ask how much of the context the conversation fills; `Measured` tells."""
        if self.path and self.answering is None:
            self._counting = uuid.uuid4().hex
            self.engine.count(self._counting, self._wire())

    # What the engine says

    def handle(self, event: Event) -> None:
        """Take in one event of the child process; those of a request long gone are passed over."""
        from minigpt4.core.worker.messages import Counted, Died, Failed, Finished, Phase, Said

        match event:
            case Said(request):
                if answering := self._current(request):
                    self._grow(answering, event)
            case Phase(request, phase):
                if answering := self._current(request):
                    answering.phase = phase
                    self._tell(Phased(phase))
            case Counted(request, positions, context, dropped):
                if request == self._counting or self._current(request):
                    self._tell(Measured(positions, context, dropped))
            case Finished():
                self._finished(event)
            case Failed(request, sentence):
                if request is not None and self._current(request):
                    self._end("failed", {"problem": sentence})
            case Died(sentence, _):
                if self.answering is not None:
                    self._end("failed", {"problem": sentence})

    def tick(self) -> None:
        """To be called about once a second: writes down what an answer has said since, and what is owed."""
        self._keeper.retry()
        answering = self.answering
        if answering is None or not answering.unflushed:
            return
        if self._clock() - answering.flushed_at >= FLUSH_S:
            answering.flushed_at = self._clock()
            self._keeper.keep(answering.message, answering.text, "writing")
            answering.unflushed = False

    def close(self) -> None:
        """Write down what there is; the answer being written becomes one that was stopped."""
        try:
            self.stop()
        finally:
            self._keeper.retry(now=True)

    # How it is done

    @property
    def _leaf(self) -> str | None:
        return self.path[-1].id if self.path else None

    def _add(
        self,
        parent: str | None,
        role: Literal["user", "assistant"],
        text: str,
        pictures: Sequence[StoredPicture] = (),
        state: Literal["done", "writing"] = "done",
        stats: Mapping[str, str] | None = None,
    ) -> StoredMessage:
        if self.conversation is None:
            self.conversation = self.store.new_conversation(self.own_settings)
        kept = tuple(pictures)
        message = self.store.add_message(self.conversation.id, parent, role, text, kept, state, stats)
        self.path.append(message)
        self._tell(Added(message))
        return message

    def _answer(self, question: str, *, again: bool = False) -> None:
        stats = {"bundle": self._options().bundle}
        self._begin(self._add(question, "assistant", "", state="writing", stats=stats), again=again)

    def _begin(self, message: StoredMessage, *, again: bool = False) -> None:
        """Ask the engine for (more of) the answer, which is the last message of the path."""
        dice = self._options().dice
        if again:
            dice = self._unequal(dice, self.variants(message.id)[1])
        request = uuid.uuid4().hex
        stats = {"bundle": self._options().bundle}
        if message.state != "writing" or message.stats != stats:
            self.store.update_text(message.id, message.text, "writing", stats)
            self._keeper.forget(message.id)
        self.answering = Answering(request, message.id, message.text, self._clock())
        self._tell(Changed(self._replace(message.id, state="writing", stats=stats)))
        self._tell(Phased(self.answering.phase))
        self.engine.reply(request, self._wire(), dice)

    def _unequal(self, dice: Dice, variants: int) -> Dice:
        """So that another answer may be another: with a temperature, and with a seed of its own."""
        temperature = self._options().own_temperature() if dice.temperature is None else dice.temperature
        if temperature == 0:
            dice = replace(dice, temperature=UNEQUAL_TEMPERATURE)
        return dice if dice.seed is None else replace(dice, seed=dice.seed + variants - 1)

    def _grow(self, answering: Answering, said: Said) -> None:
        answering.text += said.text
        answering.unflushed = True
        self._tell(Grew(answering.message, said.text, said.first_token_s, said.tokens_per_s))
        self.tick()

    def _finished(self, event: Finished) -> None:
        stats = _stats(event, self._options().bundle)
        if self._current(event.request):
            self._end("stopped" if event.finish == "cancelled" else "done", stats)
        elif event.request in self._stopped:
            # It was stopped here before the child heard of it; now its speed is known, too.
            message = self.message(self._stopped.pop(event.request))
            if message is not None and message.state == "stopped":
                self._keeper.keep(message.id, message.text, "stopped", stats)
                self._tell(Changed(self._replace(message.id, stats=stats)))
        else:
            return
        context = self._options().context
        if context:
            self._tell(Measured(event.prompt_tokens + event.answer_tokens, context, 0))

    def _end(self, state: Literal["done", "stopped", "failed"], stats: Mapping[str, Any]) -> None:
        answering, self.answering = self.answering, None
        if answering is None:
            return
        stats = {"bundle": self._options().bundle, **stats}
        changed = self._replace(answering.message, text=answering.text, state=state, stats=stats)
        try:
            self._keeper.keep(answering.message, answering.text, state, stats)
        finally:
            self._tell(Changed(changed))
            self._tell(Phased(None))

    def _current(self, request: str) -> Answering | None:
        answering = self.answering
        return answering if answering is not None and answering.request == request else None

    def _replace(self, message_id: str, **changes: Any) -> StoredMessage:
        place = next(at for at in range(len(self.path) - 1, -1, -1) if self.path[at].id == message_id)
        self.path[place] = replace(self.path[place], **changes)
        return self.path[place]

    def _cut_after(self, message_id: str) -> None:
        self._cut(next(at for at, one in enumerate(self.path) if one.id == message_id) + 1)

    def _cut_before(self, message_id: str) -> None:
        self._cut(next(at for at, one in enumerate(self.path) if one.id == message_id))

    def _cut(self, length: int) -> None:
        if length < len(self.path):
            self.path = self.path[:length]
            self._tell(Opened())

    def _wire(self) -> list[WireMessage]:
        """The path as the engine takes it; answers that came to nothing are left out."""
        from minigpt4.core.worker.messages import WireMessage

        system = self._options().system_prompt
        messages = [WireMessage("system", system)] if system else []
        said = (message for message in self.path if message.role == "user" or message.text)
        return messages + [
            WireMessage(one.role, one.text, tuple(kept.path for kept in one.pictures)) for one in said
        ]


def _stats(event: Finished, bundle: str) -> dict[str, float | int | str]:
    known: dict[str, float | int | str | None] = {
        "finish": event.finish,
        "bundle": bundle,
        "answer_tokens": event.answer_tokens,
        "prompt_tokens": event.prompt_tokens,
        "tokens_per_s": event.tokens_per_s,
        "first_token_s": event.first_token_s,
    }
    return {name: value for name, value in known.items() if value is not None}
