"""The command palette: every action that is possible now, with its keys; themes and bundles when typing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from textual import on
from textual.actions import parse
from textual.content import Content
from textual.fuzzy import FuzzySearch
from textual.widgets import Input
from textual.widgets.option_list import Option

from minigpt4.core.bundles.bundle import bundle_names
from minigpt4.themes import theme_names
from minigpt4.tui.conversation.engine_status import options_from
from minigpt4.tui.conversation.slash_commands import all_commands
from minigpt4.tui.screens.dialog import ListDialog
from minigpt4.tui.settings.bindings import key_label
from minigpt4.tui.settings.keys import ACTIONS, SCOPES
from minigpt4.tui.terminal.sanitize import sanitize_line
from minigpt4.tui.widgets.option_rows import OptionRows, TwoEnds

if TYPE_CHECKING:
    from textual.dom import DOMNode

    from minigpt4.tui.settings.keys import Action

EXCLUDED = "palette"
"""The action that opens the palette."""


@dataclass(frozen=True)
class Command:
    """A row of the palette; `keys` is a label, `note` says where the keys work."""

    name: str
    run: Callable[[], Awaitable[object] | object]
    keys: str = ""
    group: str = ""
    note: str = ""


class PaletteScreen(ListDialog[None]):
    """Commands, matched fuzzily by their descriptions; Enter closes the palette and runs the command.

    What has the focus below comes first: the actions of a message are listed while it has the focus.
    """

    HEADING = "Commands"
    HINT = "↑↓ choose · Enter does it"
    PLACEHOLDER = "What you want to do, a theme, or a model"

    def __init__(self) -> None:
        super().__init__()
        self._actions: list[Command] = []
        self._choices: list[Command] = []
        self._listed: list[Command | None] = []

    def on_mount(self) -> None:
        """Show the actions."""
        below = self.app.screen_stack[self.app.screen_stack.index(self) - 1]
        self._actions = [*self._reachable(below.focused or below), *self._slash_commands()]
        self._choices = [*self._themes(), *self._bundles()]
        self._list()

    @on(Input.Changed, "#query")
    def _list(self) -> None:
        typed = self.typed.strip()
        rows: list[Option] = []
        self._listed = []
        group = ""
        for command, name in _found(typed, [*self._actions, *self._choices]) if typed else self._all():
            if command.group != group and not typed:
                group = command.group
                rows.append(Option(Content.assemble("\n" if rows else "", (group, "bold")), disabled=True))
                self._listed.append(None)
            indented = name if typed else Content("  ") + name
            rows.append(Option(TwoEnds(indented, Content.styled(command.keys, "dim"))))
            self._listed.append(command)
        self.rows.fill(rows)
        if not rows:
            self.show_note("Nothing found.")

    def _all(self) -> Iterator[tuple[Command, Content]]:
        for command in self._actions:
            yield command, Content(command.name)

    @on(OptionRows.OptionHighlighted)
    def _highlighted(self, event: OptionRows.OptionHighlighted) -> None:
        command = self._listed[event.option_index]
        # Before anything is typed, the headings say it.
        self.show_note(command.note if command is not None and self.typed.strip() else "")

    @on(OptionRows.OptionSelected)
    def _chosen(self, event: OptionRows.OptionSelected) -> None:
        command = self._listed[event.option_index]
        if command is not None:
            self.dismiss(None)
            self.app.call_later(command.run)

    # What is possible

    def _reachable(self, focused: DOMNode) -> Iterator[Command]:
        """The actions whose keys work while `focused` has the focus, the nearest first."""
        nodes = list(focused.ancestors_with_self)
        host = self.host
        anywhere: tuple[DOMNode, ...] = (host.chat.composer, host.chat, host)
        nodes += [node for node in anywhere if node not in nodes]
        places: dict[str, tuple[int, DOMNode, str]] = {}
        for place, node in enumerate(nodes):
            for bindings in node._bindings.key_to_bindings.values():
                for binding in bindings:
                    if binding.id and binding.id != EXCLUDED and _is_possible(node, binding.action):
                        places.setdefault(binding.id, (place, node, binding.action))
            if node is host.chat.composer:  # handles its keys itself, before the text area does
                own = {one.id: (place, node, one.id) for one in ACTIONS if one.scope == "composer"}
                places = {**own, **places}
        # Sorted by place, the actions of one widget stay in the order of the table.
        listed = sorted(
            (places[action.id][0], at) for at, action in enumerate(ACTIONS) if action.id in places
        )
        for _, at in listed:
            action = ACTIONS[at]
            _, node, bound = places[action.id]
            keys = ", ".join(key_label(key) for key in host.keys_of(action.id)) or "no key"
            scope = SCOPES[action.scope]
            run = partial(self._run, action, node, bound)
            group = scope[0].upper() + scope[1:]
            yield Command(action.about, run, sanitize_line(keys), group, f"Works {scope}.")

    async def _run(self, action: Action, node: DOMNode, bound: str) -> None:
        if action.scope in ("chat", "composer"):
            self.host.back_to_chat()
        await self.host.run_action(bound, default_namespace=node)

    def _slash_commands(self) -> Iterator[Command]:
        """Slash commands that have no key and need no argument, named prompts included."""
        host, with_keys = self.host, {action.id for action in ACTIONS}
        for one in all_commands():
            if not one.takes_path and one.action not in with_keys:
                about = one.about[:1].upper() + one.about[1:]
                act = partial(host.chat.run_action, one.action)
                submit = partial(host.chat.composer.submit, one.name)
                run = partial(self._in_chat, act if one.action else submit)
                yield Command(about, run, one.name, "Typed as a question", "Works in a conversation.")

    def _in_chat(self, run: Callable[[], object]) -> object:
        self.host.back_to_chat()
        return run()

    def _themes(self) -> Iterator[Command]:
        host = self.host
        for name in theme_names():
            change = partial(host.change_setting, "theme", name)
            yield Command(f"Theme: {sanitize_line(name)}", partial(host.guarded, change))

    def _bundles(self) -> Iterator[Command]:
        host = self.host
        for name in bundle_names():
            options = replace(options_from(host.settings), bundle=name, quant="auto")
            yield Command(f"Model: {sanitize_line(name)}", partial(host.switch_model, options))


def _is_possible(node: DOMNode, action: str) -> bool:
    _, name, parameters = parse(action)
    return bool(node.check_action(name, parameters))


def _found(typed: str, commands: list[Command]) -> list[tuple[Command, Content]]:
    """The commands that match, the best first, with the matching letters underlined."""
    search = FuzzySearch()
    found = []
    for command in commands:
        score, places = search.match(typed, command.name)
        if score > 0:
            name = Content(command.name)
            for place in places:
                name = name.stylize("underline", place, place + 1)
            found.append((score, command, name))
    found.sort(key=lambda one: -one[0])
    return [(command, name) for _, command, name in found]
