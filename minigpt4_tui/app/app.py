"""The Textual app: what its screens share (store, settings, engine, conversation), and nothing drawn.

No model library is imported here, nor numpy: the first picture of the screen waits for neither.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.signal import Signal

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.app.navigation import LayeredApp
from minigpt4.tui.conversation.conversation import Options, Talk
from minigpt4.tui.conversation.engine_client import EngineLink, MakeProcess
from minigpt4.tui.conversation.engine_status import Dice, EngineStatus, choice_from, own_temperature
from minigpt4.tui.conversation.updates import Added, Change, Changed, Opened
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.images.attachments import Attachment
from minigpt4.tui.screens import plug
from minigpt4.tui.screens.chat import ChatScreen
from minigpt4.tui.settings.bindings import bindings_of, key_label
from minigpt4.tui.settings.keys import bindings
from minigpt4.tui.settings.settings import Loaded, Settings, entry, save_setting

if TYPE_CHECKING:
    from textual.command import Provider

    from minigpt4.core.worker.messages import EngineChoice

MODEL_FIELDS = ("bundle", "backend", "device", "quant", "gpu_layers", "threads", "context")
GARBAGE = (2_000, 10, 1_000)
"""Python's defaults look through everything each second while an answer comes: keys waited up to 0.1 s."""

LOCK_S = 0.3
"""Longest wait of the screen for another program's lock on the store; afterwards it is tried again."""

DELETED_KEPT_S = 30 * 24 * 3600
"""Seconds for which a deleted conversation can be brought back."""


