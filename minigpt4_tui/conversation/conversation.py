"""The state of one conversation: its messages, the answer being generated, and its engine. No widgets.

A `Conversation` stands between the store and the engine's child process. Every change is saved first
and then sent as an `Update`, so that the app may be killed at any moment. Everything here runs on one
thread, to which events of the child have to be passed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from minigpt4.tui.conversation.answering import REASONING, Answering, reasoning_of
from minigpt4.tui.conversation.autosave import Autosave
from minigpt4.tui.conversation.request import chat_messages, question_begun, varied
from minigpt4.tui.conversation.updates import (
    MessageAdded,
    MessageChanged,
    PathOpened,
    PhaseChanged,
    TextAdded,
    Update,
    UsageChanged,
)
from minigpt4.tui.history.store import ConversationInfo, Store, StoredMessage, StoredPicture

if TYPE_CHECKING:
    from minigpt4.core.types import Sampling
    from minigpt4.core.worker.client import Worker
    from minigpt4.core.worker.messages import ChatMessage, Event, Finished, TextDelta

FLUSH_S = 1.0
"""Maximum seconds of an answer that a killed process loses."""


class RequestOptions(NamedTuple):
    """The settings of a request; read anew for each."""

    sampling: Sampling

    own_temperature: Callable[[], float]
    """The bundle's own temperature, called only if the settings have none."""

    system_prompt: str = ""
    bundle: str = ""
    context: int = 0


