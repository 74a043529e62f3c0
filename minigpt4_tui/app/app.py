"""The Textual app: the state its screens share (store, settings, engine, conversation).

Neither a model library nor numpy is imported here, so that neither delays the first frame.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.signal import Signal

from minigpt4.core.errors import Minigpt4Error
from minigpt4.tui.app.base import BaseApp
from minigpt4.tui.app.engine_events import EngineEvents
from minigpt4.tui.conversation.conversation import Conversation, RequestOptions
from minigpt4.tui.conversation.engine_status import EngineStatus, options_from, own_temperature, sampling_from
from minigpt4.tui.conversation.updates import MessageAdded, MessageChanged, PathOpened, Update
from minigpt4.tui.history.store import Store, StoredPicture
from minigpt4.tui.images.attachments import Attachment
from minigpt4.tui.screens.chat import ChatScreen
from minigpt4.tui.settings.bindings import bindings_of, key_label
from minigpt4.tui.settings.keys import bindings
from minigpt4.tui.settings.settings import Loaded, Settings, entry, save_setting

if TYPE_CHECKING:
    from minigpt4.core.engine_options import EngineOptions
    from minigpt4.core.worker.client import Worker
    from minigpt4.core.worker.messages import Event, Failed, ObjectsFound

MODEL_FIELDS = tuple("bundle backend device quant gpu_layers threads context image_tokens repack".split())
GC_THRESHOLDS = (2_000, 10, 1_000)
"""With Python's defaults a full collection ran each second of an answer: keys waited up to 0.1 s."""

LOCK_S = 0.3
"""Seconds to wait for another process's lock on the store; then the write is retried later."""
DELETED_KEPT_S = 30 * 24 * 3600
"""Seconds for which a deleted conversation can be restored."""