class MiniGPT4App(LayeredApp, inherit_bindings=False):
    """`pictures` wait in the composer, `conversation` is opened, once the screen has been painted."""

    TITLE = "minigpt4"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("app"), Binding("ctrl+c", "interrupt", show=False)]
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {lambda: _palette()}
    ENABLE_COMMAND_PALETTE = False  # the binding comes from our own table of keys

    @dataclass
    class EngineSpoke(Message):
        """Events of the engine's process wait."""

    def __init__(
        self,
        settings: Loaded,
        store: Store,
        worker_factory: MakeProcess,
        pictures: Iterable[Attachment | Path] = (),
        conversation: str | None = None,
        *,
        projection: Path | None = None,
        offload: bool = False,
    ) -> None:
        super().__init__()
        self.loaded = settings
        self.store = store
        self.engine = EngineStatus()
        self.is_begun = False
        self._in_force = settings
        self._given = (tuple(pictures), conversation)
        self._vision = (projection, offload)
        self._keys = bindings(settings.settings.keys)
        self.link = EngineLink(worker_factory, self._wake)
        self.talk = Talk(store, self.link, options=self._options, told=self._told)
        self.conversations_changed: Signal[str] = Signal(self, "conversations_changed")
        self.conversation_opened: Signal[str] = Signal(self, "conversation_opened")
        self.settings_changed: Signal[str] = Signal(self, "settings_changed")
        self.engine_changed: Signal[EngineStatus] = Signal(self, "engine_changed")
        self._still()
        self.chat = ChatScreen(self)
        self.begin_theme(self.settings.theme)

    @property
    def settings(self) -> Settings:
        """The settings in force, the conversation's own among them."""
        return self._in_force.settings

    def get_default_screen(self) -> Screen[Any]:
        """The conversation; all other screens lie over it."""
        return self.chat

    # Beginning and end

    def on_mount(self) -> None:
        """Paint first; all else follows."""
        self.set_keymap(self._keys.keymap())
        self.call_after_refresh(self._begin)

    async def _begin(self) -> None:
        self.is_begun = True
        self.guarded(lambda: self.store.set_lock_timeout(LOCK_S))
        if self.engine.state == "off":
            self.restart_engine()
        self.set_interval(0.5, lambda: self.guarded(self.talk.tick, rarely=True))
        for problem in (*self.loaded.problems, *self._keys.clashes, self.store.notice):
            if problem:
                self.say(problem, "warning")
        await self.chat.draw_sidebar()
        pictures, conversation = self._given
        if conversation is not None:
            self.open_conversation(conversation)
        self.attach(pictures)
        self.follow_themes()
        self.in_background(self.store.recover, self._recovered)
        self.in_background(self._foresee, lambda _: None)
        if not gc.isenabled():
            # What has been built up to here stays: it need not be looked through again and again.
            gc.freeze()
            gc.set_threshold(*GARBAGE)
            gc.enable()

    def _foresee(self) -> None:
        """Import what the first answer needs, so that it need not wait for that."""
        importlib.import_module("minigpt4.tui.widgets.answer")
        own_temperature(self.settings.bundle)

    def _recovered(self, count: int) -> None:
        if count:
            self.conversations_changed.publish("")
            if self.talk.conversation is not None and self.talk.answering is None:
                self.open_conversation(self.talk.conversation.id)
        self.in_background(lambda: self.store.purge_deleted(DELETED_KEPT_S), lambda _: None)

    def close_down(self) -> None:
        """Write down what is being said and end the engine; may be called twice."""
        try:
            with suppress(Minigpt4Error):
                self.talk.close()
        finally:
            self.link.stop()

    # The conversation

    def new_conversation(self) -> None:
        """An empty one; what was said stays in the list."""
        self.guarded(self.talk.new)
        self.chat.composer.focus()

    def open_conversation(self, conversation: str, message: str | None = None) -> None:
        """Show a stored one, landing on a message where one is given."""
        self.guarded(lambda: self.talk.open(conversation, landing=message))
        if message is None:
            self.chat.composer.focus()

    def open_neighbour(self, step: int) -> None:
        """Open the conversation below (1) or above (-1) this one in the list."""
        listed = [info.id for info in self.store.list(1000)]
        current = self.talk.conversation
        place = listed.index(current.id) + step if current is not None and current.id in listed else 0
        if 0 <= place < len(listed):
            self.open_conversation(listed[place])

    def attach(self, sources: Iterable[Attachment | Path | StoredPicture]) -> None:
        """Open pictures, store them, and show them as chips; a file that is none gives an error."""
        for source in sources:
            if isinstance(source, StoredPicture):
                self.chat.show_pictures([source])
            else:
                self.in_background(lambda source=source: self._keep(source), self._kept)  # type: ignore[misc]

    def _keep(self, source: Attachment | Path) -> tuple[StoredPicture, tuple[str, ...]]:
        """On another thread: read, hash, decode and store a picture, each once."""
        from minigpt4.tui.images.preview import remember

        one = Attachment(source, str(source)) if isinstance(source, Path) else source
        picture = one.open()
        stored = self.store.keep_picture(picture, one.name)
        remember(stored.path, picture, self.settings.bundle)
        return stored, picture.info.notices

    def _kept(self, kept: tuple[StoredPicture, tuple[str, ...]]) -> None:
        self.chat.show_pictures([kept[0]])
        for notice in kept[1]:
            self.say(notice, "warning")

    def _told(self, change: Change) -> None:
        self.chat.post_message(ChatScreen.Happened(change))
        current = self.talk.conversation.id if self.talk.conversation is not None else ""
        match change:
            case Opened():
                self._in_force = self.loaded.for_conversation(self.talk.own_settings)
                self.conversation_opened.publish(current)
            case Added(message) if message.role == "user":
                self.conversations_changed.publish(current)
            case Changed(message) if message.state != "writing":
                self.conversations_changed.publish(current)

    def _options(self) -> Options:
        settings = self.settings
        return Options(
            dice=Dice.of(settings),
            own_temperature=lambda: own_temperature(settings.bundle),
            system_prompt=settings.system_prompt or "",
            bundle=settings.bundle,
            context=self.engine.context,
        )

    # The engine

    def switch_model(self, choice: EngineChoice, *, here: bool = False, keep: bool = True) -> None:
        """Load another model, an answer being written stopped; with `keep` the settings remember it."""
        self.guarded(self.talk.stop)
        for name in MODEL_FIELDS:
            value = getattr(choice, name)
            if keep and value != getattr(self.settings, name):
                self.guarded(lambda name=name, value=value: self._keep_setting(name, value, here=here))  # type: ignore[misc]
        self._set_engine(EngineStatus.loading(choice))
        self.link.load(choice)

    def restart_engine(self) -> None:
        """Load what the settings name, again."""
        self.switch_model(choice_from(self.settings, projection=self._vision[0], offload=self._vision[1]))

    def ready_engine(self) -> bool:
        """Whether the model that the settings name runs or loads; one of another conversation is replaced."""
        choice = choice_from(self.settings, projection=self._vision[0], offload=self._vision[1])
        if self.engine.choice != choice:
            self.switch_model(choice, keep=False)
        if self.engine.state == "dead":
            self.say(f"The model is not running; {self.key('restart_engine')} starts it again.", "warning")
            return False
        return True

    @on(EngineSpoke)
    def _engine_spoke(self) -> None:
        """Take in what the engine said."""
        from minigpt4.core.worker.messages import Notice, Ready

        for event in self.link.fetch():
            after = self.engine.after(event)
            if after is not self.engine:
                self._set_engine(after)
            if isinstance(event, Notice):
                self.say(event.sentence)
            elif isinstance(event, Ready):
                self.guarded(self.talk.measure)
            self.guarded(lambda event=event: self.talk.handle(event), rarely=True)  # type: ignore[misc]

    def _wake(self) -> None:
        """Called on the engine's reader thread."""
        self.post_message(self.EngineSpoke())

    def _set_engine(self, status: EngineStatus) -> None:
        self.engine = status
        if self.chat.is_mounted:
            self.chat.show_engine(status)
        self.engine_changed.publish(status)

    # Settings

    def change_setting(self, key: str, value: Any, *, here: bool = False) -> None:
        """Change a setting for good, or (`here`) for this conversation alone; None takes it back.

        Raises Minigpt4Error where it cannot be.
        """
        self._keep_setting(key, value, here=here)
        name = key.partition(".")[0]
        if name == "theme":
            self.use_theme(self.settings.theme)
        elif name == "reduced_motion":
            self._still()
        elif name == "keys":
            self._keys = bindings(self.settings.keys)
            self.set_keymap(self._keys.keymap())
        elif name == "sidebar":
            self.chat.call_later(self.chat.draw_sidebar)
        elif name in MODEL_FIELDS:
            self.restart_engine()
        elif name == "system_prompt":
            self.guarded(self.talk.measure)
        self.settings_changed.publish(key)

    def _keep_setting(self, key: str, value: Any, *, here: bool) -> None:
        if here:
            own = {**self.talk.own_settings, key: value}
            if value is None:
                del own[key]
            if self.talk.conversation is not None:
                self.store.set_settings(self.talk.conversation.id, own)
            self.talk.own_settings = own
        else:
            save_setting(key, value)
            name, _, action = key.partition(".")
            if action:
                keys: Mapping[str, Any] = {**self.loaded.settings.keys, action: value or ()}
                value = {had: given for had, given in keys.items() if had != action or value is not None}
            self.loaded = self.loaded.with_value(name, entry(name).default if value is None else value)
        self._in_force = self.loaded.for_conversation(self.talk.own_settings)

    def _still(self) -> None:
        still = self.settings.reduced_motion
        self.animation_level = "none" if still else "full"
        self.set_class(still, "-still")

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A cursor that blinks is motion, too, in the line of any screen."""
        if isinstance(getattr(event.widget, "cursor_blink", None), bool):
            event.widget.cursor_blink = not self.settings.reduced_motion  # type: ignore[attr-defined]

    # Screens

    def keys_of(self, action: str) -> tuple[str, ...]:
        """The keys of an action, as Textual names them."""
        return self._keys.keys.get(action, ())

    def key(self, action: str) -> str:
        """The first key of an action, as people write it."""
        keys = self.keys_of(action)
        return key_label(keys[0]) if keys else f"(no key for {action})"

    def action_interrupt(self) -> None:
        """Ctrl+C where nothing is selected."""
        if self.screen is self.chat:
            self.chat.action_interrupt()

    def action_new_conversation(self) -> None:
        """Begin anew, whatever lies over the conversation."""
        self.back_to_chat()
        self.new_conversation()


def _palette() -> type[Provider]:
    kind: type[Provider] = plug("palette")
    return kind