class Conversation:
    """One conversation at a time; `info` is None until a new one has its first message."""

    def __init__(
        self,
        store: Store,
        engine: Callable[[], Worker],
        *,
        options: Callable[[], RequestOptions],
        on_update: Callable[[Update], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`engine` returns the worker; it is first called after the first frame."""
        self.store = store
        self.info: ConversationInfo | None = None
        self.path: list[StoredMessage] = []
        self.answering: Answering | None = None
        self.own_settings: dict[str, Any] = {}
        """The conversation's own settings; stored with it from its first message on."""
        self._options = options
        self._send = on_update
        self._engine = engine
        self._clock = clock
        self._autosave = Autosave(store, clock)
        self._stopped: dict[str, str] = {}  # the last stopped request and its message
        self._count_request = ""
        self._limits: dict[str, int | None] = {}
        """The maximum answer tokens of a question, by its id; None if its prompt has no limit."""

    # The displayed path

    def new(self) -> None:
        """Start an empty conversation; nothing is stored before its first message."""
        self.stop()
        self.info, self.path, self.own_settings = None, [], {}
        self._send(PathOpened())

    def open(self, conversation: str, *, landing: str | None = None) -> None:
        """Show a stored conversation, on the branch of the message `landing` if one is given."""
        self.stop()
        info = self.store.get(conversation)
        if landing is not None and all(one.id != landing for one in self.store.path(conversation)):
            self.store.set_leaf(conversation, self.store.newest_leaf(landing))
        self.info = info
        self.own_settings = dict(self.store.settings(conversation))
        self.path = self.store.path(conversation)
        self._send(PathOpened(landing))
        self.measure()

    def reload_info(self) -> None:
        """Read the conversation's title anew."""
        if self.info is not None:
            self.info = self.store.get(self.info.id)

    def message(self, message_id: str) -> StoredMessage | None:
        """The message with that id on the path."""
        return next((one for one in self.path if one.id == message_id), None)

    def with_current_text(self, message: StoredMessage) -> StoredMessage:
        """The message with its text up to now, if it is being generated."""
        answering = self.answering
        if answering is None or answering.message != message.id:
            return message
        return replace(message, text=answering.text, stats={**message.stats, **answering.stats})

    def last(self, role: Literal["user", "assistant"]) -> StoredMessage | None:
        """The last message of that role on the path."""
        return next((one for one in reversed(self.path) if one.role == role), None)

    def variants(self, message_id: str) -> tuple[int, int]:
        """The index of the message among its siblings, from 0, and their number."""
        siblings = [one.id for one in self.store.variants(message_id)]
        return siblings.index(message_id), len(siblings)

    # Actions of the user

    def ask(
        self, text: str, pictures: Sequence[StoredPicture] = (), max_tokens: int | None = None
    ) -> StoredMessage | None:
        """Add a question and request its answer; None while another answer is being generated.

        `max_tokens` limits every new answer to it, overriding the settings.
        """
        if self.answering is not None:
            return None
        question = self._add(self.path[-1].id if self.path else None, "user", text, pictures)
        self._limits[question.id] = max_tokens
        self._answer(question.id)
        return question

    def regenerate(self, message_id: str | None = None) -> bool:
        """Request another answer to the same question; the earlier one stays as a variant."""
        target = self.message(message_id) if message_id else (self.path[-1] if self.path else None)
        if self.answering is not None or target is None:
            return False
        question = target.id if target.role == "user" else target.parent
        if question is None:
            return False
        again = bool(self.store.children(question))
        self._cut(self._place(question) + 1)
        self._answer(question, again=again)
        return True

    def continue_answer(self) -> bool:
        """Continue the last answer from its end; an empty one is requested again."""
        last = self.path[-1] if self.path else None
        if self.answering is not None or last is None:
            return False
        if last.role == "user":
            self._answer(last.id)
        else:
            self._request(last)
        return True

    def edit(
        self,
        message_id: str,
        text: str,
        pictures: Sequence[StoredPicture] = (),
        max_tokens: int | None = None,
    ) -> bool:
        """Add the message with another text and more pictures, as a branch; a question is answered anew."""
        old = self.message(message_id)
        if self.answering is not None or old is None or self.info is None:
            return False
        self._cut(self._place(message_id))
        new = self._add(old.parent, old.role, text, [*old.pictures, *pictures])
        self._limits[new.id] = max_tokens
        if new.role == "user":
            self._answer(new.id)
        else:
            self.measure()
        return True

    def show_variant(self, message_id: str, step: int) -> bool:
        """Show the sibling `step` places further, with its newest descendants."""
        if self.answering is not None or self.info is None:
            return False
        siblings = [one.id for one in self.store.variants(message_id)]
        place = siblings.index(message_id) + step
        if not 0 <= place < len(siblings):
            return False
        chosen = siblings[place]
        self.store.set_leaf(self.info.id, self.store.newest_leaf(chosen))
        self.path = self.store.path(self.info.id)
        self._send(PathOpened(chosen))
        self.measure()
        return True

    def stop(self) -> bool:
        """Cancel the answer being generated; its text so far stays."""
        if self.answering is None:
            return False
        answering = self.answering
        self._engine().cancel(answering.request)
        self._stopped = {answering.request: answering.message}
        self._end("stopped", {"finish": "cancelled"})
        return True

    def measure(self) -> None:
        """Request the context usage of the conversation; `UsageChanged` follows."""
        if self.path and self.answering is None:
            self._count_request = uuid.uuid4().hex
            self._engine().count(self._count_request, self._messages())

    def prepare(self, pictures: Sequence[StoredPicture], editing: str | None = None) -> None:
        """Have the engine compute what comes before the text of a question that is being typed.

        `editing` is the id of a question on the path that it replaces, as in `edit`.
        """
        options = self._options()
        messages = question_begun(self.path, pictures, editing, options.system_prompt)
        self._engine().prepare(messages, options.sampling)

    # Events of the engine

    def handle(self, event: Event) -> None:
        """Handle one event of the child process; those of earlier requests are ignored."""
        from minigpt4.core.worker.messages import ContextUsage, Exited, Failed, Finished, Phase, TextDelta

        match event:
            case TextDelta(request):
                if answering := self._current(request):
                    self._add_text(answering, event)
            case Phase(request, phase):
                if answering := self._current(request):
                    answering.phase = phase
                    self._send(PhaseChanged(phase))
            case ContextUsage(request, positions, context, dropped):
                if request == self._count_request or self._current(request):
                    self._send(UsageChanged(positions, context, dropped))
            case Finished():
                self._finished(event)
            case Failed(request, sentence):
                if request is not None and self._current(request):
                    self._end("failed", {"problem": sentence})
            case Exited(sentence, _):
                if self.answering is not None:
                    self._end("failed", {"problem": sentence})

    def tick(self) -> None:
        """Save new text of the answer, and what is still unsaved; call it about once a second."""
        self._autosave.retry()
        answering = self.answering
        if answering is None or not answering.unflushed:
            return
        if self._clock() - answering.flushed_at >= FLUSH_S:
            answering.flushed_at = self._clock()
            self._autosave.save(answering.message, answering.text, "writing")
            answering.unflushed = False

    def close(self) -> None:
        """Save everything; an answer being generated is stopped."""
        try:
            self.stop()
        finally:
            self._autosave.retry(now=True)

    # Details

    def _add(
        self,
        parent: str | None,
        role: Literal["user", "assistant"],
        text: str,
        pictures: Sequence[StoredPicture] = (),
        state: Literal["done", "writing"] = "done",
        stats: Mapping[str, str] | None = None,
    ) -> StoredMessage:
        if self.info is None:
            self.info = self.store.new_conversation(self.own_settings)
        kept = tuple(pictures)
        message = self.store.add_message(self.info.id, parent, role, text, kept, state, stats)
        self.path.append(message)
        self._send(MessageAdded(message))
        return message

    def _answer(self, question: str, *, again: bool = False) -> None:
        stats = {"bundle": self._options().bundle}
        self._request(self._add(question, "assistant", "", state="writing", stats=stats), again=again)

    def _request(self, message: StoredMessage, *, again: bool = False) -> None:
        """Request (more of) the answer, which is the last message of the path."""
        sampling = self._options().sampling
        # The limit is not for an answer that is continued: it was too short.
        if (limit := self._limits.get(message.parent or "")) and not message.text:
            sampling = replace(sampling, max_tokens=limit)
        if again:
            own = sampling.temperature
            temperature = self._options().own_temperature() if own is None else own
            sampling = varied(sampling, temperature, self.variants(message.id)[1] - 1)
        request = uuid.uuid4().hex
        thought = reasoning_of(message.stats)
        stats = {"bundle": self._options().bundle, **thought}
        if message.state != "writing" or message.stats != stats:
            self.store.update_text(message.id, message.text, "writing", stats)
            self._autosave.discard(message.id)
        thinking = thought.get(REASONING, "")
        self.answering = Answering(request, message.id, message.text, self._clock(), thinking)
        self._send(MessageChanged(self._replace(message.id, state="writing", stats=stats)))
        self._send(PhaseChanged(self.answering.phase))
        self._engine().reply(request, self._messages(), sampling)

    def _add_text(self, answering: Answering, delta: TextDelta) -> None:
        answering.add(delta)
        timings = delta.first_token_s, delta.tokens_per_s
        self._send(TextAdded(answering.message, delta.text, *timings, delta.is_reasoning))
        self.tick()

    def _finished(self, event: Finished) -> None:
        stats = _stats(event, self._options().bundle)
        if self._current(event.request):
            self._end("stopped" if event.finish == "cancelled" else "done", stats)
        elif event.request in self._stopped:
            # It was stopped here before the child read the cancel; only now is its speed known.
            message = self.message(self._stopped.pop(event.request))
            if message is not None and message.state == "stopped":
                stats |= reasoning_of(message.stats)
                self._autosave.save(message.id, message.text, "stopped", stats)
                self._send(MessageChanged(self._replace(message.id, stats=stats)))
        else:
            return
        context = self._options().context
        if context:
            self._send(UsageChanged(event.prompt_tokens + event.answer_tokens, context, 0))

    def _end(self, state: Literal["done", "stopped", "failed"], stats: Mapping[str, Any]) -> None:
        answering, self.answering = self.answering, None
        if answering is None:
            return
        stats = {"bundle": self._options().bundle, **answering.stats, **stats}
        changed = self._replace(answering.message, text=answering.text, state=state, stats=stats)
        try:
            self._autosave.save(answering.message, answering.text, state, stats)
        finally:
            self._send(MessageChanged(changed))
            self._send(PhaseChanged(None))

    def _current(self, request: str) -> Answering | None:
        answering = self.answering
        return answering if answering is not None and answering.request == request else None

    def _place(self, message_id: str) -> int:
        return next(at for at, one in enumerate(self.path) if one.id == message_id)

    def _replace(self, message_id: str, **changes: Any) -> StoredMessage:
        place = self._place(message_id)
        self.path[place] = replace(self.path[place], **changes)
        return self.path[place]

    def _cut(self, length: int) -> None:
        if length < len(self.path):
            self.path = self.path[:length]
            self._send(PathOpened())

    def _messages(self) -> list[ChatMessage]:
        return chat_messages(self.path, self._options().system_prompt)


def _stats(event: Finished, bundle: str) -> dict[str, float | int | str]:
    known = {**vars(event), "bundle": bundle}
    return {name: value for name, value in known.items() if name != "request" and value is not None}