class MiniGPT4App(BaseApp, inherit_bindings=False):
    """After the first frame `pictures` are attached and `conversation` (an id) is opened."""

    TITLE = "minigpt4"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [*bindings_of("app"), Binding("ctrl+c", "interrupt", show=False)]
    ENABLE_COMMAND_PALETTE = False  # ours lists the actions of our own table of keys

    def __init__(
        self,
        settings: Loaded,
        store: Store,
        make_worker: Callable[[Callable[[Event], None]], Worker],
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
        self._start_with = (tuple(pictures), conversation)
        self._vision = (projection, offload)
        self._keys = bindings(settings.settings.keys)
        self._make_worker = make_worker
        self._engine_events: EngineEvents | None = None
        self.conversation = Conversation(
            store, lambda: self.worker, options=self._request_options, on_update=self._on_conversation
        )
        self.conversations_changed: Signal[str] = Signal(self, "conversations_changed")
        self.conversation_opened: Signal[str] = Signal(self, "conversation_opened")
        self.settings_changed: Signal[str] = Signal(self, "settings_changed")
        self.objects_found: Signal[ObjectsFound | Failed] = Signal(self, "objects_found")
        self.engine_changed: Signal[EngineStatus] = Signal(self, "engine_changed")
        self._apply_motion()
        self.chat = ChatScreen(self, self._start_with[0], is_empty=conversation is None)
        self.begin_theme(self.settings.theme)

    @property
    def settings(self) -> Settings:
        """The settings in force, including the conversation's own."""
        return self._in_force.settings

    def get_default_screen(self) -> Screen[Any]:
        """The chat screen; all other screens are pushed over it."""
        return self.chat

    # Start and end

    def on_mount(self) -> None:
        """Paint the first frame before everything else."""
        self.set_keymap(self._keys.keymap())
        self.call_after_refresh(self.chat.after_photo, self._begin)

    async def _begin(self) -> None:
        self.is_begun = True
        self.add_styles(Path(__file__).with_name("later.tcss"))
        self.guarded(lambda: self.store.set_lock_timeout(LOCK_S))
        self.set_interval(0.5, lambda: self.guarded(self.conversation.tick, rarely=True))
        self._warn([*self.loaded.problems, *self._keys.clashes, self.store.notice])
        with self.batch_update():  # one frame for all: each takes 30 ms
            await self.chat.draw_sidebar()
            self.chat.restore_drafts(is_wanted=not any(self._start_with))
            if (conversation := self._start_with[1]) is not None:
                self.open_conversation(conversation)
            await self.chat.attach_first()
        self.follow_themes()
        self._load()
        if not gc.isenabled():
            gc.freeze()  # all objects up to here stay alive
            gc.set_threshold(*GC_THRESHOLDS)
            gc.enable()

    def _load(self) -> None:
        """Start the engine and other work that keeps the processor busy."""
        if self.engine.state == "off":
            self.restart_engine()
        self.in_background(self.store.recover, self._recovered)
        self.in_background(self._preload, self._warn)

    def _preload(self) -> list[str]:
        """Import in advance what the first answer needs; returns the problems of named prompts."""
        importlib.import_module("minigpt4.tui.widgets.answer")
        own_temperature(self.settings.bundle)
        from minigpt4.tui.conversation.slash_commands import prompt_problems

        return prompt_problems()

    def _warn(self, sentences: Iterable[str | None]) -> None:
        for sentence in filter(None, sentences):
            self.say(sentence, "warning")

    def _recovered(self, count: int) -> None:
        if count:
            self.conversations_changed.publish("")
            if self.conversation.info is not None and self.conversation.answering is None:
                self.open_conversation(self.conversation.info.id)
        self.in_background(lambda: self.store.purge_deleted(DELETED_KEPT_S), lambda _: None)

    def close_down(self) -> None:
        """Save the answer being generated and end the engine; may be called twice."""
        try:
            self.chat.save_drafts(is_last=True)
            with suppress(Minigpt4Error):
                self.conversation.close()
        finally:
            self.worker.stop()

    # The conversation

    def new_conversation(self) -> None:
        """Start an empty conversation; the current one stays in the list."""
        self.guarded(self.conversation.new)
        self.chat.composer.focus()

    def open_conversation(self, conversation: str, message: str | None = None) -> None:
        """Open a stored conversation, scrolled to a message if one is given."""
        self.guarded(lambda: self.conversation.open(conversation, landing=message))
        if message is None:
            self.chat.composer.focus()

    def attach(self, sources: Iterable[Attachment | Path | StoredPicture]) -> None:
        """Add pictures to the next question, see `ChatDraft.attach`."""
        self.chat.attach(sources)

    def on_paste(self, event: events.Paste) -> None:
        """Pass a paste that no other widget took to the composer: pictures anywhere, text in the chat."""
        if self._pastes_into_line:
            return
        if self.screen is self.chat:
            self.chat.composer.focus()
            self.chat.paste_text(event.text)
        elif self.chat.attach_text(event.text):
            self.say(self.chat.ADDED)

    def _on_conversation(self, update: Update) -> None:
        self.chat.show_update(update)
        current = self.conversation.info.id if self.conversation.info is not None else ""
        match update:
            case PathOpened():
                self._in_force = self.loaded.for_conversation(self.conversation.own_settings)
                self.conversation_opened.publish(current)
            case MessageAdded(message) if message.role == "user":
                self.conversations_changed.publish(current)
            case MessageChanged(message) if message.state != "writing":
                self.conversations_changed.publish(current)

    def _request_options(self) -> RequestOptions:
        settings = self.settings
        return RequestOptions(
            sampling=sampling_from(settings),
            own_temperature=lambda: own_temperature(settings.bundle),
            system_prompt=settings.system_prompt or "",
            bundle=settings.bundle,
            context=self.engine.context,
        )

    # The engine

    @cached_property
    def worker(self) -> Worker:
        """The engine's process, created on first use, which is after the first frame."""
        return self._make_worker(self._on_engine_event)

    def _on_engine_event(self, event: Event) -> None:
        """Called on the thread that reads the worker's pipe, with one event at a time."""
        if self._engine_events is None or not self._engine_events.add(event):
            self._engine_events = EngineEvents(event)
            self.post_message(self._engine_events)

    @on(EngineEvents)
    def _handle_engine_events(self, events: EngineEvents) -> None:
        from minigpt4.core.worker.messages import Failed, Notice, ObjectsFound, Ready

        for event in events.take():
            after = self.engine.after(event)
            if after is not self.engine:
                self._set_engine(after)
            if isinstance(event, Notice):
                self.say(event.sentence)
            elif isinstance(event, Ready):
                self.guarded(self.conversation.measure)
            elif isinstance(event, ObjectsFound | Failed):
                self.objects_found.publish(event)
            self.guarded(lambda event=event: self.conversation.handle(event), rarely=True)  # type: ignore[misc]

    def switch_model(self, options: EngineOptions, *, here: bool = False, keep: bool = True) -> None:
        """Load another model and stop the answer being generated; with `keep`, save it in the settings."""
        if self._engine_events is not None:
            # They come from the previous process and must not be attributed to the new one.
            self._handle_engine_events(self._engine_events)
        self.guarded(self.conversation.stop)
        for name in MODEL_FIELDS:
            value = getattr(options, name)
            if keep and value != getattr(self.settings, name):
                self.guarded(lambda name=name, value=value: self._keep_setting(name, value, here=here))  # type: ignore[misc]
        self._set_engine(EngineStatus.loading(options))
        self.worker.load(options)

    def restart_engine(self) -> None:
        """Reload the model of the settings."""
        self.switch_model(options_from(self.settings, *self._vision))

    def ready_engine(self) -> bool:
        """Load the model of the settings if another is loaded; False if the engine's process has exited."""
        options = options_from(self.settings, *self._vision)
        if self.engine.options != options:
            self.switch_model(options, keep=False)
        if self.engine.state == "dead":
            self.say(f"The model is not running; {self.key('restart_engine')} starts it again.", "warning")
            return False
        return True

    def _set_engine(self, status: EngineStatus) -> None:
        self.engine = status
        if self.chat.is_mounted and self.chat.is_running:
            self.chat.show_engine(status)
        self.engine_changed.publish(status)

    # Settings

    def change_setting(self, key: str, value: Any, *, here: bool = False) -> None:
        """Change a setting permanently, or (`here`) for this conversation only; None resets it.

        Raises Minigpt4Error if it cannot be saved.
        """
        self._keep_setting(key, value, here=here)
        name = key.partition(".")[0]
        if name == "theme":
            self.use_theme(self.settings.theme)
        elif name == "reduced_motion":
            self._apply_motion()
        elif name == "keys":
            self._keys = bindings(self.settings.keys)
            self.set_keymap(self._keys.keymap())
        elif name == "sidebar":
            self.chat.call_later(self.chat.draw_sidebar)
        elif name in MODEL_FIELDS:
            self.restart_engine()
        elif name == "system_prompt":
            self.guarded(self.conversation.measure)
        self.settings_changed.publish(key)

    def _keep_setting(self, key: str, value: Any, *, here: bool) -> None:
        if here:
            own = {**self.conversation.own_settings, key: value}
            if value is None:
                del own[key]
            if self.conversation.info is not None:
                self.store.set_settings(self.conversation.info.id, own)
            self.conversation.own_settings = own
        else:
            save_setting(key, value)
            name, _, action = key.partition(".")
            if action:
                keys: Mapping[str, Any] = {**self.loaded.settings.keys, action: value or ()}
                value = {had: given for had, given in keys.items() if had != action or value is not None}
            self.loaded = self.loaded.with_value(name, entry(name).default if value is None else value)
        self._in_force = self.loaded.for_conversation(self.conversation.own_settings)

    def _apply_motion(self) -> None:
        still = self.settings.reduced_motion
        self.animation_level = "none" if still else "full"
        self.set_class(still, "-still")

    # Keys

    @property
    def keys_by_action(self) -> Mapping[str, tuple[str, ...]]:
        """The keys in force by Textual's names."""
        return self._keys.keys

    def keys_of(self, action: str) -> tuple[str, ...]:
        """The keys of an action by Textual's names."""
        return self._keys.keys.get(action, ())

    def key(self, action: str) -> str:
        """The label of an action's first key."""
        keys = self.keys_of(action)
        return key_label(keys[0]) if keys else f"(no key for {action})"

    # Screens: pushed over the chat from anywhere, each at most once

    def back_to_chat(self) -> None:
        """Close all screens over the chat, as Escape would."""
        self._close_down_to(self.screen_stack[0])

    def action_interrupt(self) -> None:
        """Handle Ctrl+C without a selection."""
        if self.screen is self.chat:
            self.chat.action_interrupt()

    def action_new_conversation(self) -> None:
        """Start a new conversation from any screen."""
        self.back_to_chat()
        self.new_conversation()

    def action_search(self) -> None:
        """Search all conversations."""
        from minigpt4.tui.screens.search import SearchScreen

        self._show(SearchScreen)

    def action_help(self) -> None:
        """Show all keys."""
        from minigpt4.tui.screens.help import HelpScreen

        self._show(HelpScreen)

    def action_models(self) -> None:
        """Show all bundles."""
        from minigpt4.tui.screens.models import ModelsScreen

        self._show(ModelsScreen)

    def action_settings(self) -> None:
        """Show all settings."""
        from minigpt4.tui.screens.settings import SettingsScreen

        self._show(SettingsScreen)

    def action_themes(self) -> None:
        """Show all themes."""
        from minigpt4.tui.screens.themes import ThemesScreen

        self._show(ThemesScreen)

    def action_palette(self) -> None:
        """Show all commands, by name."""
        from minigpt4.tui.screens.palette import PaletteScreen

        self._show(PaletteScreen)

    def _show(self, kind: type[Screen[Any]]) -> None:
        """Push a screen, or return to it if it is below others; an open palette is closed."""
        from minigpt4.tui.screens.palette import PaletteScreen

        if isinstance(self.screen, PaletteScreen) and kind is not PaletteScreen:
            self.screen.dismiss(None)
        for screen in self.screen_stack:
            if isinstance(screen, kind):
                self._close_down_to(screen)
                return
        self.push_screen(kind())

    def _close_down_to(self, below: Screen[object]) -> None:
        while self.screen is not below:
            self.screen.dismiss(None)
